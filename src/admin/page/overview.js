// One screen: is what is acknowledged durable, who is connected, what moves, what is dropped and why.

import { api } from './api.js';
import { bridgeLink, isLate, reason, stateOf } from './bridges.js';
import { chart } from './chart.js';
import { ago, bound, bytes, clockTime, count, duration, fullTime, milliseconds, moment, perSecond, short, words } from './format.js';
import { rateOf, series } from './history.js';
import { announce, facts, h, panel, say, table } from './ui.js';

/** The one sentence, and how it is meant: good, warn, bad. */
export function verdict(status) {
  const journal = status.journal || {};
  const failed = (status.checks || []).filter((check) => !check.ok);
  const why = failed.map((check) => `${words(check.name)}: ${check.detail || 'failed'}`).join('. ');
  if (journal.poisoned) {
    return {
      mark: 'bad',
      short: 'Not durable',
      text: 'Nothing more is acknowledged: the journal could not be written.',
      detail: `${why ? why + '. ' : ''}Publishers keep what they sent with QoS 1 and 2 and send it again. Mend the disk, then restart the broker.`,
    };
  }
  if (!status.ready) {
    return { mark: 'bad', short: 'Not ready', text: 'The broker is not ready.', detail: why || 'It does not say why.' };
  }
  if (status.durability === 'memory') {
    return {
      mark: 'warn',
      short: 'In memory',
      text: 'Acknowledgements are not durable: everything is in memory only.',
      detail: 'durability = "memory" was chosen in the configuration. A restart loses sessions and messages.',
    };
  }
  const times = journal.syncs
    ? `synced in ${milliseconds(journal.sync_p50_us)} (p99 ${milliseconds(journal.sync_p99_us)})`
    : 'nothing had to be synced yet';
  const facts = `${times}, ${bytes(journal.disk_free_bytes)} free`;
  if (status.durability !== 'sync') {
    return {
      mark: 'warn',
      short: 'Synced at intervals',
      text: `Acknowledgements come before the disk has the message: ${facts}.`,
      detail: `durability = "${status.durability}" was chosen in the configuration. A power failure loses the last interval.`,
    };
  }
  return { mark: 'good', short: 'Durable', text: `Acknowledgements are durable: ${facts}.`, detail: '' };
}

const SIGNS = { good: '✓', warn: '!', bad: '✕' };

export function sign(mark) {
  return SIGNS[mark];
}

const DAY = 86_400_000;

function certificate(listener) {
  if (!listener.tls) return '–';
  const at = moment(listener.certificate_expires);
  if (!at) return 'unknown';
  const left = at.getTime() - Date.now();
  const text = left < 0 ? `expired ${ago(at)}` : ago(at);
  return { text, title: fullTime(at), mark: left < 3 * DAY ? 'is-bad' : left < 21 * DAY ? 'is-warn' : '' };
}

function tile(title, href) {
  const value = h('strong', {}, '–');
  const note = h('small');
  const element = h(href ? 'a' : 'div', { class: 'tile', href }, h('span', {}, title), value, note);
  return {
    element,
    update(text, more) {
      say(value, text);
      say(note, more);
    },
  };
}

const REASONS = {
  dropped: {
    slow: 'Receiver too slow (QoS 0)', queue_full: 'Queue full', too_large: 'Larger than the receiver takes',
    expired: 'Expired before it was sent', denied: 'Receiver has no right to it',
  },
  refused: {
    credentials: 'Wrong credentials', owner: 'Session of another user', user: 'Too many connections of a user',
    takeover: 'Taken over too often', connect: 'Not allowed by the settings', connections: 'Too many connections',
    address: 'Too many connections of an address', quota: 'A limit of messages, memory or disk',
    subscriptions: 'Too many subscriptions',
  },
  denied: { publish: 'No right to publish', subscribe: 'No right to subscribe' },
};

/** What happened at all, what happens now first. */
function reasons(status, kinds) {
  return kinds
    .flatMap((kind) => Object.entries(status[kind] || {}).map(([reason, total]) =>
      ({ key: `${kind} ${reason}`, text: REASONS[kind][reason] || words(reason), total, rate: rateOf(kind, reason) || 0 })))
    .filter((row) => row.total > 0)
    .sort((a, b) => b.rate - a.rate || b.total - a.total || a.text.localeCompare(b.text));
}

function reasonTable(title, empty) {
  return table(title, [
    { title: 'Reason', value: (row) => row.text },
    { title: 'Now', number: true, value: (row) => ({ text: perSecond(row.rate), mark: row.rate ? 'is-warn' : '' }) },
    { title: 'Since start', number: true, value: (row) => count(row.total) },
  ], { key: (row) => row.key, compact: true, empty });
}

export function overview(root) {
  const mark = h('span', { class: 'sign', 'aria-hidden': 'true' });
  const text = h('h1');
  const detail = h('p');
  const headline = h('section', { class: 'headline', 'aria-label': 'Durability' }, mark, h('div', {}, text, detail));

  const tiles = {
    connected: tile('Connected', '#/clients'),
    sessions: tile('Sessions', '#/sessions'),
    subscriptions: tile('Subscriptions', '#/subscriptions'),
    retained: tile('Retained', '#/retained'),
    queued: tile('Queued', '#/sessions'),
    memory: tile('Memory'),
  };
  const charts = [
    [chart('Messages in', perSecond), (s) => s.rates.publish_received],
    [chart('Messages out', perSecond), (s) => s.rates.publish_sent],
    [chart('Bytes in', (v) => bytes(v) + '/s'), (s) => s.rates.bytes_received],
    [chart('Bytes out', (v) => bytes(v) + '/s'), (s) => s.rates.bytes_sent],
    [chart('Dropped', perSecond), (s) => s.rates.dropped],
    [chart('Connections', short), (s) => s.connected],
  ];
  const drops = reasonTable('Dropped messages by reason', 'Nothing has been dropped since the start.');
  const refusals = reasonTable('Refusals by reason', 'Nobody has been refused anything since the start.');
  const checks = table('Readiness', [
    { title: 'Check', value: (row) => words(row.name) },
    { title: 'State', value: (row) => ({ text: row.ok ? '✓ ok' : '✕ failed', mark: row.ok ? 'is-good' : 'is-bad' }) },
    { title: 'Detail', value: (row) => row.detail || '–' },
  ], { key: (row) => row.name, compact: true, empty: 'The broker names no checks.' });
  const listeners = table('Listeners', [
    { title: 'Name', value: (row) => ({ name: row.name }) },
    { title: 'Address', value: (row) => row.address },
    { title: 'Speaks', value: (row) => [row.transports].flat().join(', ') || '–' },
    { title: 'TLS', value: (row) => (row.tls ? 'yes' : 'no') },
    { title: 'Anonymous', value: (row) => (row.anonymous ? { text: 'allowed', mark: 'is-warn' } : 'refused') },
    { title: 'Connections', number: true, value: (row) => `${count(row.connections)} of ${bound(row.max_connections)}` },
    { title: 'Certificate ends', value: certificate },
  ], { key: (row) => row.name, empty: 'No listener is open.' });
  const late = table('Bridges that are not connected', [
    { title: 'Bridge', value: bridgeLink },
    { title: 'State', value: stateOf },
    { title: 'Queued', number: true, value: (row) => count(row.queue.messages) },
    { title: 'Last error', value: reason },
  ], { key: (row) => row.name });
  const latePanel = panel('Bridges that are not connected', late.element);
  latePanel.hidden = true;
  const journal = facts();
  const about = facts();

  root.append(
    headline,
    latePanel,
    h('div', { class: 'tiles' }, Object.values(tiles).map((t) => t.element)),
    panel('Last five minutes', h('div', { class: 'charts' }, charts.map(([c]) => c.element))),
    h('div', { class: 'columns' },
      panel('Messages dropped, by reason', drops.element),
      panel('Refused, by reason', refusals.element)),
    panel('Listeners', listeners.element),
    h('div', { class: 'columns' }, panel('Readiness', checks.element), panel('Journal and disk', journal.element)),
    panel('Broker', about.element));

  let said = '';
  let last = '';
  return {
    title: 'Overview',
    status(status) {
      const now = verdict(status);
      headline.className = `headline ${now.mark}`;
      say(mark, sign(now.mark));
      say(text, now.text);
      say(detail, now.detail);
      last = `At ${clockTime(Date.now())}: ${now.text}`;
      // Told aloud when it turns, not whenever a millisecond changes.
      if (said !== now.short) announce(now.text);
      said = now.short;

      const { clients = {}, retained = {}, queued = {}, memory = {}, shared_subscriptions: shared } = status;
      tiles.connected.update(count(clients.connected), `at most ${count(clients.maximum)} so far`);
      tiles.sessions.update(count(clients.sessions), `${count(clients.disconnected)} not connected`);
      tiles.subscriptions.update(count(status.subscriptions), `${count(shared)} shared`);
      tiles.retained.update(count(retained.messages), bytes(retained.bytes));
      tiles.queued.update(count(queued.messages), bytes(queued.bytes));
      tiles.memory.update(bytes(memory.resident_bytes), `at most ${bytes(memory.maximum_bytes)} so far`);
      for (const [c, read] of charts) c.update(series(read));
      drops.update(reasons(status, ['dropped']));
      refusals.update(reasons(status, ['refused', 'denied']));
      checks.update(status.checks || []);
      const j = status.journal || {};
      journal.update([
        ['Waiting to be synced', bytes(j.waiting_bytes)],
        ['Syncs', count(j.syncs)],
        ['A sync takes', `${milliseconds(j.sync_p50_us)}, p99 ${milliseconds(j.sync_p99_us)}`],
        ['Journal on disk', bytes(j.journal_bytes)],
        ['Disk free', bytes(j.disk_free_bytes)],
      ]);
      about.update([
        ['Version', status.version],
        ['Node', status.node_id],
        ['Running for', duration(status.uptime_seconds)],
        ['Started', fullTime(status.started_at)],
        ['Data folder', { name: status.data_folder }],
        ['Not yet introduced', `${count(clients.half_open)} connections`],
      ]);
    },
    /** What was true is not what is: without an answer nothing is green. */
    stale(why) {
      headline.className = 'headline';
      say(mark, '?');
      say(text, `Not known: ${why}.`);
      say(detail, last);
      said = '';
    },
    async refresh() {
      const [answer, bridges] = await Promise.all([api('listeners'), api('bridges')]);
      listeners.update(Array.isArray(answer) ? answer : answer.items || []);
      const away = bridges.filter(isLate);
      latePanel.hidden = away.length === 0;
      late.update(away);
    },
  };
}
