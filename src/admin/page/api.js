// The broker's API: one function, one kind of error.

export class ApiError extends Error {
  constructor(status, text, body) {
    super(text);
    this.status = status;
    this.body = body;
  }
}

let onLogin = () => {};

/** What to do when the broker wants to know who asks. */
export function whenLoggedOut(action) {
  onLogin = action;
}

/** An address beside this page, so that a proxy may serve it below any path. */
export function address(path) {
  return new URL(path, document.baseURI);
}

function query(parameters) {
  const pairs = Object.entries(parameters).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  return pairs.length ? '?' + new URLSearchParams(pairs) : '';
}

/** A path's last segment: a client identifier or a topic, slashes and all. */
export function segment(text) {
  return encodeURIComponent(text);
}

/** Asks and gives back the open answer; throws for anything but success. */
export async function open(path, { method = 'GET', parameters = {}, body, signal } = {}) {
  const options = { method, signal, credentials: 'same-origin', cache: 'no-store', headers: { Accept: 'application/json' } };
  if (body !== undefined) {
    options.headers['Content-Type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(address('api/v1/' + path + query(parameters)), options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, 'the broker does not answer');
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  if (answer.status === 401 && !(path === 'login' && method === 'POST')) onLogin();
  throw new ApiError(answer.status, told.error || `the broker answers ${answer.status}`, told);
}

/** Asks and reads the answer. A question without an answer after 15 seconds has failed. */
export async function api(path, options = {}) {
  const given = new AbortController();
  const timer = setTimeout(() => given.abort(), 15000);
  try {
    const answer = await open(path, { ...options, signal: given.signal });
    const text = await answer.text();
    return text ? JSON.parse(text) : {};
  } catch (error) {
    if (error.name === 'AbortError') throw new ApiError(0, 'the broker takes too long to answer');
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
