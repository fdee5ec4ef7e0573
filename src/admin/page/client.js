// One client: its connection, its session, what it did not get and why.

import { ApiError, api, segment } from './api.js';
import { ago, bound, bytes, count, duration, fullTime, visible, words } from './format.js';
import { endSession, ends, kick, options } from './lists.js';
import { facts, field, h, name, outcome, panel, run, say, table } from './ui.js';

function answerOf(error) {
  if (error instanceof ApiError && error.status === 404) return null;
  throw error;
}

/** The whole of a nested answer as label and value, for what this page has no words of its own for. */
function plain(value, before = '') {
  if (value === null || typeof value !== 'object') return [[before || 'Value', value === null ? '–' : visible(String(value))]];
  return Object.entries(value).flatMap(([key, inner]) => plain(inner, before ? `${before}, ${words(key).toLowerCase()}` : words(key)));
}

/** Asks whether this client may use a topic, and what became of it. */
function explainer(client) {
  const topic = field('Topic', { placeholder: 'plant/7/temperature', required: true });
  const action = field('Question', {}, [
    ['receive', 'May it receive this, and did it?'], ['publish', 'May it publish this?'], ['subscribe', 'May it subscribe to this?']]);
  const result = outcome();
  const answer = facts();
  const button = h('button', {}, 'Explain');
  const form = h('form', { class: 'filters' }, topic.element, action.element, button);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    run(button, result, async () => {
      result.show('');
      const asked = { client: client.id, topic: topic.input.value };
      const rule = await api('rules/test', { parameters: { ...asked, user: client.user, action: action.input.value } });
      const pairs = [['By the rules', { text: rule.allowed ? '✓ allowed' : '✕ refused', mark: rule.allowed ? 'is-good' : 'is-bad' }]];
      if (rule.why) pairs.push(['Because', visible(rule.why)]);
      if (rule.rule) pairs.push([`${rule.rule.file}, line ${rule.rule.line}`, { name: rule.rule.text }]);
      if (action.input.value === 'receive') {
        const story = await api('explain', { parameters: asked }).catch(answerOf);
        if (story) pairs.push(...plain(story));
      }
      answer.update(pairs);
    });
  });
  return panel('Explain a topic', form, result.element, answer.element);
}

export function client(root, id) {
  const result = outcome();
  const state = h('span', { class: 'state' });
  const disconnect = h('button', { type: 'button', class: 'danger', hidden: true }, 'Disconnect');
  const end = h('button', { type: 'button', class: 'danger', hidden: true }, 'Delete the session');
  const connection = facts();
  const session = facts();
  const flow = facts();
  const will = facts();
  const limits = facts();
  const subscriptions = table('Subscriptions', [
    { title: 'Filter', value: (row) => ({ name: row.filter }) },
    { title: 'QoS', number: true, value: (row) => row.qos },
    { title: 'Options', value: options },
  ], { key: (row) => row.filter, empty: 'It has no subscription.' });
  const drops = table('Dropped', [
    { title: 'When', value: (row) => ({ text: ago(row.at), title: fullTime(row.at) }) },
    { title: 'Topic', value: (row) => ({ name: row.topic }) },
    { title: 'Reason', value: (row) => words(row.reason) },
    { title: 'Messages', number: true, value: (row) => count(row.count) },
  ], { key: (row) => `${row.at}${row.topic}${row.reason}`, empty: 'Nothing was dropped for it lately.' });
  const about = { id, user: '' };
  const limitsPanel = panel('Limits', limits.element);
  const connected = h('div', { class: 'stack' },
    h('div', { class: 'columns' }, panel('Connection', connection.element), panel('Under way', flow.element)), limitsPanel);
  const dropsPanel = panel('Not delivered', drops.element);
  const known = h('div', { class: 'stack' }, connected,
    h('div', { class: 'columns' }, panel('Session', session.element), panel('Will', will.element)),
    panel('Subscriptions', subscriptions.element), dropsPanel, explainer(about));
  const unknown = h('p', { class: 'panel empty', hidden: true }, 'No client and no persistent session has this identifier.');
  root.append(
    h('p', { class: 'path' }, h('a', { href: '#/clients' }, 'Clients'), ' / ', state),
    h('div', { class: 'heading' }, h('h1', {}, name(id, { class: 'whole' })), h('div', { class: 'row' }, disconnect, end)),
    result.element, unknown, known);

  disconnect.addEventListener('click', async () => { if (await kick(id, disconnect, result)) refresh().catch(() => {}); });
  end.addEventListener('click', async () => { if (await endSession(id, end, result)) refresh().catch(() => {}); });

  function showConnection(c) {
    connection.update([
      ['User', { name: c.user }],
      ['Known by', c.method],
      ['TLS', c.tls || 'no'],
      ['Address', c.address],
      ['Listener', `${c.listener}, ${c.transport}`],
      ['MQTT', c.version],
      ['Connected', { text: ago(c.connected_at), title: fullTime(c.connected_at) }],
      ['Keep alive', c.keep_alive ? duration(c.keep_alive) : 'off'],
      ['Clean start', c.clean_start ? 'yes' : 'no'],
    ]);
    flow.update([
      ['Messages received from it', count(c.received)],
      ['Messages sent to it', count(c.sent)],
      ['In flight to it', `${count(c.inflight_out)} of ${count(c.window)}`],
      ['In flight from it', count(c.inflight_in)],
      ['Waits in memory to be sent', bytes(c.outbox_bytes)],
      ['Queued', count(c.queued)],
    ]);
    const bounds = Object.entries(c.limits || {});
    limitsPanel.hidden = bounds.length === 0;
    limits.update(bounds.map(([key, value]) => [words(key), key.endsWith('_size') && value === null ? 'not told' : bound(value)]));
    drops.update([...(c.drops || [])].reverse());
  }

  async function refresh() {
    const c = await api(`clients/${segment(id)}`).catch(answerOf);
    const s = c ? null : await api(`sessions/${segment(id)}`).catch(answerOf);
    unknown.hidden = Boolean(c || s);
    known.hidden = !unknown.hidden;
    connected.hidden = dropsPanel.hidden = !c;
    disconnect.hidden = !c;
    say(state, c ? 'connected' : s ? 'not connected' : 'unknown');
    if (c) showConnection(c);
    const its = c ? { connected: true, queued: c.queued, ...c.session } : s && { present: true, persistent: true, ...s };
    about.user = (c || s)?.user || '';
    end.hidden = !its?.persistent;
    if (!its) return;
    session.update([
      ['Kind', its.persistent ? 'persistent: survives a restart of either side' : 'ends with the connection'],
      ...(c ? [['Was there at connect', its.present ? 'yes' : 'no']] : []),
      ['Ends', its.persistent ? ends(its) : 'with the connection'],
      ['Queued', `${count(its.queued)} messages, ${bytes(its.queued_bytes)}`],
    ]);
    const lastWords = (c || s).will;
    will.update([...(lastWords ? plain(lastWords) : [['Will', 'none']]), ...(s?.will_due ? [['Due', ago(s.will_due)]] : [])]);
    const rows = (c || s).subscriptions;
    subscriptions.update(Array.isArray(rows) ? rows : []);
  }

  return { title: visible(id), refresh };
}
