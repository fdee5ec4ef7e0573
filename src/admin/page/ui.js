// Pieces of a screen. Whatever a client chose to call itself goes in as text, never as markup.

import { visible } from './format.js';

/** An element: `h('a', { href: '#/', class: 'x', onclick: f }, 'text', element)`. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Sets text only when it changed, so that a selection in it survives. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A name from outside: kept to its own direction, an empty one said in words. */
export function name(text, properties = {}) {
  const element = h('bdi', properties);
  element.classList.add('name');
  setName(element, text);
  return element;
}

function setName(element, text) {
  const none = text === '' || text === null || text === undefined;
  element.classList.toggle('none', none);
  say(element, none ? (text === '' ? '(empty)' : '(none)') : visible(text));
  if (!none && text.length > 40) element.title = visible(text);
}

/** Tells those who do not see the screen. */
export function announce(text) {
  document.getElementById('said').textContent = text;
}

export function panel(title, ...content) {
  return h('section', { class: 'panel' }, h('h2', {}, title), ...content);
}

let fields = 0;

/** An input with its label; `choices` makes it a list. */
export function field(label, properties = {}, choices) {
  const id = `f${(fields += 1)}`;
  const { hint, ...rest } = properties;
  const tag = choices ? 'select' : rest.rows ? 'textarea' : 'input';
  if (hint) rest['aria-describedby'] = `${id}h`;
  const input = h(tag, { id, autocomplete: 'off', ...rest });
  if (tag !== 'select') input.spellcheck = false;
  for (const choice of choices || []) {
    const [value, text] = Array.isArray(choice) ? choice : [choice, choice];
    input.append(h('option', { value }, text));
  }
  const check = rest.type === 'checkbox';
  const title = h('label', { for: id }, label);
  const element = h('div', { class: check ? 'field check' : 'field' }, check ? [input, title] : [title, input]);
  if (hint) element.append(h('small', { id: `${id}h` }, hint));
  return { element, input };
}

/** Asks before something that cannot be taken back. */
export function confirm(question, action, subject) {
  return new Promise((resolve) => {
    const dialog = h('dialog', { class: 'ask', 'aria-labelledby': 'ask-title' },
      h('form', { method: 'dialog' },
        h('h2', { id: 'ask-title' }, question),
        subject === undefined ? null : h('p', { class: 'subject' }, name(subject)),
        h('div', { class: 'row end' },
          h('button', { value: 'no' }, 'Cancel'),
          h('button', { value: 'yes', class: 'danger' }, action))));
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A place for the outcome of an action. */
export function outcome() {
  const element = h('p', { class: 'outcome', role: 'status', hidden: true });
  return {
    element,
    show(text, bad = false) {
      element.hidden = !text;
      element.classList.toggle('bad', bad);
      say(element, text ? (bad ? 'Failed: ' : '') + text : '');
    },
  };
}

/** Runs an action of a button: once at a time, with its failure shown. */
export async function run(button, result, action) {
  button.disabled = true;
  try {
    const text = await action();
    if (text) result.show(text);
  } catch (error) {
    result.show(error.message, true);
  } finally {
    button.disabled = false;
  }
}

/** Label and value, updated in place: `update([['User', 'x'], ['Id', { name: '…' }], ['Link', { text, href }]])`. */
export function facts() {
  const element = h('dl', { class: 'facts' });
  const rows = new Map();
  return {
    element,
    update(pairs) {
      const seen = new Set();
      for (const [label, value] of pairs) {
        seen.add(label);
        let row = rows.get(label);
        if (!row) {
          row = h('dd');
          rows.set(label, row);
          element.append(h('div', {}, h('dt', {}, label), row));
        }
        fill(row, value);
      }
      for (const [label, row] of rows) {
        if (seen.has(label)) continue;
        row.parentElement.remove();
        rows.delete(label);
      }
    },
  };
}

/** Puts a value into a cell: text, a name, a link, something with a class of its own. */
function fill(cell, value) {
  const wanted = value !== null && typeof value === 'object' ? value : { text: value };
  const isName = 'name' in wanted;
  const kind = `${wanted.href !== undefined}${isName}`;
  if (cell.kind !== kind) {
    cell.kind = kind;
    cell.replaceChildren();
    let inner = cell;
    if (wanted.href !== undefined) {
      inner = h('a');
      cell.append(inner);
    }
    if (isName) {
      const own = name('');
      inner.append(own);
      inner = own;
    }
    cell.inner = inner;
  }
  if (wanted.href !== undefined && cell.firstChild.getAttribute('href') !== wanted.href) cell.firstChild.href = wanted.href;
  if (isName) setName(cell.inner, wanted.name);
  else say(cell.inner, String(wanted.text ?? '–'));
  if (wanted.title) cell.title = wanted.title;
  const mark = wanted.mark || '';
  if (cell.mark !== mark) {
    if (cell.mark) cell.classList.remove(cell.mark);
    if (mark) cell.classList.add(mark);
    cell.mark = mark;
  }
}

/**
 * A table whose rows stay the same elements while their values change, so that focus and selection stay too. On a
 * narrow screen each row is a card, unless the table is `compact` (the roles keep it a table to those who listen).
 * Columns: `{ title, value(item), number }`; actions: `{ title, danger, run(item, button) }`.
 */
export function table(caption, columns, { key, actions = [], empty = 'Nothing here.', compact = false }) {
  const head = h('tr', { role: 'row' }, columns.map((c) =>
    h('th', { role: 'columnheader', scope: 'col', class: c.number ? 'number' : '' }, c.title)));
  if (actions.length) head.append(h('th', { role: 'columnheader', scope: 'col' }, h('span', { class: 'unseen' }, 'Actions')));
  const body = h('tbody', { role: 'rowgroup' });
  const none = h('p', { class: 'empty', hidden: true }, empty);
  const grid = h('table', { role: 'table', 'aria-label': caption, class: compact ? 'compact' : 'cards' }, h('thead', { role: 'rowgroup' }, head), body);
  const element = h('div', { class: 'table' }, grid, none);
  let rows = new Map();

  function makeRow() {
    const row = h('tr', { role: 'row' });
    row.cells_ = columns.map((c) => {
      const inner = h('span', { class: 'cell' });
      row.append(h('td', { role: 'cell', 'data-label': c.title, class: c.number ? 'number' : '' }, inner));
      return inner;
    });
    if (actions.length) {
      row.append(h('td', { role: 'cell', class: 'actions' }, actions.map((a) => {
        const button = h('button', { type: 'button', class: a.danger ? 'small danger' : 'small' }, a.title);
        button.addEventListener('click', () => a.run(row.item, button));
        return button;
      })));
    }
    return row;
  }

  return {
    element,
    update(items) {
      const next = new Map();
      let last = null;
      for (const item of items) {
        let id = key(item);
        while (next.has(id)) id += '\u0000';
        const row = rows.get(id) || makeRow();
        row.item = item;
        columns.forEach((c, i) => fill(row.cells_[i], c.value(item)));
        const place = last ? last.nextSibling : body.firstChild;
        if (place !== row) body.insertBefore(row, place);
        next.set(id, row);
        last = row;
      }
      for (const [id, row] of rows) if (!next.has(id)) row.remove();
      rows = next;
      grid.hidden = items.length === 0;
      none.hidden = items.length > 0;
    },
  };
}
