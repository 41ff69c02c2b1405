/** A column at each x, invisible until pointed at, tapped or reached by the keyboard: then every curve's value, highest first. */
import { type Canvas, lookOf } from './canvas.js';
import type { Curve, CurvePoint, Frame } from './curve.js';

export function drawTips({ svg, create, scale }: Canvas, curves: readonly Curve[], frame: Frame, xLabel: string): void {
  const [x, y] = [scale('x'), scale('y')];
  const { width, left: first, right: end, top, bottom } = frame;
  const values = [...new Set(curves.flatMap(({ points }) => points.map((point) => point.x)))].sort((a, b) => a - b);
  const pixels = values.map((value) => x.apply(value));
  for (const [c, value] of values.entries()) {
    const left = c === 0 ? first - 8 : (pixels[c - 1]! + pixels[c]!) / 2;
    const right = c === values.length - 1 ? end + 8 : (pixels[c]! + pixels[c + 1]!) / 2;
    const here = curves.flatMap(({ name, points }, i) => {
      const point = points.find((one) => one.x === value);
      return point && Number.isFinite(point.y) ? [{ name, point, i }] : [];
    });
    here.sort((a, b) => b.point.y - a.point.y);
    const lines = here.map(({ name, point }) => `${name}: ${formatValue(point.y)}${spreadOf(point)}`);
    const title = `${xLabel}: ${value}`;
    const boxWidth = 16 + 7.3 * Math.max(title.length, ...lines.map((line) => line.length + 2));
    const boxX = pixels[c]! + 10 + boxWidth < width ? pixels[c]! + 10 : Math.max(2, pixels[c]! - 10 - boxWidth);
    const tip = create('g', { class: 'sb-tip', 'font-size': 13, 'text-anchor': 'start' });
    const guide = { x1: pixels[c]!, x2: pixels[c]!, y1: top, y2: bottom };
    tip.append(create('line', { ...guide, stroke: 'currentColor', 'stroke-opacity': 0.5 }));
    for (const { point, i } of here) {
      const cy = y.apply(point.y);
      if (cy >= top && cy <= bottom) tip.append(create('circle', { cx: pixels[c]!, cy, r: 5, fill: lookOf(i).stroke }));
    }
    const box = { x: boxX, y: top + 4, width: boxWidth, height: 26 + 18 * lines.length, rx: 4 };
    tip.append(create('rect', box), create('text', { x: boxX + 8, y: top + 22, 'font-weight': 600 }, title));
    for (const [l, line] of lines.entries()) {
      const lineY = top + 40 + 18 * l;
      tip.append(create('circle', { cx: boxX + 12, cy: lineY - 4, r: 4, fill: lookOf(here[l]!.i).stroke }));
      tip.append(create('text', { x: boxX + 22, y: lineY }, line));
    }
    const hit = { x: left, y: top, width: Math.max(1, right - left), height: bottom - top };
    const column = create('g', { class: 'sb-column', tabindex: 0, 'aria-label': [title, ...lines].join('; ') });
    column.append(create('rect', { ...hit, fill: 'transparent' }), tip);
    svg.append(column);
  }
}

function spreadOf({ low, high }: CurvePoint): string {
  return low === undefined || high === undefined || low === high ? '' : ` (${formatValue(low)}–${formatValue(high)})`;
}

function formatValue(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toExponential(2);
  if (size >= 1000) return value.toFixed(0);
  return Number(value.toPrecision(4)).toString();
}
