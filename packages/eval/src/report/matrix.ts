/**
 * A matrix as a picture: the darker a cell, the nearer its value is to the largest. Attention weights have tokens on
 * both axes, queries downwards and keys to the right; other matrices (layer by head) have their own labels.
 */
import * as Plot from '@observablehq/plot';
import { type Canvas, plot } from './canvas.js';

export interface MatrixOptions {
  /** Row-major, rows.length × columns.length. */
  values: ArrayLike<number>;
  rows: readonly string[];
  columns: readonly string[];
  rowLabel: string;
  columnLabel: string;
  /** The value of a full colour; default 1. */
  largest?: number;
  /** Cells drawn with a frame, such as the token that should be retrieved. */
  marked?: readonly { row: number; column: number; label?: string }[];
  /** What a cell's value is, in its hover text; default its number. */
  describe?: (row: number, column: number, value: number) => string;
  /** Write each value into its cell. */
  showValues?: boolean;
}

/** Cells below this share of a full colour are omitted: they would be invisible, and the picture stays small. */
const INVISIBLE = 0.004;

export function drawMatrix(options: MatrixOptions): string {
  const { rows, columns, rowLabel, columnLabel, largest = 1 } = options;
  const size = Math.max(12, Math.min(48, Math.floor(520 / Math.max(rows.length, columns.length))));
  const left = 26 + 8.5 * Math.max(2, ...rows.map((row) => row.length));
  const top = 34 + (longest(columns) > 2 ? 8.5 * longest(columns) : 14);
  const label = `${rowLabel} by ${columnLabel}, ${rows.length} × ${columns.length}`;
  const many = longest(columns) > 2;
  const canvas = plot(
    {
      width: left + size * columns.length + 16,
      height: top + size * rows.length + 12,
      marginLeft: left,
      marginRight: 16,
      marginTop: top,
      marginBottom: 12,
      style: {
        background: 'transparent',
        color: 'currentColor',
        fontSize: `${Math.max(10, Math.min(16, Math.round(0.6 * size)))}px`,
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
    label,
  );
  drawCells(canvas, options, size, largest);
  return canvas.svg.outerHTML;
}

function drawCells({ svg, create, scale }: Canvas, options: MatrixOptions, size: number, largest: number): void {
  const { values, rows, columns, marked = [], describe, showValues } = options;
  const [x, y] = [scale('x'), scale('y')];
  for (let row = 0; row < rows.length; row++) {
    for (let column = 0; column < columns.length; column++) {
      const value = values[row * columns.length + column]!;
      const share = Math.max(0, Math.min(1, value / largest));
      if (share < INVISIBLE && !showValues) continue;
      const place = { x: x.apply(column), y: y.apply(row), width: x.bandwidth ?? size, height: y.bandwidth ?? size };
      const said = describe?.(row, column, value) ?? `${rows[row]} → ${columns[column]}: ${value.toFixed(3)}`;
      const cell = create('rect', { ...place, class: 'sb-cell', 'fill-opacity': Number(share.toFixed(3)) });
      cell.append(create('title', {}, said));
      svg.append(cell);
      if (!showValues) continue;
      const middle = { x: place.x + place.width / 2, y: place.y + place.height / 2 + 4 };
      const text = {
        ...middle,
        'text-anchor': 'middle',
        class: share > 0.55 ? 'sb-value-on-dark' : 'sb-value',
        'pointer-events': 'none',
      };
      svg.append(create('text', { ...text, 'font-size': Math.min(14, size / 3) }, value.toFixed(2)));
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
