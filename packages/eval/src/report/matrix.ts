/**
 * A matrix as a picture: the darker a cell, the nearer its value is to the largest. Attention weights have tokens on
 * both axes, queries downwards and keys to the right; other matrices (layer by head) have their own labels.
 */
import * as Plot from '@observablehq/plot';
import { type Canvas, plot, textOf } from './canvas.js';

export interface MatrixOptions {
  /** Row-major, rows.length × columns.length; NaN leaves a cell empty. */
  values: ArrayLike<number>;
  rows: readonly string[];
  columns: readonly string[];
  rowLabel: string;
  columnLabel: string;
  /** The value of a full colour; default 1. */
  largest?: number;
  /** Cells drawn with a frame, such as the token that should be retrieved. */
  marked?: readonly { row: number; column: number; label?: string }[];
  /** What is said of a cell that is pointed at; default its number. */
  describe?: (row: number, column: number, value: number) => string;
  /** Write each value into its cell. */
  showValues?: boolean;
}

/** Cells below this share of a full colour are omitted: they would be invisible, and the picture stays small. */
const INVISIBLE = 0.004;

/** Pixels a picture may be wide on a phone of 390. */
const NARROW = 358;
/** A cell smaller than this holds no label beside it of text that can be read, and no finger meets it. */
const SMALLEST = 14;
/** A cell with a number in it. */
const WITH_VALUE = 44;
/** The line below a picture that says what a cell holds. */
const SAID = 20;

/**
 * @param isNarrow for screens as narrow as a phone's
 * @returns SVG; nothing where the picture does not fit on a narrow screen: there it is scrolled
 */
export function drawMatrix(options: MatrixOptions): string;
export function drawMatrix(options: MatrixOptions, isNarrow: boolean): string | undefined;
export function drawMatrix(options: MatrixOptions, isNarrow = false): string | undefined {
  const { rows, columns, rowLabel, columnLabel, largest = 1, showValues } = options;
  const many = longest(columns) > 2;
  const left = 26 + 7.6 * Math.max(2, longest(rows));
  const room = isNarrow ? NARROW - left - 8 : 360;
  const least = showValues ? WITH_VALUE : SMALLEST;
  const share = Math.floor(room / Math.max(1, isNarrow ? columns.length : Math.max(rows.length, columns.length)));
  if (isNarrow && share < least) return undefined;
  const size = Math.max(least, Math.min(32, share));
  const top = 34 + (many ? 7.6 * longest(columns) : 14);
  const canvas = plot(
    {
      width: left + size * columns.length + 8,
      height: top + size * rows.length + 8 + SAID,
      marginLeft: left,
      marginRight: 8,
      marginTop: top,
      marginBottom: 8 + SAID,
      style: {
        background: 'transparent',
        color: 'currentColor',
        fontSize: `${Math.max(12, Math.min(14, Math.round(0.6 * size)))}px`,
      },
      padding: 0,
      x: {
        type: 'band',
        axis: 'top',
        domain: columns.map((_, c) => c),
        label: columnLabel,
        tickSize: 0,
        tickFormat: (c: number) => columns[c]!,
        ...(many ? { tickRotate: -90 } : {}),
      },
      y: {
        type: 'band',
        domain: rows.map((_, r) => r),
        label: rowLabel,
        tickSize: 0,
        tickFormat: (r: number) => rows[r]!,
      },
      marks: [Plot.frame({ strokeOpacity: 0.3 })],
    },
    `${rowLabel} by ${columnLabel}, ${rows.length} × ${columns.length}`,
  );
  drawCells(canvas, options, size, largest, top + size * rows.length + SAID);
  return textOf(canvas);
}

function drawCells(
  { svg, create, scale }: Canvas,
  options: MatrixOptions,
  size: number,
  largest: number,
  saidY: number,
): void {
  const { values, rows, columns, marked = [], describe, showValues } = options;
  const [x, y] = [scale('x'), scale('y')];
  // Near the cell, which may have been scrolled to, and inside of the picture.
  const end = x.apply(columns.length - 1) + (x.bandwidth ?? size);
  const saidX = (cell: number) => Math.max(4, Math.min(cell - 120, end - 320));
  for (let row = 0; row < rows.length; row++) {
    for (let column = 0; column < columns.length; column++) {
      const value = values[row * columns.length + column]!;
      const share = Math.max(0, Math.min(1, value / largest));
      if (Number.isNaN(value) || (share < INVISIBLE && !showValues)) continue;
      const place = { x: x.apply(column), y: y.apply(row), width: x.bandwidth ?? size, height: y.bandwidth ?? size };
      const said = describe?.(row, column, value) ?? `${rows[row]} → ${columns[column]}: ${value.toFixed(3)}`;
      // What it says appears below the picture where it is pointed at or tapped; the keyboard passes it over.
      const cell = create('g', { class: 'sb-point', tabindex: -1 });
      cell.append(create('rect', { ...place, class: 'sb-cell', 'fill-opacity': Number(share.toFixed(3)) }));
      cell.append(create('text', { x: saidX(place.x), y: saidY, class: 'sb-said', 'text-anchor': 'start' }, said));
      svg.append(cell);
      if (!showValues) continue;
      const middle = { x: place.x + place.width / 2, y: place.y + place.height / 2 + 4 };
      const text = {
        ...middle,
        'text-anchor': 'middle',
        class: share > 0.55 ? 'sb-value-on-dark' : 'sb-value',
        'pointer-events': 'none',
      };
      svg.append(create('text', { ...text, 'font-size': 13 }, value.toFixed(2)));
    }
  }
  for (const { row, column, label } of marked) {
    const place = {
      x: x.apply(column) + 1,
      y: y.apply(row) + 1,
      width: (x.bandwidth ?? size) - 2,
      height: (y.bandwidth ?? size) - 2,
    };
    const frame = create('rect', { ...place, class: 'sb-mark', 'pointer-events': 'none', rx: 2 });
    if (label) frame.append(create('title', {}, label));
    svg.append(frame);
  }
}

function longest(labels: readonly string[]): number {
  return Math.max(0, ...labels.map((label) => label.length));
}
