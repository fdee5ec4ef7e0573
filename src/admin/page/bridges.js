// Bridges to other brokers: whether each is there, what waits for it, what its rules carry and what becomes of a topic.

import { api, segment } from './api.js';
import { ago, bytes, count, duration, fullTime, perSecond, visible, words } from './format.js';
import { confirm, facts, field, h, name, outcome, panel, run, say, table } from './ui.js';

const STATES = {
  connecting: ['…', 'is-warn'], connected: ['✓', 'is-good'], waiting: ['✕', 'is-bad'], idle: ['–', ''], paused: ['!', 'is-warn'],
  draining: ['!', 'is-warn'], drained: ['–', ''], ended: ['–', ''],
};

/** A state as a word with its sign. */
export function stateOf(bridge) {
  const [sign, mark] = STATES[bridge.state] || ['?', ''];
  return { text: `${sign} ${words(bridge.state)}`, mark, title: `since ${fullTime(bridge.since)}` };
}

/** Whether a bridge should be connected and is not: one that connects for the first time has the time to. */
export function isLate(bridge) {
  return bridge.state === 'waiting' || (bridge.state === 'connecting' && Boolean(bridge.last_error));
}

export function bridgeLink(bridge) {
  return { name: bridge.name, href: `#/bridges/${segment(bridge.name)}` };
}

const lastError = (bridge) => (bridge.last_error ? { name: bridge.last_error } : '–');

/** Why it is not there, without the address before it, which stands in another column. */
export function reason(bridge) {
  const address = bridge.addresses.find((known) => bridge.last_error?.startsWith(`${known}: `));
  return bridge.last_error ? { name: address ? bridge.last_error.slice(address.length + 2) : bridge.last_error } : '–';
}

/** What each bridge had carried at the last looks; kept in this page only. */
const samples = new Map();
const SPAN = 10_000;

function carried(bridge, way) {
  return bridge.rules.reduce((sum, rule) => sum + rule[way].messages, 0);
}

/** Messages a second in both directions, over the last looks. */
function rates(bridge, now = Date.now()) {
  const seen = samples.get(bridge.name) || [];
  const last = { at: now, sent: carried(bridge, 'sent'), received: carried(bridge, 'received') };
  // Other rules, or another start: they count from zero again.
  const before = seen.at(-1);
  if (before && (before.sent > last.sent || before.received > last.received)) seen.length = 0;
  seen.push(last);
  while (seen.length > 2 && seen[0].at < now - SPAN) seen.shift();
  samples.set(bridge.name, seen);
  const [first] = seen;
  const seconds = (last.at - first.at) / 1000;
  return seconds ? { sent: (last.sent - first.sent) / seconds, received: (last.received - first.received) / seconds } : {};
}

const rate = (value) => (value === undefined ? '–' : perSecond(value));
const oldest = (queue) => (queue.oldest_ms === null ? '–' : duration(queue.oldest_ms / 1000));

export function bridges(root) {
  const rows = table('Bridges', [
    { title: 'Bridge', value: bridgeLink },
    { title: 'State', value: stateOf },
    { title: 'Remote', value: (row) => ({ name: row.address || row.addresses[0] }) },
    { title: 'Queued', number: true, value: (row) => ({ text: count(row.queue.messages), mark: row.queue.messages ? 'is-warn' : '' }) },
    { title: 'Oldest', number: true, value: (row) => oldest(row.queue) },
    { title: 'Out', number: true, value: (row) => rate(row.rates.sent) },
    { title: 'In', number: true, value: (row) => rate(row.rates.received) },
    { title: 'Last error', value: reason },
  ], { key: (row) => row.name, empty: 'There is no bridge. One is added by [bridges.NAME] in the config file, or by nightjar ctl bridge add.' });
  root.append(
    h('h1', {}, 'Bridges'),
    h('p', { class: 'note' }, 'Connections to other brokers. What waits for a remote that is away is on the disk.'),
    h('section', { class: 'panel' }, rows.element));
  return {
    title: 'Bridges',
    async refresh() {
      const all = await api('bridges');
      rows.update(all.map((bridge) => ({ ...bridge, rates: rates(bridge) })));
    },
  };
}

/** Asks what becomes of a topic. */
function mapper(bridge) {
  const topic = field('Topic', { placeholder: 'plant/7/temperature', required: true });
  const result = outcome();
  const answer = facts();
  const button = h('button', {}, 'Map');
  const form = h('form', { class: 'filters' }, topic.element, button);
  const told = (way) => (way ? { name: way.topic } : 'no rule carries it');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    run(button, result, async () => {
      result.show('');
      const found = await api(`bridges/${segment(bridge)}/map`, { parameters: { topic: topic.input.value } });
      const pairs = [['Published here, at the remote', told(found.out)]];
      if (found.out) pairs.push([`By rule ${found.out.rule}`, { name: found.out.line }]);
      pairs.push(['Published there, here', told(found.in)]);
      if (found.in) pairs.push([`By rule ${found.in.rule} `, { name: found.in.line }]);
      answer.update(pairs);
    });
  });
  return panel('Map a topic', form, result.element, answer.element);
}

const ACTIONS = {
  pause: ['Disconnect this bridge? What is published meanwhile waits.', 'Pause', 'Paused.'],
  resume: ['Have this bridge work again?', 'Resume', 'Resumed.'],
  drain: ['Send what waits, take nothing new, and then disconnect this bridge?', 'Drain', 'Draining.'],
  remove: ['Remove this bridge? What waits for its remote is lost.', 'Remove', 'Removed.'],
  reset: ['Undo all that was changed of this bridge while the broker ran? The config file decides again.', 'Undo changes', 'Undone.'],
};

/** Does one of the actions after a question. */
async function act(kind, bridge, button, result, mistakes) {
  const [question, action, done] = ACTIONS[kind];
  if (!(await confirm(question, action, bridge))) return false;
  let well = false;
  await run(button, result, async () => {
    mistakes.replaceChildren();
    const path = `bridges/${segment(bridge)}`;
    try {
      if (kind === 'remove') await api(path, { method: 'DELETE' });
      else if (kind === 'reset') await api(`${path}/settings`, { method: 'DELETE' });
      else await api(`${path}/${kind}`, { method: 'POST', body: {} });
    } catch (error) {
      mistakes.replaceChildren(...(error.body?.mistakes || []).map((mistake) => h('li', {}, String(mistake))));
      throw error;
    }
    well = true;
    return done;
  });
  return well;
}

function showBridge(bridge, connection, queue, losses) {
  const moving = rates(bridge);
  connection.update([
    ['State', { ...stateOf(bridge) }],
    ['Since', { text: ago(bridge.since), title: fullTime(bridge.since) }],
    ['Set to', words(bridge.mode)],
    ['Address', { name: bridge.address }],
    ['Addresses', { name: bridge.addresses.join(', ') }],
    ['Speaks', bridge.speaks || '–'],
    ['Out, in', `${rate(moving.sent)}, ${rate(moving.received)}`],
    ['Connected so far', `${count(bridge.connects)} times`],
    ['Failed so far', `${count(bridge.failures)} times`],
    ['Last error', lastError(bridge)],
    ...(bridge.last_error_at ? [['It was', { text: ago(bridge.last_error_at), title: fullTime(bridge.last_error_at) }]] : []),
    ...(bridge.retry_at ? [['Tried again', { text: ago(bridge.retry_at), title: fullTime(bridge.retry_at) }]] : []),
    ...(bridge.changed.length ? [['Changed while running', bridge.changed.join(', ')]] : []),
  ]);
  queue.update([
    ['Messages', { text: count(bridge.queue.messages), mark: bridge.queue.messages ? 'is-warn' : '' }],
    ['Bytes', bytes(bridge.queue.bytes)],
    ['The oldest waits for', oldest(bridge.queue)],
    ['Under way', count(bridge.queue.under_way)],
    ['Acknowledged', count(bridge.acknowledged)],
  ]);
  const loss = (label, number) => [label, { text: count(number), mark: number ? 'is-warn' : '' }];
  losses.update([
    loss('Dropped, the queue was full', bridge.queue.dropped),
    loss('Set aside: too large for the remote', bridge.set_aside.too_large),
    loss('Set aside: refused by the remote', bridge.set_aside.refused),
    loss('Set aside: the remote closed at it', bridge.set_aside.closed_at),
    loss('Not taken here: too large', bridge.not_taken.too_large),
    loss('Not taken here: refused', bridge.not_taken.refused),
    ['Carried by no rule any more', count(bridge.unmatched)],
    ['Sent back by the remote', count(bridge.echoes)],
    ['Filters that the remote refuses', bridge.refused_filters.length ? { name: bridge.refused_filters.join(', '), mark: 'is-bad' } : 'none'],
  ]);
}

export function bridge(root, id) {
  const result = outcome();
  const mistakes = h('ul', { class: 'mistakes' });
  const state = h('span', { class: 'state' });
  const buttons = Object.fromEntries(Object.entries(ACTIONS).map(([kind, [, action]]) => {
    const button = h('button', { type: 'button', class: kind === 'remove' ? 'danger' : '', hidden: true }, action);
    button.addEventListener('click', async () => { if (await act(kind, id, button, result, mistakes)) refresh().catch(() => {}); });
    return [kind, button];
  }));
  const connection = facts();
  const queue = facts();
  const losses = facts();
  const rules = table('Rules', [
    { title: 'No.', number: true, value: (row) => row.number },
    { title: 'Rule', value: (row) => ({ name: row.line }) },
    { title: 'Out', number: true, value: (row) => count(row.sent.messages) },
    { title: 'Bytes out', number: true, value: (row) => bytes(row.sent.bytes) },
    { title: 'In', number: true, value: (row) => count(row.received.messages) },
    { title: 'Bytes in', number: true, value: (row) => bytes(row.received.bytes) },
  ], { key: (row) => String(row.number), empty: 'It has no rule.' });
  const known = h('div', { class: 'stack' },
    h('div', { class: 'columns' }, panel('Connection', connection.element),
      h('div', { class: 'stack' }, panel('Waiting for the remote', queue.element), panel('Not carried', losses.element))),
    panel('Rules', rules.element), mapper(id));
  const unknown = h('p', { class: 'panel empty', hidden: true }, 'There is no bridge of this name.');
  root.append(
    h('p', { class: 'path' }, h('a', { href: '#/bridges' }, 'Bridges'), ' / ', state),
    h('div', { class: 'heading' }, h('h1', {}, name(id, { class: 'whole' })), h('div', { class: 'row' }, Object.values(buttons))),
    result.element, mistakes, unknown, known);

  async function refresh() {
    let found = null;
    try {
      found = await api(`bridges/${segment(id)}`);
    } catch (error) {
      if (error.status !== 404) throw error;
    }
    unknown.hidden = found !== null;
    known.hidden = found === null;
    say(state, found ? found.state : 'unknown');
    for (const button of Object.values(buttons)) button.hidden = found === null;
    if (!found) return;
    buttons.pause.hidden = found.mode === 'paused';
    buttons.resume.hidden = found.mode === 'running';
    buttons.drain.hidden = found.mode === 'draining';
    buttons.reset.hidden = found.changed.length === 0;
    showBridge(found, connection, queue, losses);
    rules.update(found.rules.map((rule, i) => ({ ...rule, number: i + 1 })));
  }

  return { title: visible(id), refresh };
}
