// Retained messages: find, read, delete.

import { api, segment } from './api.js';
import { ago, bytes, count, fromBase64, fullTime, hex, utf8, visible, words } from './format.js';
import { list } from './lists.js';
import { confirm, facts, h, name, outcome, panel, run } from './ui.js';

async function remove(topic, button, result) {
  if (!(await confirm('Delete this retained message?', 'Delete', topic))) return false;
  let done = false;
  await run(button, result, async () => {
    await api(`retained/${segment(topic)}`, { method: 'DELETE' });
    done = true;
    return 'Deleted.';
  });
  return done;
}

export function retained(root, _rest, parameters) {
  return list(root, {
    title: 'Retained messages', path: 'retained', parameters, key: (row) => row.topic, empty: 'No retained message like that.',
    filters: [{ name: 'filter', label: 'Topic filter', placeholder: 'plant/+/temperature or plant/#' }],
    columns: [
      { title: 'Topic', value: (row) => ({ name: row.topic, href: `#/retained/${segment(row.topic)}` }) },
      { title: 'Payload', value: (row) => (row.payload_preview === null ? { text: '(not text)', mark: 'none' } : { name: row.payload_preview }) },
      { title: 'Size', number: true, value: (row) => bytes(row.bytes) },
      { title: 'QoS', number: true, value: (row) => row.qos },
      { title: 'Retained', value: (row) => ({ text: ago(row.retained_at), title: fullTime(row.retained_at) }) },
      { title: 'Expires', value: (row) => (row.expires_at ? { text: ago(row.expires_at), title: fullTime(row.expires_at) } : 'never') },
    ],
    actions: (result, refresh) => [{
      title: 'Delete', danger: true,
      run: async (row, button) => { if (await remove(row.topic, button, result)) refresh().catch(() => {}); },
    }],
  });
}

/** The ways to read a payload; those that do not fit are not offered. */
export function readings(data) {
  const ways = [];
  const text = utf8(data);
  if (text !== null) {
    try {
      const value = JSON.parse(text);
      if (value !== null && typeof value === 'object') ways.push(['JSON', JSON.stringify(value, null, 2)]);
    } catch { /* not JSON, then as text */ }
    ways.push(['Text', text]);
  }
  ways.push(['Hex', hex(data)]);
  return ways;
}

/** A payload with a button for each way to read it. */
export function payload() {
  const box = h('pre', { class: 'payload', tabindex: '0', 'aria-label': 'Payload' });
  const buttons = h('div', { class: 'row ways', role: 'group', 'aria-label': 'Show as' });
  const element = h('div', {}, buttons, box);
  let chosen = null;
  let shown = null;
  return {
    element,
    update(data) {
      const ways = readings(data);
      const fingerprint = ways.at(-1)[1] + data.length;
      if (fingerprint === shown) return;
      shown = fingerprint;
      const show = (way) => {
        chosen = way;
        const [, text] = ways.find(([title]) => title === way) || ways[0];
        box.textContent = text;
        box.classList.toggle('empty', data.length === 0);
        if (data.length === 0) box.textContent = '(empty)';
        for (const b of buttons.children) b.setAttribute('aria-pressed', String(b.textContent === (ways.some(([t]) => t === way) ? way : ways[0][0])));
      };
      buttons.replaceChildren(...ways.map(([title]) => h('button', { type: 'button', class: 'small', onclick: () => show(title) }, title)));
      show(chosen || ways[0][0]);
    },
  };
}

/** A property's value as text; user properties are names and values. */
function plainly(value) {
  if (Array.isArray(value)) return value.map((pair) => `${pair.name}: ${pair.value}`).join(', ');
  return String(value);
}

const SHOWN = ['topic', 'payload_base64', 'payload_text', 'payload_preview', 'qos', 'bytes', 'retained_at', 'expires_at'];

export function message(root, topic) {
  const result = outcome();
  const about = facts();
  const body = payload();
  const button = h('button', { type: 'button', class: 'danger' }, 'Delete');
  const there = h('div', { class: 'stack' }, panel('Payload', body.element), panel('Message', about.element));
  const gone = h('p', { class: 'panel empty', hidden: true }, 'This topic has no retained message.');
  root.append(
    h('p', { class: 'path' }, h('a', { href: '#/retained' }, 'Retained messages')),
    h('div', { class: 'heading' }, h('h1', {}, name(topic, { class: 'whole' })), button), result.element, gone, there);
  button.addEventListener('click', async () => { if (await remove(topic, button, result)) refresh().catch(() => {}); });

  async function refresh() {
    let found = null;
    try {
      found = await api(`retained/${segment(topic)}`);
    } catch (error) {
      if (error.status !== 404) throw error;
    }
    gone.hidden = found !== null;
    there.hidden = button.hidden = found === null;
    if (!found) return;
    const data = fromBase64(found.payload_base64 || '');
    body.update(data);
    const more = Object.entries(found).filter(([key, value]) => !SHOWN.includes(key) && value !== null && plainly(value) !== '');
    about.update([
      ['Size', `${count(data.length)} bytes`],
      ['QoS', found.qos],
      ['Expires', found.expires_at ? { text: ago(found.expires_at), title: fullTime(found.expires_at) } : 'never'],
      ...more.map(([key, value]) => [words(key), { name: plainly(value) }]),
    ]);
  }

  return { title: visible(topic), refresh };
}
