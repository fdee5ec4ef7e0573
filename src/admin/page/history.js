// What the status said over the last minutes. It is kept in this page only: closing the tab forgets it.

export const SPAN = 300_000;
/** Two samples further apart than this are not joined by a line: the tab was hidden, or the broker away. */
export const GAP = 12_000;

const samples = [];
let started = null;

/** Adds a status. A restarted broker counts from zero again, and so does this. */
export function remember(status, now = Date.now()) {
  if (status.started_at !== started) {
    started = status.started_at;
    samples.length = 0;
  }
  const { rates = {}, dropped = {}, refused = {}, denied = {} } = status;
  samples.push({ at: now, rates, dropped, refused, denied, connected: status.clients?.connected });
  while (samples.length && samples[0].at < now - SPAN) samples.shift();
}

/** The values of one line: `[[when, value], …]`. */
export function series(read) {
  return samples.map((sample) => [sample.at, read(sample)]).filter(([, value]) => Number.isFinite(value));
}

/** How many a second were `dropped`, `refused` or `denied` for this reason, over the last half minute or what there is. */
export function rateOf(kind, reason) {
  const last = samples.at(-1);
  if (!last) return null;
  const first = samples.find((sample) => sample.at >= last.at - 30_000);
  if (first === last) return null;
  const more = (last[kind][reason] || 0) - (first[kind][reason] || 0);
  return (more * 1000) / (last.at - first.at);
}
