/** Which curve is which: names beside the ends of the curves, or where there is no room for that, below. */
import { placeLabels } from '@stickbreaking/base';
import { type Canvas, lookOf } from './canvas.js';
import type { Curve, Frame } from './curve.js';

const ROW = 20;
/** Of text of 14 pixels, on average. */
const LETTER = 7.4;
/** A piece of the line with its symbol, and the space after it. */
const SAMPLE = { length: 28, gap: 6 };
/** Between a curve's end and its name. */
const LEADER = 14;
/** A name wider than this would leave the curves too little room. */
const WIDEST = 300;

const widest = (curves: readonly Curve[]) => LETTER * Math.max(0, ...curves.map(({ name }) => name.length + 2));

/** Whether names fit beside curves that are drawn `height` pixels high. */
export const labelsFit = (curves: readonly Curve[], height: number) =>
  curves.length * ROW <= height && widest(curves) <= WIDEST;

/** What names beside the curves need to the right of them. */
export const labelsWidth = (curves: readonly Curve[]) =>
  Math.ceil(LEADER + SAMPLE.length + SAMPLE.gap + widest(curves));

/** Each name at the height at which its curve ends, moved no further than others require; an arrow where it left the picture. */
export function drawLabels(
  { svg, create, scale }: Canvas,
  curves: readonly Curve[],
  { right, top, bottom }: Frame,
  yDomain: readonly [number, number] | undefined,
): void {
  const [x, y] = [scale('x'), scale('y')];
  const ends = curves.flatMap(({ name, points }, i) => {
    const last = points.findLast((point) => Number.isFinite(point.y) && Number.isFinite(y.apply(point.y)));
    if (!last) return [];
    const left = yDomain && (last.y > yDomain[1] ? '↑' : last.y < yDomain[0] ? '↓' : undefined);
    return [{ i, name: left ? `${name} ${left}` : name, left, at: { x: x.apply(last.x), y: y.apply(last.y) } }];
  });
  const heights = ends.map(({ at }) => Math.min(bottom, Math.max(top, at.y)));
  const placed = placeLabels(heights, ROW, top - ROW / 2, bottom + ROW / 2);
  const names = create('g', { class: 'sb-names', 'font-size': 14, fill: 'currentColor', 'text-anchor': 'start' });
  for (const [e, { i, name, left, at }] of ends.entries()) {
    const [labelX, labelY] = [right + LEADER, placed[e]!];
    const isAway = Math.abs(labelY - at.y) > 3 || at.x < right - 1;
    if (!left && isAway) {
      const line = { x1: at.x + 5, y1: at.y, x2: labelX - 2, y2: labelY, stroke: lookOf(i).stroke };
      names.append(create('line', { ...line, class: 'sb-leader', 'stroke-width': 1, 'stroke-dasharray': '1 3' }));
    }
    names.append(...entry(create, i, name, labelX, labelY));
  }
  svg.append(names);
}

/** The names in rows below the axes. */
export function drawLegend({ svg, create }: Canvas, curves: readonly Curve[], frame: Frame, from: number): void {
  const columns = columnsOf(curves, frame);
  const names = create('g', { class: 'sb-names', 'font-size': 14, fill: 'currentColor', 'text-anchor': 'start' });
  for (const [i, { name }] of curves.entries()) {
    const x = MARGIN + (i % columns) * ((frame.width - 2 * MARGIN) / columns);
    names.append(...entry(create, i, name, x, from + Math.floor(i / columns) * ROW + ROW / 2));
  }
  svg.append(names);
}

const MARGIN = 8;

export const legendHeight = (curves: readonly Curve[], frame: Frame) =>
  ROW * Math.ceil(curves.length / columnsOf(curves, frame)) + MARGIN;

/** As many names beside each other as are short enough for it. */
function columnsOf(curves: readonly Curve[], { width }: Frame): number {
  const each = SAMPLE.length + SAMPLE.gap + widest(curves);
  return Math.max(1, Math.min(curves.length, 3, Math.floor((width - 2 * MARGIN) / each)));
}

function entry(create: Canvas['create'], i: number, name: string, x: number, y: number) {
  const { stroke, dash } = lookOf(i);
  const line = { x1: x, x2: x + SAMPLE.length, y1: y, y2: y, stroke, 'stroke-width': 2.5 };
  return [
    create('line', { ...line, 'stroke-dasharray': dash || 'none' }),
    symbolOf(create, i, x + SAMPLE.length / 2, y),
    create('text', { x: x + SAMPLE.length + SAMPLE.gap, y: y + 5 }, name),
  ];
}

/** Simple forms of Plot's symbols, at the size of text. */
function symbolOf(create: Canvas['create'], i: number, x: number, y: number) {
  const { stroke, symbol } = lookOf(i);
  const at = { transform: `translate(${x},${y})`, fill: stroke, stroke, 'stroke-width': 1.5 };
  if (symbol === 'circle') return create('circle', { ...at, r: 4 });
  const forms: Record<string, string> = {
    square: 'M-4,-4h8v8h-8z',
    triangle: 'M0,-5l5,8h-10z',
    diamond: 'M0,-6l4,6l-4,6l-4,-6z',
    star: 'M0,-6l1.8,4l4.2,.3l-3.2,2.9l1,4.3l-3.8,-2.3l-3.8,2.3l1,-4.3l-3.2,-2.9l4.2,-.3z',
    cross: 'M-5,-1.5h3.5v-3.5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5z',
    wye: 'M0,0L0,5M0,0L-4.5,-3M0,0L4.5,-3',
    times: 'M-4,-4L4,4M-4,4L4,-4',
  };
  return create('path', { ...at, d: forms[symbol]! });
}
