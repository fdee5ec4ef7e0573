// Small charts, drawn as SVG.

import { GAP, SPAN } from './history.js';
import { h, say } from './ui.js';

const W = 240;
const H = 48;

function svg(tag, attributes = {}) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** The next number that is easy to read, so that the scale does not jump with each sample. */
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value * 0.999);
}

/** A line over the last minutes, its latest value in figures beside it. */
export function chart(title, format) {
  const drawing = svg('svg', { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: 'none', class: 'spark', 'aria-hidden': 'true' });
  const area = svg('path', { class: 'area' });
  const line = svg('path', { class: 'line', 'vector-effect': 'non-scaling-stroke' });
  drawing.append(svg('path', { class: 'base', d: `M0 ${H - 0.5}H${W}`, 'vector-effect': 'non-scaling-stroke' }), area, line);
  const value = h('strong', {}, '–');
  const scale = h('small', { class: 'scale' });
  const element = h('figure', { class: 'chart' },
    h('figcaption', {}, h('span', {}, title), value), h('div', { class: 'plot' }, drawing, scale));
  return {
    element,
    update(points, now = Date.now()) {
      const top = ceiling(Math.max(0, ...points.map(([, v]) => v)));
      const x = (at) => (W * (1 - (now - at) / SPAN)).toFixed(1);
      const y = (v) => (H - 1 - (v / top) * (H - 3)).toFixed(1);
      let strokes = '';
      let fills = '';
      let before = null;
      let begun = null;
      for (const [at, v] of points) {
        if (before === null || at - before > GAP) {
          if (begun !== null) fills += `L${x(before)} ${H}L${x(begun)} ${H}Z`;
          strokes += `M${x(at)} ${y(v)}`;
          fills += `M${x(at)} ${y(v)}`;
          begun = at;
        } else {
          strokes += `L${x(at)} ${y(v)}`;
          fills += `L${x(at)} ${y(v)}`;
        }
        before = at;
      }
      if (begun !== null) fills += `L${x(before)} ${H}L${x(begun)} ${H}Z`;
      line.setAttribute('d', strokes);
      area.setAttribute('d', fills);
      say(value, points.length ? format(points.at(-1)[1]) : '–');
      say(scale, format(top));
    },
  };
}
