/** Names of the runs beside the ends of their lines, where a chart is wide enough; otherwise they stand below it alone. */
import { placeLabels } from '@stickbreaking/base';
import uPlot from 'uplot';
import type { PlotLine } from './plot_line.js';

const ROW = 14;
const MOST_LINES = 12;
/** Of a chart's width: names that need more are cut off. */
const MOST_SHARE = 0.25;
const NARROW = 400;
const GAP = 8;

/** Pixels to leave to the right of the lines. */
export function nameWidth(lines: readonly PlotLine[], width: number, font: string): number | null {
  if (width < NARROW || lines.length < 2 || lines.length > MOST_LINES) return null;
  const context = document.createElement('canvas').getContext('2d')!;
  context.font = font;
  const widest = Math.max(...lines.map(({ name }) => context.measureText(name).width));
  return Math.ceil(Math.min(MOST_SHARE * width, widest + GAP + 4));
}

/** Draws each name at the height at which its line ends, moved no further than the others require. */
export function drawNames(u: uPlot, lines: readonly PlotLine[], font: string): void {
  if (nameWidth(lines, u.width, font) === null) return;
  const { ctx, bbox } = u;
  const ratio = uPlot.pxRatio;
  const { min = 0, max = 0 } = u.scales.x as { min?: number; max?: number };
  const ends = lines.flatMap(({ name, colour, smoothed: { x, y } }) => {
    const i = y.findLastIndex((value, k) => value !== null && x[k]! >= min && x[k]! <= max);
    return i < 0 ? [] : [{ name, colour, y: u.valToPos(y[i]!, 'y', true) }];
  });
  const [top, bottom] = [bbox.top, bbox.top + bbox.height];
  const wanted = ends.map(({ y }) => Math.min(bottom, Math.max(top, y)));
  const places = placeLabels(wanted, ROW * ratio, top - ROW, bottom + ROW);
  ctx.save();
  ctx.font = font.replace(/^\d+/, (size) => String(Number(size) * ratio));
  ctx.textBaseline = 'middle';
  ctx.textAlign = 'left';
  const left = bbox.left + bbox.width + GAP * ratio;
  const room = u.width * ratio - left;
  for (const [k, { name, colour }] of ends.entries()) {
    ctx.fillStyle = colour;
    ctx.fillText(fitting(ctx, name, room), left, places[k]!);
  }
  ctx.restore();
}

/** As much of the name as there is room for: its end, as runs differ there. */
function fitting(context: CanvasRenderingContext2D, name: string, room: number): string {
  if (context.measureText(name).width <= room) return name;
  let length = name.length;
  while (length > 1 && context.measureText(`…${name.slice(-length)}`).width > room) length--;
  return `…${name.slice(-length)}`;
}
