// What the broker does for one client, topic or address, as it happens.

import { open } from './api.js';
import { clockTime, visible, words } from './format.js';
import { field, h, outcome, panel, say } from './ui.js';

export const MOST = 500;

/** A list that grows at its top and forgets at its end, drawn once a frame however much comes. */
export function bounded(label, draw) {
  const element = h('ol', { class: 'log', tabindex: '0', 'aria-label': label });
  let waiting = [];
  let planned = 0;
  return {
    element,
    add(item) {
      waiting.push(item);
      if (waiting.length > MOST) waiting.shift();
      // A hidden tab draws no frames; what waits is bounded.
      if (!planned) planned = requestAnimationFrame(() => {
        planned = 0;
        element.prepend(...waiting.reverse().map(draw));
        waiting = [];
        while (element.childElementCount > MOST) element.lastElementChild.remove();
      });
    },
    clear() {
      waiting = [];
      element.replaceChildren();
    },
  };
}

const TIMES = ['at', 'time', 'timestamp'];
const KINDS = ['event', 'kind', 'what'];

function line(event) {
  const time = TIMES.find((key) => key in event);
  const kind = KINDS.find((key) => key in event);
  const rest = Object.entries(event).filter(([key, value]) => key !== time && key !== kind && value !== null);
  return h('li', {},
    h('time', {}, clockTime(time ? event[time] : Date.now())), ' ',
    h('strong', {}, kind ? words(event[kind]) : 'Event'), ' ',
    rest.map(([key, value]) => h('span', { class: 'pair' }, h('i', {}, words(key).toLowerCase()), ' ',
      h('bdi', {}, visible(typeof value === 'object' ? JSON.stringify(value) : value)), ' ')));
}

/** Gives each line of a stream as JSON. */
async function lines(body, give) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split('\n');
    rest = parts.pop();
    for (const part of parts) if (part.trim()) give(JSON.parse(part));
  }
}

export function trace(root, _rest, parameters) {
  const client = field('Client identifier', { value: parameters.get('client') || '' });
  const topic = field('Topic filter', { value: parameters.get('topic') || '', placeholder: 'plant/#' });
  const address = field('Address', { value: parameters.get('address') || '' });
  const seconds = field('For', {}, [['60', '1 minute'], ['300', '5 minutes'], ['600', '10 minutes']]);
  const button = h('button', {}, 'Start');
  const result = outcome();
  const log = bounded('Events, newest first', line);
  const number = h('span', { class: 'place' });
  const form = h('form', { class: 'filters' }, client.element, topic.element, address.element, seconds.element, button);
  let running = null;

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (running) {
      running.abort();
      return;
    }
    const wanted = { client: client.input.value, topic: topic.input.value, address: address.input.value };
    if (!Object.values(wanted).some(Boolean)) {
      result.show('name a client, a topic or an address', true);
      return;
    }
    running = new AbortController();
    say(button, 'Stop');
    log.clear();
    let seen = 0;
    say(number, '');
    result.show('Tracing.');
    try {
      const answer = await open('trace', { parameters: { ...wanted, seconds: seconds.input.value }, signal: running.signal });
      await lines(answer.body, (item) => {
        log.add(item);
        seen += 1;
        say(number, `${seen} events`);
      });
      result.show('The time is over.');
    } catch (error) {
      if (running.signal.aborted) result.show('Stopped.');
      else result.show(error.status === undefined ? 'the connection to the broker broke' : error.message, true);
    }
    running = null;
    say(button, 'Start');
  });

  root.append(h('h1', {}, 'Trace'),
    h('p', { class: 'note' }, 'What the broker does for one client, topic or address, as it happens. Payloads are never part of it.'),
    form, result.element, panel('Events', number, log.element));
  return { title: 'Trace', close: () => running?.abort() };
}
