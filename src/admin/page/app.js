// Which screen is shown, how often it asks, and who may see it.

import { api, whenLoggedOut } from './api.js';
import { bridge, bridges } from './bridges.js';
import { client } from './client.js';
import { config } from './config.js';
import { console_ } from './console.js';
import { remember } from './history.js';
import { clients, sessions, subscriptions } from './lists.js';
import { overview, sign, verdict } from './overview.js';
import { message, retained } from './retained.js';
import { trace } from './trace.js';
import { field, h, outcome, run, say } from './ui.js';

const EVERY = 2000;
const SLOWEST = 30_000;

const SCREENS = [
  ['', 'Overview', overview],
  ['clients', 'Clients', clients, client],
  ['sessions', 'Sessions', sessions],
  ['subscriptions', 'Subscriptions', subscriptions],
  ['retained', 'Retained', retained, message],
  ['bridges', 'Bridges', bridges, bridge],
  ['console', 'Console', console_],
  ['trace', 'Trace', trace],
  ['config', 'Config', config],
];

const main = document.getElementById('main');
const nav = document.getElementById('nav');
const health = document.getElementById('health');
const trouble = document.getElementById('trouble');

let screen = null;
let timer = 0;
let failures = 0;
// Counts the screens, so that an answer for one that was left is not shown on the next.
let turn = 0;

const links = SCREENS.map(([path, title]) => h('a', { href: `#/${path}` }, title));
nav.append(...links);

function show(make, index) {
  turn += 1;
  screen?.close?.();
  main.replaceChildren();
  main.classList.remove('stale');
  links.forEach((link, i) => (i === index ? link.setAttribute('aria-current', 'page') : link.removeAttribute('aria-current')));
  links[index]?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  screen = make(main);
  document.title = screen.title === 'Overview' ? 'Nightjar' : `${screen.title} · Nightjar`;
  schedule(0);
}

function route(moved) {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const cut = path.indexOf('/');
  const first = cut < 0 ? path : path.slice(0, cut);
  const index = SCREENS.findIndex(([name]) => name === first);
  const [, , all, one] = SCREENS[index] || [];
  let rest = '';
  try {
    rest = cut < 0 ? '' : decodeURIComponent(path.slice(cut + 1));
  } catch { /* an address that nobody made here */ }
  if (index < 0 || (rest && !one)) show(nowhere, -1);
  else if (rest) show((root) => one(root, rest), index);
  else show((root) => all(root, rest, new URLSearchParams(query)), index);
  if (moved) {
    main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

function nowhere(root) {
  root.append(h('p', { class: 'panel empty' }, 'There is no such screen. ', h('a', { href: '#/' }, 'To the overview')));
  return { title: 'Not found' };
}

function schedule(delay) {
  clearTimeout(timer);
  // A hidden tab asks nothing.
  if (document.hidden || !screen || screen.login) return;
  timer = setTimeout(ask, delay);
}

async function ask() {
  const mine = turn;
  const asking = screen;
  let known = false;
  try {
    const status = await api('status');
    known = true;
    if (mine !== turn) return;
    remember(status);
    showHealth(status);
    asking.status?.(status);
    await asking.refresh?.();
    if (mine !== turn) return;
    failures = 0;
    trouble.hidden = true;
    main.classList.remove('stale');
    schedule(EVERY);
  } catch (error) {
    if (mine !== turn) return;
    // Not an answer of the broker but a mistake of this page: it is told, and the next round may go better.
    if (error.status === undefined) console.error(error);
    failures += 1;
    const wait = Math.min(SLOWEST, EVERY * 2 ** (failures - 1));
    say(trouble, `Not up to date: ${error.message}. Trying again every ${Math.round(wait / 1000)} seconds.`);
    trouble.hidden = false;
    health.hidden = !known;
    main.classList.toggle('stale', !known);
    if (!known) asking.stale?.(error.message);
    schedule(wait);
  }
}

function showHealth(status) {
  const now = verdict(status);
  health.hidden = false;
  health.className = `health ${now.mark}`;
  say(health, `${sign(now.mark)} ${now.short}`);
}

function login(root) {
  const token = field('Token', { type: 'password', required: true, autocomplete: 'current-password',
    hint: 'It is in the file admin.token of the data folder, unless [admin] token sets it.' });
  const button = h('button', {}, 'Log in');
  const result = outcome();
  const form = h('form', { class: 'panel login' }, h('h1', {}, 'Nightjar'), token.element, button, result.element);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    run(button, result, async () => {
      try {
        await api('login', { method: 'POST', body: { token: token.input.value.trim() } });
      } catch (error) {
        throw error.status === 401 || error.status === 403 ? new Error('this is not the token') : error;
      }
      document.body.classList.remove('out');
      route(true);
    });
  });
  root.append(form);
  setTimeout(() => token.input.focus(), 0);
  return { title: 'Log in', login: true };
}

whenLoggedOut(() => {
  if (screen?.login) return;
  document.body.classList.add('out');
  health.hidden = trouble.hidden = true;
  show(login, -1);
});

document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener('hashchange', () => {
  if (!screen?.login) route(true);
});
document.addEventListener('visibilitychange', () => schedule(0));
route(false);
