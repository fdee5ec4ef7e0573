// Publish and subscribe by hand, over a WebSocket to the broker that serves this page.

import { address } from './api.js';
import { bytes, clockTime, count, hex, utf8, visible } from './format.js';
import { Client, reason } from './mqtt.js';
import { MOST, bounded } from './trace.js';
import { field, h, name, outcome, panel, run, say } from './ui.js';

const QOS = [['0', '0: at most once'], ['1', '1: at least once'], ['2', '2: exactly once']];

function shown(message) {
  if (message.payload.length === 0) return h('span', { class: 'none' }, '(empty)');
  const text = utf8(message.payload);
  if (text === null) return h('pre', {}, hex(message.payload, 256));
  const long = text.length > 2000;
  return h('pre', {}, h('bdi', {}, long ? text.slice(0, 2000) : text), long ? ` … ${bytes(message.payload.length)} in all` : '');
}

function line(message) {
  const marks = [`QoS ${message.qos}`, message.retain ? 'retained' : '', message.again ? 'sent again' : ''].filter(Boolean).join(', ');
  return h('li', {},
    h('div', { class: 'head' }, h('time', {}, clockTime(message.at)), ' ', name(message.topic, { class: 'whole' }), ' ',
      h('small', {}, `${marks}, ${bytes(message.payload.length)}`)), shown(message));
}

export function console_(root) {
  const state = h('strong', { role: 'status' }, 'Not connected');
  const result = outcome();
  const connect = h('button', { type: 'button' }, 'Connect');
  const filter = field('Topic filter', { value: '#', required: true });
  const filterQos = field('QoS', {}, QOS);
  const subscribe = h('button', {}, 'Subscribe');
  const subscriptions = h('ul', { class: 'chips', 'aria-label': 'Subscribed' });
  const topic = field('Topic', { placeholder: 'plant/7/temperature', required: true });
  const body = field('Payload', { rows: 3 });
  const qos = field('QoS', {}, QOS);
  const retain = field('Retain', { type: 'checkbox' });
  const publish = h('button', {}, 'Publish');
  const published = outcome();
  const pause = h('button', { type: 'button', class: 'small', 'aria-pressed': 'false' }, 'Pause');
  const clear = h('button', { type: 'button', class: 'small' }, 'Clear');
  const number = h('span', { class: 'place' });
  const log = bounded('Messages, newest first', line);
  let client = null;
  let open = false;
  let paused = false;
  let seen = 0;
  let missed = 0;

  function showState(text, isOpen) {
    open = isOpen;
    say(state, text);
    say(connect, client ? 'Disconnect' : 'Connect');
    subscribe.disabled = publish.disabled = !isOpen;
  }

  function showNumber() {
    const held = missed ? `, ${count(missed)} of them not shown while paused` : '';
    say(number, `${count(seen)} messages${held}, the last ${MOST} are kept`);
  }

  function start() {
    const url = address('mqtt');
    url.protocol = url.protocol.replace('http', 'ws');
    result.show('');
    client = new Client(url, {
      clientId: `console-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`,
      on: {
        open: () => showState('Connected', true),
        message(message) {
          seen += 1;
          if (paused) missed += 1;
          else log.add({ ...message, at: Date.now() });
          showNumber();
        },
        close(why) {
          client = null;
          subscriptions.replaceChildren();
          showState('Not connected', false);
          if (why !== 'disconnected') result.show(why, true);
        },
      },
    });
    showState('Connecting', false);
  }

  connect.addEventListener('click', () => (client ? client.close() : start()));

  function chip(text, granted) {
    const end = h('button', { type: 'button', class: 'small' }, 'Unsubscribe');
    end.setAttribute('aria-label', `Unsubscribe from ${visible(text)}`);
    const item = h('li', {}, name(text), h('small', {}, ` QoS ${granted} `), end);
    item.filter = text;
    end.addEventListener('click', () => run(end, result, async () => {
      await client.unsubscribe(text);
      item.remove();
    }));
    return item;
  }

  const subscribing = h('form', { class: 'filters' }, filter.element, filterQos.element, subscribe);
  subscribing.addEventListener('submit', (event) => {
    event.preventDefault();
    run(subscribe, result, async () => {
      result.show('');
      const text = filter.input.value;
      const granted = await client.subscribe(text, { qos: Number(filterQos.input.value) });
      for (const item of [...subscriptions.children]) if (item.filter === text) item.remove();
      subscriptions.append(chip(text, granted));
    }).then(() => { subscribe.disabled = !open; });
  });

  const publishing = h('form', {}, topic.element, body.element, h('div', { class: 'filters' }, qos.element, retain.element, publish), published.element);
  publishing.addEventListener('submit', (event) => {
    event.preventDefault();
    run(publish, published, async () => {
      published.show('');
      const level = Number(qos.input.value);
      const data = new TextEncoder().encode(body.input.value);
      const code = await client.publish(topic.input.value, data, { qos: level, retain: retain.input.checked });
      if (code >= 0x80) throw new Error(reason(code));
      return level ? `Acknowledged: ${reason(code)}.` : 'Sent. QoS 0 has no acknowledgement.';
    }).then(() => { publish.disabled = !open; });
  });

  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    say(pause, paused ? 'Go on' : 'Pause');
  });
  clear.addEventListener('click', () => {
    log.clear();
    seen = missed = 0;
    showNumber();
  });

  root.append(
    h('div', { class: 'heading' }, h('h1', {}, 'Console'), h('div', { class: 'row' }, state, connect)),
    result.element,
    h('div', { class: 'columns' },
      panel('Subscribe', subscribing, subscriptions),
      panel('Publish', publishing)),
    panel('Messages', h('div', { class: 'row pages start' }, pause, clear, number), log.element));
  showNumber();
  start();
  return {
    title: 'Console',
    close() {
      client?.close();
    },
  };
}
