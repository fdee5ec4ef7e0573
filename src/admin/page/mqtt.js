// A small MQTT 5 client over WebSocket, for the console of this page.

const TEXT = new TextEncoder();
const KEEP_ALIVE = 30;
const RECEIVE_MAXIMUM = 100;
const LARGEST = 4 * 1024 * 1024;

const REASONS = {
  0x00: 'success', 0x04: 'disconnected with its will', 0x10: 'no matching subscribers', 0x11: 'no subscription existed',
  0x80: 'unspecified error', 0x81: 'malformed packet', 0x82: 'protocol error', 0x83: 'refused by the implementation',
  0x84: 'unsupported protocol version', 0x85: 'client identifier not valid', 0x86: 'bad user name or password',
  0x87: 'not authorized', 0x88: 'server unavailable', 0x89: 'server busy', 0x8a: 'banned', 0x8b: 'server shutting down',
  0x8d: 'keep alive timeout', 0x8e: 'session taken over', 0x8f: 'topic filter invalid', 0x90: 'topic name invalid',
  0x91: 'packet identifier in use', 0x92: 'packet identifier not found', 0x93: 'receive maximum exceeded',
  0x94: 'topic alias invalid', 0x95: 'packet too large', 0x96: 'message rate too high', 0x97: 'quota exceeded',
  0x98: 'ended by an administrator', 0x99: 'payload format invalid', 0x9a: 'retain not supported', 0x9b: 'QoS not supported',
  0x9e: 'shared subscriptions not supported', 0xa2: 'wildcard subscriptions not supported',
};

export function reason(code) {
  return REASONS[code] || `reason 0x${code.toString(16).padStart(2, '0')}`;
}

// What a property's value looks like, by its identifier.
const PROPERTIES = {
  0x01: ['payloadFormat', 'byte'], 0x02: ['messageExpiry', 'four'], 0x03: ['contentType', 'text'],
  0x08: ['responseTopic', 'text'], 0x09: ['correlationData', 'data'], 0x0b: ['subscriptionIdentifier', 'variable'],
  0x11: ['sessionExpiry', 'four'], 0x12: ['assignedClientId', 'text'], 0x13: ['serverKeepAlive', 'two'],
  0x15: ['authenticationMethod', 'text'], 0x16: ['authenticationData', 'data'], 0x1a: ['responseInformation', 'text'],
  0x1c: ['serverReference', 'text'], 0x1f: ['reasonString', 'text'], 0x21: ['receiveMaximum', 'two'],
  0x22: ['topicAliasMaximum', 'two'], 0x23: ['topicAlias', 'two'], 0x24: ['maximumQos', 'byte'],
  0x25: ['retainAvailable', 'byte'], 0x26: ['userProperties', 'pair'], 0x27: ['maximumPacketSize', 'four'],
  0x28: ['wildcardAvailable', 'byte'], 0x29: ['identifiersAvailable', 'byte'], 0x2a: ['sharedAvailable', 'byte'],
};

function variable(value) {
  const out = [];
  do {
    out.push((value % 128) | (value > 127 ? 0x80 : 0));
    value = Math.floor(value / 128);
  } while (value > 0);
  return out;
}

const two = (value) => [value >> 8, value & 0xff];

function text(value) {
  const data = TEXT.encode(value);
  if (data.length > 65535) throw new Error('longer than 65535 bytes');
  return [...two(data.length), ...data];
}

/** A packet of these bytes and, at its end, this payload. */
function packet(first, body, payload = new Uint8Array()) {
  const head = [first, ...variable(body.length + payload.length)];
  const out = new Uint8Array(head.length + body.length + payload.length);
  out.set(head);
  out.set(body, head.length);
  out.set(payload, head.length + body.length);
  return out;
}

/** Reads the fields of one packet. */
class Reader {
  constructor(data) {
    this.data = data;
    this.at = 0;
  }

  get left() {
    return this.data.length - this.at;
  }

  take(length) {
    if (length > this.left) throw new Error('the packet ends early');
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }

  byte() { return this.take(1)[0]; }
  two() { const d = this.take(2); return d[0] * 256 + d[1]; }
  four() { return this.two() * 65536 + this.two(); }
  datum() { return this.take(this.two()); }
  text() { return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.datum()); }

  variable() {
    let value = 0;
    for (let factor = 1; factor <= 128 ** 3; factor *= 128) {
      const b = this.byte();
      value += (b & 0x7f) * factor;
      if (b < 0x80) return value;
    }
    throw new Error('a length of more than four bytes');
  }

  properties() {
    const inner = new Reader(this.take(this.variable()));
    const found = {};
    while (inner.left) {
      const [name, kind] = PROPERTIES[inner.variable()] || [];
      if (!name) throw new Error('an unknown property');
      if (kind === 'pair') (found[name] ||= []).push([inner.text(), inner.text()]);
      else if (kind === 'data') found[name] = inner.datum();
      else found[name] = inner[kind]();
    }
    return found;
  }
}

/**
 * One connection. `on`: `open(properties)`, `message(message)`, `close(why)`, each called with plain values. It does not
 * connect again by itself: the console says that it ended, and a person decides.
 */
export class Client {
  constructor(url, { clientId = '', keepAlive = KEEP_ALIVE, on }) {
    this.on = on;
    this.keepAlive = keepAlive;
    this.pings = 0;
    this.pongs = 0;
    this.pending = new Map();
    this.waiting = [];
    this.incoming = new Set();
    this.window = 65535;
    this.next = 0;
    this.received = new Uint8Array();
    this.why = null;
    this.socket = new WebSocket(url, 'mqtt');
    this.socket.binaryType = 'arraybuffer';
    this.socket.onopen = () => this.#send(this.#connect(clientId));
    this.socket.onmessage = (event) => this.#feed(event.data);
    this.socket.onclose = () => this.#ended();
  }

  #connect(clientId) {
    const properties = [0x21, ...two(RECEIVE_MAXIMUM), 0x27, ...two(LARGEST >> 16), ...two(LARGEST & 0xffff)];
    return packet(0x10, [...text('MQTT'), 5, 0x02, ...two(this.keepAlive), ...variable(properties.length), ...properties, ...text(clientId)]);
  }

  /** Resolves with the reason code of the last acknowledgement, at once for QoS 0. */
  publish(topic, payload, { qos = 0, retain = false } = {}) {
    if (qos === 0) {
      this.#send(packet(0x30 | (retain ? 1 : 0), [...text(topic), 0], payload));
      return Promise.resolve(0);
    }
    return this.#acknowledged((id) => packet(0x30 | (qos << 1) | (retain ? 1 : 0), [...text(topic), ...two(id), 0], payload), true);
  }

  /** Resolves with the granted QoS; fails when it is refused. */
  async subscribe(filter, { qos = 0, noLocal = false } = {}) {
    const code = await this.#acknowledged((id) => packet(0x82, [...two(id), 0, ...text(filter), qos | (noLocal ? 4 : 0)]));
    if (code >= 0x80) throw new Error(reason(code));
    return code;
  }

  async unsubscribe(filter) {
    const code = await this.#acknowledged((id) => packet(0xa2, [...two(id), 0, ...text(filter)]));
    if (code >= 0x80) throw new Error(reason(code));
  }

  close() {
    if (this.socket.readyState === WebSocket.OPEN) this.#send(packet(0xe0, [0, 0]));
    this.why ??= 'disconnected';
    this.socket.close();
  }

  /** Sends what `make` makes with a free packet identifier, no more at once than the broker takes [MQTT-3.3.4-9]. */
  #acknowledged(make, counted = false) {
    return new Promise((resolve, reject) => {
      if (this.socket.readyState !== WebSocket.OPEN) {
        reject(new Error('not connected'));
        return;
      }
      this.waiting.push({ make, counted, resolve, reject });
      this.#drain();
    });
  }

  #drain() {
    while (this.waiting.length && this.pending.size < 65535) {
      const first = this.waiting[0];
      if (first.counted && this.window === 0) return;
      this.waiting.shift();
      do this.next = (this.next % 65535) + 1; while (this.pending.has(this.next));
      const id = this.next;
      try {
        const data = first.make(id);
        if (first.counted) this.window -= 1;
        this.pending.set(id, first);
        this.#send(data);
      } catch (error) {
        first.reject(error);
      }
    }
  }

  #done(id, code) {
    const one = this.pending.get(id);
    if (!one) return;
    this.pending.delete(id);
    if (one.counted) this.window += 1;
    one.resolve(code);
    this.#drain();
  }

  #send(data) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(data);
  }

  #fail(why) {
    this.why ??= why;
    this.socket.close();
  }

  #ended() {
    clearInterval(this.timer);
    this.why ??= 'the connection ended';
    for (const one of [...this.pending.values(), ...this.waiting]) one.reject(new Error(this.why));
    this.pending.clear();
    this.waiting = [];
    this.on.close(this.why);
  }

  /** A packet may come in pieces, and a piece may hold several. */
  #feed(piece) {
    const more = new Uint8Array(piece);
    const all = new Uint8Array(this.received.length + more.length);
    all.set(this.received);
    all.set(more, this.received.length);
    let at = 0;
    try {
      for (;;) {
        const head = new Reader(all.subarray(at));
        // A length that is not all there yet.
        if (head.left < 2 || (head.left < 5 && all.subarray(at + 1).every((b) => b > 127))) break;
        const first = head.byte();
        const length = head.variable();
        if (head.left < length) break;
        this.#handle(first, new Reader(head.take(length)));
        at += head.at;
      }
    } catch (error) {
      this.#fail(`not understood: ${error.message}`);
      return;
    }
    this.received = all.subarray(at);
  }

  #handle(first, fields) {
    switch (first >> 4) {
      case 2: return this.#connack(fields);
      case 3: return this.#publish(first, fields);
      case 4: case 7: return this.#done(fields.two(), fields.left ? fields.byte() : 0);
      case 5: return this.#pubrec(fields);
      case 6: return this.#pubrel(fields);
      case 9: case 11: {
        const id = fields.two();
        fields.properties();
        return this.#done(id, fields.byte());
      }
      case 13: this.pongs += 1; return undefined;
      case 14: {
        const code = fields.left ? fields.byte() : 0;
        const told = fields.left ? fields.properties().reasonString : null;
        return this.#fail(`the broker disconnected: ${told || reason(code)}`);
      }
      default: throw new Error(`a packet of type ${first >> 4}`);
    }
  }

  #connack(fields) {
    fields.byte();
    const code = fields.byte();
    const properties = fields.properties();
    if (code !== 0) {
      this.#fail(`refused: ${properties.reasonString || reason(code)}`);
      return;
    }
    this.window = properties.receiveMaximum ?? 65535;
    const every = properties.serverKeepAlive ?? this.keepAlive;
    if (every) this.timer = setInterval(() => {
      if (this.pongs < this.pings) this.#fail('the broker no longer answers');
      this.pings += 1;
      this.#send(packet(0xc0, []));
    }, every * 500);
    this.on.open(properties);
  }

  #publish(first, fields) {
    const qos = (first >> 1) & 3;
    const topic = fields.text();
    const id = qos ? fields.two() : 0;
    const properties = fields.properties();
    const message = { topic, qos, retain: (first & 1) === 1, again: (first & 8) === 8, properties, payload: fields.take(fields.left).slice() };
    // At QoS 2 the identifier is this message until PUBREL, however often it is sent [MQTT-4.3.3-10].
    const known = qos === 2 && this.incoming.has(id);
    if (qos === 2) this.incoming.add(id);
    if (!known) this.on.message(message);
    if (qos) this.#send(packet(qos === 1 ? 0x40 : 0x50, two(id)));
  }

  #pubrec(fields) {
    const id = fields.two();
    const code = fields.left ? fields.byte() : 0;
    if (code >= 0x80) this.#done(id, code);
    else this.#send(packet(0x62, two(id)));
  }

  #pubrel(fields) {
    const id = fields.two();
    const known = this.incoming.delete(id);
    this.#send(packet(0x70, known ? two(id) : [...two(id), 0x92]));
  }
}
