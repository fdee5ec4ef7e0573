// A stand-in for the admin door, for work on the page without a broker: the API's answers with plausible data, odd
// names among them. `node tests/page/fake.mjs [PORT [BROKER]]`, then http://127.0.0.1:PORT, token "fake";
// BROKER is the port of a broker's WebSocket listener, for the console.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';

const FOLDER = new URL('../../src/admin/page/', import.meta.url);
const KINDS = { html: 'text/html; charset=utf-8', css: 'text/css; charset=utf-8', js: 'text/javascript; charset=utf-8', svg: 'image/svg+xml' };

export const TOKEN = 'fake';
export const ODD = {
  markup: '<img src=x onerror="document.title=\'hacked\'">',
  rtl: '\u202Egnp.elif-\u05D0\u05D1\u05D2',
  long: 'sensor-' + 'x'.repeat(293),
  control: 'bell\u0007tab\tnewline\nend',
  path: 'a/b?c#d%2F e&f=g',
  quote: '"\'`;--</script>',
};

const DAY = 86_400_000;
const at = (ms) => new Date(Date.now() + ms).toISOString();
const started = Date.now() - 3.2 * DAY;

function makeClients() {
  const ids = [...Object.values(ODD), ...Array.from({ length: 120 }, (_, i) => `plant-${String(i).padStart(3, '0')}`)];
  return ids.map((id, i) => ({
    client_id: id, user: i % 5 === 0 ? null : id === ODD.markup ? ODD.markup : `user-${i % 7}`,
    address: i % 3 ? `192.0.2.${i}:51${i}` : '[2001:db8::1234:5678:9abc]:51234', listener: i % 4 ? 'default' : 'tls',
    transport: i % 4 ? 'tcp' : 'tls', version: ['5', '3.1.1', '5', '3.1'][i % 4], connected_at: at(-i * 731_000 - 4000), keep_alive: i % 6 ? 60 : 0,
    clean_start: i % 2 === 0, subscriptions: i % 9, queued: i % 11 === 3 ? 1204 : 0, inflight: i % 11 === 3 ? 20 : 0,
  }));
}

const subscriptionsOf = (c) => Array.from({ length: c.subscriptions }, (_, i) => ({
  client_id: c.client_id, filter: i === 1 ? '$share/workers/plant/#' : i === 2 ? ODD.markup + '/#' : i === 3 ? ODD.rtl : `plant/${i}/+/temperature`, share: i === 1 ? 'workers' : null,
  qos: i % 3, no_local: i === 4, retain_as_published: i === 2, retain_handling: i % 3, identifier: i === 2 ? 7 : null,
}));

const payloads = [
  '{"celsius":21.5,"at":"2026-11-25T07:00:00Z","tags":["a","b"]}', '<b>bold</b><script>document.title="hacked"</script>', '21.5',
  Buffer.from([0, 1, 2, 253, 254, 255, 65, 66]), '', '\u202Eright to left', 'line one\nline two',
];

function makeRetained() {
  const topics = [ODD.markup, ODD.rtl, '/', 'a//b', ODD.long, ODD.control, ...Array.from({ length: 70 }, (_, i) => `plant/${i}/temperature`)];
  return topics.map((topic, i) => ({ topic, data: Buffer.from(payloads[i % payloads.length]), qos: i % 3, retained_at: at(-i * 60_000), expires_at: i % 4 ? null : at(3_600_000) }));
}

function makeBridges() {
  const carries = (line, sent, received) => ({ line, sent: { messages: sent, bytes: sent * 61 }, received: { messages: received, bytes: received * 40 } });
  const of = (name, state, more = {}) => ({
    name, state, since: at(-812_000), mode: 'running', address: `mqtts://${name}.example:8883`, addresses: [`mqtts://${name}.example:8883`, 'mqtts://10.0.0.2:8883'],
    speaks: state === 'connected' ? 'MQTT 5' : null, last_error: null, last_error_at: null, retry_at: null,
    queue: { messages: 0, bytes: 0, oldest_ms: null, under_way: 0, dropped: 0 }, set_aside: { too_large: 0, refused: 0, closed_at: 0 }, not_taken: { too_large: 0, refused: 0 },
    acknowledged: 81_203, unmatched: 0, echoes: 12, connects: 3, failures: 2, refused_filters: [],
    rules: [carries('"sensors/#" out 1 "" "plant7/"', 81_210, 0), carries('"commands/#" in 1 "" "plant7/"', 0, 512)], changed: [], ...more,
  });
  return [
    of('cloud', 'connected', { queue: { messages: 3, bytes: 540, oldest_ms: 1000, under_way: 3, dropped: 0 }, changed: ['keep_alive'] }),
    of('hub', 'waiting', {
      last_error: `mqtts://hub.example:8883: ${ODD.markup} refused: NotAuthorized (0x87)`, last_error_at: at(-4000), retry_at: at(21_000), failures: 41,
      queue: { messages: 120_331, bytes: 21_000_000, oldest_ms: 5_400_000, under_way: 0, dropped: 7 }, set_aside: { too_large: 2, refused: 0, closed_at: 1 },
      refused_filters: [`${ODD.rtl}/#`], rules: [carries(`"${ODD.markup}/#" out 2 "" ""`, 4, 0), carries(`"${'deep/'.repeat(40)}#" both 1 "" ""`, 0, 0)],
    }),
    of('night-shift', 'paused', { mode: 'paused', address: null }), of('spare', 'idle', { connects: 0 }), of('old', 'drained', { mode: 'draining' }),
  ];
}

/** The server; `state` may be changed while it runs. `broker` is the port of a WebSocket listener. */
export function fake(broker) {
  const state = { clients: makeClients(), bridges: makeBridges(), retained: makeRetained(), mode: 'good', level: 'info', drops: 120, gone: false };

  const CHECKS = {
    good: [['journal', true, 'written 12 ms ago'], ['disk', true, '61 GB free'], ['listeners', true, '3 open'], ['loops', true, '2 of 2 answer']],
    bad: [['journal', false, 'No space left on device (os error 28)'], ['disk', false, '0 B free'], ['listeners', true, '3 open'], ['loops', true, '2 of 2 answer']],
  };

  function status() {
    const t = (Date.now() - started) / 1000;
    const wave = (n, size) => Math.round(size * (1 + 0.4 * Math.sin(t / n) + 0.2 * Math.random()));
    state.drops += wave(3, 4);
    const bad = state.mode === 'bad';
    return {
      version: '0.1.0', node_id: '7f3c9a10', started_at: new Date(started).toISOString(), uptime_seconds: Math.round(t),
      durability: state.mode === 'memory' ? 'memory' : state.mode === 'interval' ? 'interval' : 'sync', data_folder: '/var/lib/nightjar',
      ready: !bad, checks: CHECKS[bad ? 'bad' : 'good'].map(([name, ok, detail]) => ({ name, ok, detail })),
      clients: { connected: state.clients.length, maximum: 1531, sessions: 214, disconnected: 88, half_open: 2 },
      subscriptions: 4213, shared_subscriptions: 12, retained: { messages: state.retained.length, bytes: 81_233 }, queued: { messages: 13_244, bytes: 2_310_000 },
      journal: { waiting_bytes: 4096, sync_p50_us: 312, sync_p99_us: 1130, syncs: 1_203_442, journal_bytes: 268_435_456, disk_free_bytes: bad ? 0 : 61_234_567_890, poisoned: bad },
      memory: { resident_bytes: 84_000_000, maximum_bytes: 131_000_000 }, totals: { publish_received: 123_456_789 },
      dropped: { slow: 0, queue_full: state.drops, expired: 3120, too_large: 2, denied: 41 }, refused: { credentials: 17, quota: 0 }, denied: { publish: 5, subscribe: 0 },
      rates: { publish_received: wave(9, 5200), publish_sent: wave(7, 21_300), bytes_received: wave(9, 812_000), bytes_sent: wave(7, 3_410_000), dropped: wave(3, 2) },
    };
  }

  function client(c) {
    return {
      ...c, method: 'password', tls: c.transport === 'tls' ? 'TLS 1.3' : null, session: { present: true, persistent: !c.clean_start, expiry_seconds: c.clean_start ? 0 : 86_400, expires_at: null, queued_bytes: c.queued * 180 },
      inflight_in: 0, inflight_out: c.inflight, window: 20, outbox_bytes: 1320, limits: { receive_maximum: 100, max_packet_size: 1_048_576, client_max_packet_size: null, max_subscriptions: 2 ** 63, queue_messages: 100_000, queue_bytes: 1_000_000_000 },
      received: 120_331, sent: 98_120, subscriptions: subscriptionsOf(c),
      drops: c.queued ? [{ at: at(-9000), topic: 'plant/3/temperature', reason: 'queue_full', count: 812 }, { at: at(-9500), topic: null, reason: 'expired', count: 1 }] : [],
      will: c.clean_start ? null : { topic: ODD.markup, qos: 1, retain: true, delay_seconds: 30, payload_bytes: 4 },
    };
  }

  function paged(items, query) {
    const from = Number(query.get('cursor') || 0);
    const to = from + Number(query.get('limit') || 50);
    return { items: items.slice(from, to), next: to < items.length ? String(to) : null };
  }

  const session = (c) => ({ client_id: c.client_id, user: c.user, connected: c.clean_start === false, expires_at: null, queued: c.queued, queued_bytes: c.queued * 180, subscriptions: c.subscriptions });
  const preview = (m) => ({ topic: m.topic, bytes: m.data.length, qos: m.qos, payload_preview: m.data.includes(0) ? null : m.data.toString('utf8').slice(0, 120), retained_at: m.retained_at, expires_at: m.expires_at });
  const listeners = () => ['default', 'tls', ODD.markup].map((name, i) => ({
    name, address: ['0.0.0.0:1883', '[::]:8883', 'unix:/run/nightjar.sock'][i], transports: [['mqtt'], ['mqtt', 'websocket'], ['mqtt']][i], tls: i === 1,
    anonymous: i === 2, connections: [80, 46, 0][i], max_connections: i ? 2 ** 63 : 100_000, certificate_expires: i === 1 ? at(12 * DAY) : null,
  }));

  function trace(answer) {
    answer.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
    let n = 0;
    const timer = setInterval(() => {
      n += 1;
      answer.write(JSON.stringify({ at: Date.now(), event: ['received', 'routed', 'dropped'][n % 3], client: ODD.markup, address: '192.0.2.1:5000', packet: 'PUBLISH', topic: `plant/${n}`, qos: n % 3, ...(n % 3 === 2 && { detail: 'queue full' }) }) + '\n');
    }, 40);
    answer.on('close', () => clearInterval(timer));
  }

  const find = (id) => state.clients.find((c) => c.client_id === id);
  const none = { code: 404, error: 'not found' };

  /** The answer about one bridge. */
  function bridgeAnswer(method, [, id, what], query) {
    const found = state.bridges.find((b) => b.name === id);
    if (!found) return none;
    if (what === 'map') {
      const topic = query.get('topic');
      return { topic, out: topic.startsWith('sensors/') ? { topic: `plant7/${topic}`, rule: 1, line: found.rules[0].line } : null, in: null };
    }
    if (method === 'DELETE' && !what) state.bridges = state.bridges.filter((b) => b !== found);
    if (what === 'settings') found.changed = [];
    if (method === 'POST') {
      if (id === 'spare') return { code: 422, error: 'the configuration has mistakes: everything stays as it was', mistakes: [`--set: bridges.spare.mode: ${ODD.markup} is set there`] };
      [found.mode, found.state] = { pause: ['paused', 'paused'], resume: ['running', 'connected'], drain: ['draining', 'draining'] }[what];
      if (!found.changed.includes('mode')) found.changed.push('mode');
    }
    return found;
  }

  /** The answer to one question, as a value. */
  function answer(method, parts, query, body) {
    const [what, id] = parts;
    switch (`${method} ${what}${id === undefined ? '' : '/:id'}`) {
      case 'GET status': return status();
      case 'GET listeners': return listeners();
      case 'GET bridges':
        for (const b of state.bridges) if (b.state === 'connected') b.rules[0].sent.messages += 37;
        return state.bridges;
      case 'GET bridges/:id': case 'POST bridges/:id': case 'DELETE bridges/:id': return bridgeAnswer(method, parts, query);
      case 'GET clients': return paged(state.clients.filter((c) => c.client_id.includes(query.get('match') || '') && (!query.get('user') || c.user === query.get('user'))), query);
      case 'GET clients/:id': return find(id) ? client(find(id)) : none;
      case 'GET sessions': return paged(state.clients.filter((c) => !c.clean_start).map(session), query);
      case 'GET sessions/:id': return none;
      case 'DELETE clients/:id': case 'DELETE sessions/:id':
        state.clients = state.clients.filter((c) => c.client_id !== id);
        return {};
      case 'GET subscriptions': return paged(state.clients.flatMap(subscriptionsOf), query);
      case 'GET retained': return paged(state.retained.map(preview), query);
      case 'GET retained/:id': {
        const m = state.retained.find((r) => r.topic === id);
        if (!m) return none;
        return { topic: m.topic, payload_base64: m.data.toString('base64'), payload_text: null, qos: m.qos, expires_at: m.expires_at, payload_format: false, content_type: ODD.markup, response_topic: null, correlation_data_base64: null, user_properties: [{ name: 'key', value: ODD.markup }] };
      }
      case 'DELETE retained/:id':
        state.retained = state.retained.filter((r) => r.topic !== id);
        return {};
      case 'GET rules/:id': return { allowed: false, rule: { file: 'rules.toml', line: 12, text: 'deny receive plant/#' }, why: 'the first rule that fits refuses it' };
      case 'GET explain': return { matched: [{ filter: 'plant/#', qos: 1 }], outcome: 'queued, then dropped: queue_full' };
      case 'GET config': return { toml: `data = "/var/lib/nightjar"\ndurability = "sync"\n\n[admin]\naddress = "127.0.0.1:9883"\ntoken = "***"\n# ${ODD.markup}\n${'origins = ["' + 'x'.repeat(160) + '"]'}\n` };
      case 'GET log': return { level: state.level };
      case 'PUT log':
        state.level = body.level;
        return { level: state.level };
      case 'POST reload': return { code: 422, error: 'the configuration has 1 mistake', mistakes: [`limits.max_inflight: ${ODD.markup} is no number`] };
      default: return none;
    }
  }

  const server = createServer(async (request, reply) => {
    const url = new URL(request.url, 'http://fake');
    const send = (code, kind, body, more = {}) => reply.writeHead(code, { 'Content-Type': kind, 'Content-Security-Policy': "default-src 'self'", ...more }).end(body);
    const json = (code, value, more) => send(code, 'application/json', JSON.stringify(value), more);
    let text = '';
    for await (const piece of request) text += piece;
    if (url.pathname === '/' || url.pathname.startsWith('/page/')) {
      const file = url.pathname === '/' ? 'index.html' : url.pathname.slice(6);
      try {
        return send(200, KINDS[file.split('.').pop()], readFileSync(fileURLToPath(new URL(file, FOLDER))));
      } catch {
        return json(404, { error: 'not found' });
      }
    }
    if (!url.pathname.startsWith('/api/v1/')) return json(404, { error: 'not found' });
    if (state.gone) return request.socket.destroy();
    const parts = url.pathname.slice(8).split('/').map(decodeURIComponent);
    const body = text ? JSON.parse(text) : {};
    if (parts[0] === 'login') {
      if (request.method === 'DELETE') return send(204, 'text/plain', '', { 'Set-Cookie': 'nightjar=; Max-Age=0; Path=/' });
      if (request.method === 'GET') return json(200, { scope: 'full' });
      return body.token === TOKEN ? json(200, {}, { 'Set-Cookie': 'nightjar=ok; HttpOnly; SameSite=Strict; Path=/' }) : json(401, { error: 'wrong token' });
    }
    if (!/nightjar=ok/.test(request.headers.cookie || '')) return json(401, { error: 'who are you?' });
    if (parts[0] === 'trace') return trace(reply);
    const value = answer(request.method, parts, url.searchParams, body);
    const { code, ...rest } = value;
    return Array.isArray(value) ? json(200, value) : json(code || 200, rest);
  });
  // The console's connection goes on to a WebSocket listener of a broker, byte by byte.
  server.on('upgrade', (request, socket, head) => {
    if (!broker || request.url !== '/mqtt') return socket.destroy();
    const lines = request.rawHeaders.map((part, i) => part + (i % 2 ? '\r\n' : ': ')).join('');
    const on = connect(broker, '127.0.0.1', () => {
      on.write(`GET /mqtt HTTP/1.1\r\n${lines}\r\n`);
      on.write(head);
      socket.pipe(on).pipe(socket);
    });
    on.on('error', () => socket.destroy());
    return socket.on('error', () => on.destroy());
  });
  return { server, state };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.argv[2] || 8000);
  fake(Number(process.argv[3] || 0)).server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${port}, token "${TOKEN}"`));
}
