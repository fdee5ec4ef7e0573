// The screens that are one list: clients, sessions, subscriptions.

import { api, segment } from './api.js';
import { ago, bytes, count, duration, fullTime } from './format.js';
import { confirm, field, h, outcome, run, table } from './ui.js';

const PAGE = 50;

/** The address of a client's own screen. */
export function clientLink(id) {
  return { name: id, href: `#/clients/${segment(id)}` };
}

/**
 * A list with filters and pages. The filters are kept in the address of the screen, so that it can be sent to somebody.
 * `filters`: `{ name, label, placeholder }`.
 */
export function list(root, { title, note, path, filters, columns, key, actions, empty, parameters }) {
  const result = outcome();
  const rows = table(title, columns, { key, actions: actions?.(result, () => refresh()), empty });
  const inputs = filters.map((f) => [f, field(f.label, { value: parameters.get(f.name) || '', placeholder: f.placeholder, type: 'search' })]);
  const back = h('button', { type: 'button', class: 'small' }, 'Back');
  const more = h('button', { type: 'button', class: 'small' }, 'More');
  const place = h('span', { class: 'place' });
  // The cursors of the pages before this one, and where each page began.
  const before = [];
  let first = 0;
  let shown = 0;
  let cursor = null;
  let next = null;
  let asked = 0;

  function wanted() {
    return Object.fromEntries(inputs.map(([f, i]) => [f.name, i.input.value]));
  }

  async function refresh() {
    const question = (asked += 1);
    const answer = await api(path, { parameters: { ...wanted(), limit: PAGE, cursor } });
    // An answer to what was typed before must not overwrite the one to what was typed since.
    if (question !== asked) return;
    next = answer.next ?? null;
    rows.update(answer.items);
    shown = answer.items.length;
    back.hidden = before.length === 0;
    more.hidden = next === null;
    // The broker looks at so much for one page; what fits may come later.
    place.textContent = shown ? `${count(first + 1)} to ${count(first + shown)}` : next === null ? '' : 'none so far';
  }

  const now = () => refresh().catch((error) => result.show(error.message, true));

  function filtered() {
    before.length = 0;
    first = 0;
    cursor = null;
    result.show('');
    const pairs = Object.entries(wanted()).filter(([, value]) => value !== '');
    const query = pairs.length ? '?' + new URLSearchParams(pairs) : '';
    history.replaceState(null, '', location.hash.split('?')[0] + query);
    now();
  }

  let timer;
  const form = h('form', { class: 'filters', role: 'search', onsubmit: (event) => { event.preventDefault(); filtered(); } },
    inputs.map(([, i]) => i.element));
  form.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(filtered, 250);
  });
  back.addEventListener('click', () => { [cursor, first] = before.pop(); now(); });
  more.addEventListener('click', () => {
    before.push([cursor, first]);
    first += shown;
    cursor = next;
    now();
  });

  root.append(
    h('h1', {}, title), note ? h('p', { class: 'note' }, note) : '',
    form, result.element,
    h('section', { class: 'panel' }, rows.element, h('div', { class: 'row pages' }, back, place, more)));
  back.hidden = more.hidden = true;
  return { title, refresh, close: () => clearTimeout(timer) };
}

/** A button that disconnects a client after a question. */
export async function kick(id, button, result) {
  if (!(await confirm('Disconnect this client?', 'Disconnect', id))) return false;
  let done = false;
  await run(button, result, async () => {
    await api(`clients/${segment(id)}`, { method: 'DELETE' });
    done = true;
    return 'Disconnected. A client that connects again by itself may be back already.';
  });
  return done;
}

/** A button that deletes a session after a question. */
export async function endSession(id, button, result) {
  const question = 'Delete this session, with its subscriptions and all messages that wait in it?';
  if (!(await confirm(question, 'Delete', id))) return false;
  let done = false;
  await run(button, result, async () => {
    await api(`sessions/${segment(id)}`, { method: 'DELETE' });
    done = true;
    return 'Deleted.';
  });
  return done;
}

export function clients(root, _rest, parameters) {
  return list(root, {
    title: 'Clients', path: 'clients', parameters, key: (row) => row.client_id, empty: 'No client like that is connected.',
    filters: [
      { name: 'match', label: 'Client identifier', placeholder: 'any part of it' },
      { name: 'user', label: 'User' },
      { name: 'address', label: 'Address', placeholder: '192.0.2.7' },
      { name: 'listener', label: 'Listener' },
    ],
    columns: [
      { title: 'Client', value: (row) => clientLink(row.client_id) },
      { title: 'User', value: (row) => ({ name: row.user }) },
      { title: 'Address', value: (row) => row.address },
      { title: 'Listener', value: (row) => `${row.listener}, ${row.transport}` },
      { title: 'MQTT', value: (row) => row.version },
      { title: 'Connected', value: (row) => ({ text: ago(row.connected_at), title: fullTime(row.connected_at) }) },
      { title: 'Subscriptions', number: true, value: (row) => count(row.subscriptions) },
      { title: 'Queued', number: true, value: (row) => ({ text: count(row.queued), mark: row.queued ? 'is-warn' : '' }) },
      { title: 'In flight', number: true, value: (row) => count(row.inflight) },
    ],
    actions: (result, refresh) => [{
      title: 'Disconnect', danger: true,
      run: async (row, button) => { if (await kick(row.client_id, button, result)) refresh().catch(() => {}); },
    }],
  });
}

export function sessions(root, _rest, parameters) {
  return list(root, {
    title: 'Sessions', path: 'sessions', parameters, key: (row) => row.client_id, empty: 'There is no persistent session.',
    note: 'Persistent sessions, whether their client is connected or not. Messages with QoS 1 and 2 wait in them.',
    filters: [],
    columns: [
      { title: 'Client', value: (row) => clientLink(row.client_id) },
      { title: 'User', value: (row) => ({ name: row.user }) },
      { title: 'Connected', value: (row) => (row.connected ? 'yes' : 'no') },
      { title: 'Ends', value: ends },
      { title: 'Queued', number: true, value: (row) => ({ text: count(row.queued), mark: row.queued ? 'is-warn' : '' }) },
      { title: 'Queued bytes', number: true, value: (row) => bytes(row.queued_bytes) },
      { title: 'Subscriptions', number: true, value: (row) => count(row.subscriptions) },
    ],
    actions: (result, refresh) => [{
      title: 'Delete', danger: true,
      run: async (row, button) => { if (await endSession(row.client_id, button, result)) refresh().catch(() => {}); },
    }],
  });
}

/** A session expiry interval that never ends [MQTT-3.1.2.11.2]. */
const FOREVER = 0xffff_ffff;

/** When a session ends. */
export function ends(session) {
  if (session.expires_at) return { text: ago(session.expires_at), title: fullTime(session.expires_at) };
  if (session.connected) {
    const seconds = session.expiry_seconds;
    if (seconds === undefined) return 'not while connected';
    return seconds === null || seconds === FOREVER ? 'never' : `${duration(seconds)} after it disconnects`;
  }
  return 'never';
}

/** The options of a subscription that are not as usual. */
export function options(row) {
  const told = [];
  if (row.no_local) told.push('no local');
  if (row.retain_as_published) told.push('retain as published');
  if (row.retain_handling) told.push(row.retain_handling === 1 ? 'retained if new' : 'no retained');
  if (row.identifier) told.push(`identifier ${row.identifier}`);
  return told.join(', ') || '–';
}

export function subscriptions(root, _rest, parameters) {
  return list(root, {
    title: 'Subscriptions', path: 'subscriptions', parameters, empty: 'No subscription like that.',
    key: (row) => `${row.client_id}\u0001${row.filter}`,
    filters: [
      { name: 'topic', label: 'Matching this topic', placeholder: 'plant/7/temperature' },
      { name: 'client', label: 'Client identifier', placeholder: 'the whole of it' },
    ],
    columns: [
      { title: 'Filter', value: (row) => ({ name: row.filter }) },
      { title: 'Client', value: (row) => clientLink(row.client_id) },
      { title: 'QoS', number: true, value: (row) => row.qos },
      { title: 'Options', value: options },
    ],
  });
}
