// Numbers, times and names as text. Nothing here touches the document.

const whole = new Intl.NumberFormat('en');

export function count(value) {
  return value === null || value === undefined ? '–' : whole.format(value);
}

/** The value of a limit; what is larger than any number of things is none. */
export function bound(value) {
  return typeof value === 'number' && value < Number.MAX_SAFE_INTEGER ? count(value) : 'any number';
}

/** Three digits at most: 0, 0.4, 12, 3.4 k, 120 M. */
export function short(value) {
  if (value === null || value === undefined) return '–';
  let rest = value;
  for (const unit of ['', ' k', ' M', ' G', ' T']) {
    if (Math.abs(rest) < 999.5 || unit === ' T') return digits(rest) + unit;
    rest /= 1000;
  }
}

function digits(value) {
  if (value === 0) return '0';
  return Math.abs(value) < 9.95 && !Number.isInteger(value) ? value.toFixed(1) : String(Math.round(value));
}

export function bytes(value) {
  if (value === null || value === undefined) return '–';
  const text = short(value);
  return /[a-z]$/i.test(text) ? text.replace('k', 'kB').replace(/([MGT])$/, '$1B') : text + ' B';
}

export function perSecond(value) {
  return short(value) + '/s';
}

/** Microseconds as milliseconds, as finely as they matter. */
export function milliseconds(micros) {
  if (micros === null || micros === undefined) return '–';
  const ms = micros / 1000;
  return (ms < 0.1 ? ms.toFixed(2) : ms < 10 ? ms.toFixed(1) : Math.round(ms)) + ' ms';
}

/** Seconds as the two largest units, or as one where the second says little. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const parts = [];
  let rest = Math.max(0, Math.round(seconds));
  for (const [name, size] of units) {
    const n = Math.floor(rest / size);
    rest -= n * size;
    if (n) parts.push(`${n} ${name}`);
    else if (parts.length) break;
    if (parts.length === 2 || n > 9) break;
  }
  return parts.join(' ') || '0 s';
}

/** A moment of the API: RFC 3339, or seconds or milliseconds since 1970. */
export function moment(value) {
  if (value === null || value === undefined || value === '') return null;
  const at = typeof value === 'number' ? new Date(value < 1e11 ? value * 1000 : value) : new Date(value);
  return Number.isNaN(at.getTime()) ? null : at;
}

const pad = (n) => String(n).padStart(2, '0');

export function clockTime(value) {
  const at = moment(value);
  return at ? `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}` : '–';
}

export function fullTime(value) {
  const at = moment(value);
  return at ? `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clockTime(value)}` : '–';
}

export function ago(value) {
  const at = moment(value);
  if (!at) return '–';
  const seconds = (Date.now() - at.getTime()) / 1000;
  return seconds < 0 ? `in ${duration(-seconds)}` : `${duration(seconds)} ago`;
}

const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A name that a client chose, with everything in it that would not be seen or would turn the text around made plain. */
export function visible(text) {
  return String(text).replace(UNSEEN, (c) => `<U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}>`);
}

/** The text of these bytes, or null when they are none. */
export function utf8(data) {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data);
    return /[\u0000-\u0008\u000e-\u001f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** Sixteen bytes a line: offset, hexadecimal, what can be read of it. */
export function hex(data, most = 4096) {
  const lines = [];
  for (let at = 0; at < Math.min(data.length, most); at += 16) {
    const part = Array.from(data.subarray(at, Math.min(at + 16, most)));
    const codes = part.map((b) => b.toString(16).padStart(2, '0')).join(' ');
    const text = part.map((b) => (b > 31 && b < 127 ? String.fromCharCode(b) : '.')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${codes.padEnd(47)}  ${text}`);
  }
  if (data.length > most) lines.push(`… ${count(data.length - most)} bytes more`);
  return lines.join('\n');
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/** `receive_maximum` as `Receive maximum`. */
export function words(name) {
  const text = String(name).replaceAll('_', ' ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}
