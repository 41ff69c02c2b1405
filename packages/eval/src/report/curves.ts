/** Curves: lines with a spread around them, a legend, and the values of all curves at the x being pointed at. */
import * as Plot from '@observablehq/plot';
import { type Canvas, lookOf, plot } from './canvas.js';

/** A point of a curve. */
export interface CurvePoint {
  x: number;
  y: number;
  /** The spread around y, such as the lowest and highest of several seeds. */
  low?: number;
  high?: number;
}

/** A named curve. */
export interface Curve {
  name: string;
  points: readonly CurvePoint[];
}

export interface CurvesOptions {
  xLabel: string;
  yLabel: string;
  /** Powers of two, as context lengths are. */
  xLog2?: boolean;
  yLog?: boolean;
  /** A vertical rule with a word beside it, such as the training length. */
  mark?: { x: number; label: string };
  /** Show y only in this range; points outside are cut off. */
  yDomain?: readonly [number, number];
}

const width = 540;
const axes = { height: 380, left: 62, right: 20, top: 24, bottom: 48 };
const legendRow = 22;

export function drawCurves(curves: readonly Curve[], options: CurvesOptions): string {
  const rows = Math.ceil(curves.length / legendColumns(curves));
  const height = axes.height + rows * legendRow + 14;
  const canvas = plot(
    plotOptions(curves, options, height, axes.bottom + rows * legendRow + 14),
    `${options.yLabel} by ${options.xLabel}: ${curves.map(({ name }) => name).join(', ')}`,
  );
  drawLegend(canvas, curves);
  drawTips(canvas, curves, options);
  return canvas.svg.outerHTML;
}

function plotOptions(
  curves: readonly Curve[],
  { xLabel, yLabel, xLog2, yLog, mark, yDomain }: CurvesOptions,
  height: number,
  marginBottom: number,
): Plot.PlotOptions {
  const marks: Plot.Markish[] = [Plot.gridY({ strokeOpacity: 0.15 })];
  if (mark) {
    marks.push(Plot.ruleX([mark.x], { strokeDasharray: '3 3', strokeOpacity: 0.6 }));
    marks.push(Plot.text([mark], { x: 'x', text: 'label', frameAnchor: 'top', textAnchor: 'start', dx: 5, dy: 2 }));
  }
  const inside = ({ y }: CurvePoint) => Number.isFinite(y) && (!yDomain || (y >= yDomain[0] && y <= yDomain[1]));
  const dense = curves.some(({ points }) => points.length > 40);
  for (const [i, { points }] of curves.entries()) {
    const { stroke, dash, symbol } = lookOf(i);
    const data = points.filter(inside);
    const spread = data.filter(({ low, high }) => low !== undefined && high !== undefined);
    if (spread.length > 0) {
      marks.push(Plot.areaY(spread, { x: 'x', y1: 'low', y2: 'high', fill: stroke, fillOpacity: 0.15, clip: true }));
    }
    marks.push(Plot.line(data, { x: 'x', y: 'y', stroke, strokeWidth: 2, ...(dash ? { strokeDasharray: dash } : {}) }));
    if (!dense) marks.push(Plot.dot(data, { x: 'x', y: 'y', r: 4, fill: stroke, stroke, symbol }));
  }
  return {
    width,
    height,
    marginLeft: axes.left,
    marginRight: axes.right,
    marginTop: axes.top,
    marginBottom,
    style: { background: 'transparent', color: 'currentColor', fontSize: '14px' },
    x: {
      label: xLog2 ? `${xLabel}, logarithmic` : xLabel,
      labelOffset: 40,
      ...(xLog2 ? { type: 'log', base: 2, tickFormat: shortPower } : { tickFormat: shortCount }),
    },
    y: {
      label: yLog ? `${yLabel}, logarithmic` : yLabel,
      ...(yLog ? { type: 'log' } : {}),
      ...(yDomain ? { domain: [...yDomain] } : {}),
    },
    marks,
  };
}

/** 65536 as 64K, so that the powers of two fit beside each other. */
function shortPower(value: number): string {
  return value >= 1024 && value % 1024 === 0 ? `${value / 1024}K` : `${value}`;
}

/** 1200000 as 1.2M. */
function shortCount(value: number): string {
  if (value >= 1e6) return `${value / 1e6}M`;
  return value >= 1e4 ? `${value / 1e3}k` : `${value}`;
}

function drawLegend({ svg, create }: Canvas, curves: readonly Curve[]): void {
  const columns = legendColumns(curves);
  const legend = create('g', { 'font-size': 14, fill: 'currentColor', 'text-anchor': 'start' });
  for (const [i, { name }] of curves.entries()) {
    const { stroke, dash } = lookOf(i);
    const x = axes.left + (i % columns) * ((width - axes.left - axes.right) / columns);
    const y = axes.height + Math.floor(i / columns) * legendRow + 16;
    const line = { x1: x, x2: x + 34, y1: y, y2: y, stroke, 'stroke-width': 2.5, 'stroke-dasharray': dash || 'none' };
    legend.append(create('line', line), legendSymbol(create, i, x + 17, y));
    legend.append(create('text', { x: x + 42, y: y + 5 }, name));
  }
  svg.append(legend);
}

/** Two names beside each other where they are short enough. */
function legendColumns(curves: readonly Curve[]): number {
  return Math.max(...curves.map(({ name }) => name.length)) <= 22 ? 2 : 1;
}

/** Simple forms of Plot's symbols, at the legend's size. */
function legendSymbol(create: Canvas['create'], i: number, x: number, y: number) {
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

/** A column at each x, invisible until pointed at or reached by the keyboard: then every curve's value, highest first. */
function drawTips({ svg, create, scale }: Canvas, curves: readonly Curve[], options: CurvesOptions): void {
  const [x, y] = [scale('x'), scale('y')];
  const values = [...new Set(curves.flatMap(({ points }) => points.map((point) => point.x)))].sort((a, b) => a - b);
  const pixels = values.map((value) => x.apply(value));
  const bottom = axes.height - axes.bottom;
  for (const [c, value] of values.entries()) {
    const left = c === 0 ? axes.left - 8 : (pixels[c - 1]! + pixels[c]!) / 2;
    const right = c === values.length - 1 ? width - axes.right + 8 : (pixels[c]! + pixels[c + 1]!) / 2;
    const here = curves.flatMap(({ name, points }, i) => {
      const point = points.find((one) => one.x === value);
      return point && Number.isFinite(point.y) ? [{ name, point, i }] : [];
    });
    here.sort((a, b) => b.point.y - a.point.y);
    const lines = here.map(({ name, point }) => `${name}: ${formatValue(point.y)}${spreadOf(point)}`);
    const title = `${options.xLabel}: ${value}`;
    const boxWidth = 16 + 7.3 * Math.max(title.length, ...lines.map((line) => line.length + 2));
    const boxX = pixels[c]! + 10 + boxWidth < width ? pixels[c]! + 10 : Math.max(2, pixels[c]! - 10 - boxWidth);
    const tip = create('g', { class: 'sb-tip', 'font-size': 13, 'text-anchor': 'start' });
    const guide = { x1: pixels[c]!, x2: pixels[c]!, y1: axes.top, y2: bottom };
    tip.append(create('line', { ...guide, stroke: 'currentColor', 'stroke-opacity': 0.5 }));
    for (const { point, i } of here) {
      const cy = y.apply(point.y);
      if (cy >= axes.top && cy <= bottom)
        tip.append(create('circle', { cx: pixels[c]!, cy, r: 5, fill: lookOf(i).stroke }));
    }
    const box = { x: boxX, y: axes.top + 4, width: boxWidth, height: 26 + 18 * lines.length, rx: 4 };
    tip.append(create('rect', box), create('text', { x: boxX + 8, y: axes.top + 22, 'font-weight': 600 }, title));
    for (const [l, line] of lines.entries()) {
      const lineY = axes.top + 40 + 18 * l;
      tip.append(create('circle', { cx: boxX + 12, cy: lineY - 4, r: 4, fill: lookOf(here[l]!.i).stroke }));
      tip.append(create('text', { x: boxX + 22, y: lineY }, line));
    }
    const hit = { x: left, y: axes.top, width: Math.max(1, right - left), height: bottom - axes.top };
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
