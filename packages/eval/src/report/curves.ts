/**
 * Curves: lines with a spread around them, their names beside them, and the values of all curves at the x being pointed
 * at. On a phone a picture is drawn again, narrower, so that its text keeps its size; there the names stand below.
 */

import * as Plot from '@observablehq/plot';
import { logTicks, powerOfTwoTicks } from '@stickbreaking/base';
import { lookOf, plot, textOf } from './canvas.js';
import type { Curve, CurvePoint, Frame } from './curve.js';
import { drawLabels, drawLegend, labelsFit, labelsWidth, legendHeight } from './curve_names.js';
import { drawTips } from './curve_tips.js';

export interface CurvesOptions {
  xLabel: string;
  yLabel: string;
  /** Powers of two, as context lengths are. */
  xLog2?: boolean;
  yLog?: boolean;
  /** The y axis begins at 0, so that what hardly changes looks so. */
  yFromZero?: boolean;
  /** A vertical rule with a word beside it, such as the training length. */
  mark?: { x: number; label: string };
  /** Show y only in this range; points outside are cut off. */
  yDomain?: readonly [number, number];
}

const wide = { width: 788, height: 380, left: 64, right: 20, top: 24, bottom: 48 };
const narrow = { width: 358, height: 320, left: 56, right: 12, top: 24, bottom: 48 };

/** @param isNarrow for screens as narrow as a phone's */
export function drawCurves(curves: readonly Curve[], options: CurvesOptions, isNarrow = false): string {
  const { width, height, left, top, bottom, right } = isNarrow ? narrow : wide;
  const beside = !isNarrow && labelsFit(curves, height - top - bottom);
  const frame = { width, left, top, right: width - (beside ? labelsWidth(curves) : right), bottom: height - bottom };
  const below = beside ? 0 : legendHeight(curves, frame);
  const canvas = plot(
    plotOptions(curves, options, frame, height + below),
    `${options.yLabel} by ${options.xLabel}: ${curves.map(({ name }) => name).join(', ')}`,
  );
  if (beside) drawLabels(canvas, curves, frame, options.yDomain);
  else drawLegend(canvas, curves, frame, height);
  drawTips(canvas, curves, frame, options.xLabel);
  return textOf(canvas);
}

/** More points than these get a symbol at some of them only. */
const MOST_SYMBOLS = 40;
const SOME_SYMBOLS = 8;

function plotOptions(
  curves: readonly Curve[],
  { xLabel, yLabel, xLog2, yLog, yFromZero, mark, yDomain }: CurvesOptions,
  { width, left, right, top, bottom }: Frame,
  height: number,
): Plot.PlotOptions {
  const marks: Plot.Markish[] = [];
  if (mark) marks.push(Plot.ruleX([mark.x], { strokeDasharray: '3 3', strokeOpacity: 0.6 }));
  const isDrawn = ({ y }: CurvePoint) => Number.isFinite(y) && (!yLog || y > 0);
  const isInside = ({ y }: CurvePoint) => !yDomain || (y >= yDomain[0] && y <= yDomain[1]);
  for (const [i, { points }] of curves.entries()) {
    const { stroke, dash, symbol } = lookOf(i);
    const data = points.filter(isDrawn);
    const spread = data.filter(({ low, high }) => low !== undefined && high !== undefined);
    if (spread.length > 0) {
      marks.push(Plot.areaY(spread, { x: 'x', y1: 'low', y2: 'high', fill: stroke, fillOpacity: 0.15, clip: true }));
    }
    const dashed = dash ? { strokeDasharray: dash } : {};
    marks.push(Plot.line(data, { x: 'x', y: 'y', stroke, strokeWidth: 2, clip: yDomain !== undefined, ...dashed }));
    const stride = data.length > MOST_SYMBOLS ? Math.ceil(data.length / SOME_SYMBOLS) : 1;
    const marked = data.filter((point, k) => k % stride === Math.floor(stride / 2) && isInside(point));
    marks.push(Plot.dot(marked, { x: 'x', y: 'y', r: 4, fill: stroke, stroke, symbol }));
  }
  const drawn = curves.flatMap(({ points }) => points.filter(isDrawn));
  if (mark) {
    const xs = drawn.map(({ x }) => x);
    const fits = isRoomBehind(mark, [Math.min(...xs), Math.max(...xs)], xLog2 === true, right - left);
    const side = fits ? ({ textAnchor: 'start', dx: 5 } as const) : ({ textAnchor: 'end', dx: -5 } as const);
    const place = { x: 'x', text: 'label', frameAnchor: 'top', dy: 2, ...side } as const;
    const halo = { fill: 'currentColor', stroke: 'var(--paper, #ffffff)', strokeWidth: 4 };
    marks.push(Plot.text([mark], { ...place, ...halo }));
  }
  const y: Plot.ScaleOptions = {
    label: yLog ? `${yLabel}, logarithmic` : yLabel,
    ...(yLog ? { ...logY(drawn, (bottom - top) / 24), tickFormat: shortCount } : {}),
    ...(yFromZero ? { domain: [0, Math.max(...drawn.map(({ y, high = y }) => high), 0)], nice: true } : {}),
    ...(yDomain ? { domain: [...yDomain] } : {}),
  };
  const grid = { strokeOpacity: 0.15 };
  marks.unshift(y.ticks ? Plot.gridY(y.ticks as number[], grid) : Plot.gridY(grid));
  return {
    width,
    height,
    marginLeft: left,
    marginRight: width - right,
    marginTop: top,
    marginBottom: height - bottom,
    style: { background: 'transparent', color: 'currentColor', fontSize: '14px' },
    x: {
      label: xLog2 ? `${xLabel}, logarithmic` : xLabel,
      labelOffset: 40,
      ...(xLog2 ? logX(drawn, (right - left) / 48) : { tickFormat: shortCount }),
    },
    y,
    marks,
  };
}

/** About as wide as a character of a label is. */
const CHARACTER_PIXELS = 8;

/** Whether the word beside a rule ends before the axis does, which spans so many pixels; else it stands before the rule. */
function isRoomBehind(
  { x, label }: { x: number; label: string },
  [low, high]: readonly [number, number],
  isLog: boolean,
  pixels: number,
): boolean {
  const place = (value: number) => (isLog ? Math.log2(value) : value);
  const room = ((place(high) - place(x)) / (place(high) - place(low))) * pixels;
  return !(room < CHARACTER_PIXELS * label.length); // where all points have one x, it is no number
}

/** Powers of two, with ticks at both ends. */
function logX(points: readonly CurvePoint[], most: number): Plot.ScaleOptions {
  const values = points.map(({ x }) => x);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const ticks = points.length > 0 ? powerOfTwoTicks(low, high, Math.floor(most)) : [];
  return {
    ...{ type: 'log', base: 2, tickFormat: shortPower },
    ...(low < high ? { domain: [low, high], ticks } : {}),
  } as Plot.ScaleOptions;
}

/** From a tick to a tick. */
function logY(points: readonly CurvePoint[], most: number): Plot.ScaleOptions {
  const values = points.flatMap(({ y, low = y, high = y }) => [y, low, high]).filter((y) => y > 0 && y < Infinity);
  if (values.length === 0) return { type: 'log' };
  const ticks = logTicks(Math.min(...values), Math.max(...values), Math.floor(most));
  return { type: 'log', domain: [ticks[0]!, ticks.at(-1)!], ticks } as Plot.ScaleOptions;
}

/** 65536 as 64K, so that the powers of two fit beside each other. */
function shortPower(value: number): string {
  return value >= 1024 && value % 1024 === 0 ? `${value / 1024}K` : `${value}`;
}

/** 1200000 as 1.2M. */
function shortCount(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(6))}M`;
  return value >= 1e4 ? `${Number((value / 1e3).toPrecision(6))}k` : `${value}`;
}
