// The configuration in effect, reload, log level.

import { api } from './api.js';
import { field, h, outcome, panel, run, say } from './ui.js';

const LEVELS = ['error', 'warn', 'info', 'debug', 'trace'];

function listed(title, items) {
  return items?.length ? `${title}: ${items.join(', ')}.` : '';
}

export function config(root) {
  const text = h('pre', { class: 'toml', tabindex: '0', 'aria-label': 'Configuration as TOML' });
  const reload = h('button', { type: 'button' }, 'Reload the files');
  const reloaded = outcome();
  const mistakes = h('ul', { class: 'mistakes' });
  const level = field('Log level', { hint: 'Holds until the next start or reload.' }, LEVELS);
  const set = outcome();
  const scope = h('p', { class: 'note' });
  const leave = h('button', { type: 'button' }, 'Log out');
  const left = outcome();
  root.append(
    h('h1', {}, 'Configuration'),
    h('div', { class: 'columns' },
      panel('Reload', h('p', { class: 'note' }, 'Reads the configuration and the files it names again. One mistake, and nothing changes.'),
        reload, reloaded.element, mistakes),
      panel('Log', level.element, set.element),
      panel('This page', scope, leave, left.element)),
    panel('In effect', h('p', { class: 'note' }, 'Every setting with its value, secrets masked.'), text));

  reload.addEventListener('click', () => run(reload, reloaded, async () => {
    mistakes.replaceChildren();
    try {
      const done = await api('reload', { method: 'POST', body: {} });
      await read();
      return [listed('Applied', done.applied), listed('Takes effect after a restart', done.needs_restart)]
        .filter(Boolean).join(' ') || 'Nothing had changed.';
    } catch (error) {
      const told = (error.body?.mistakes || []).map((m) => h('li', {}, typeof m === 'string' ? m : JSON.stringify(m)));
      mistakes.replaceChildren(...told);
      throw error;
    }
  }));
  // An answer asked for before a choice does not undo it.
  let choices = 0;
  level.input.addEventListener('change', () => run(level.input, set, async () => {
    choices += 1;
    const wanted = level.input.value;
    await api('log', { method: 'PUT', body: { level: wanted } });
    return `The log now tells ${wanted} and above.`;
  }));

  leave.addEventListener('click', () => run(leave, left, async () => {
    await api('login', { method: 'DELETE' });
    location.reload();
  }));

  async function read() {
    const before = choices;
    const [effective, log, who] = await Promise.all([api('config'), api('log'), api('login')]);
    say(scope, who.scope === 'read' ? 'You may look at everything and change nothing.' : 'You may look and change.');
    say(text, effective.toml);
    const now = String(log.level).toLowerCase();
    if (!LEVELS.includes(now) && ![...level.input.options].some((o) => o.value === now)) level.input.append(h('option', { value: now }, now));
    if (before === choices && document.activeElement !== level.input) level.input.value = now;
  }

  return { title: 'Configuration', refresh: read };
}
