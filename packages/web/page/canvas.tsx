/** Attention weights as pixels: one a weight, the remainder in a column of its own on the left. */
import { useEffect, useRef } from 'preact/hooks';
import { strength } from './look.js';
import type { Attention } from './rows.js';

interface CanvasProps {
  attention: Attention;
  /** N */
  length: number;
  remainder: boolean;
  /** A row with a frame. */
  marked?: number | undefined;
  label: string;
}

/** Pixels of a weight in a large picture. */
const CELL = 6;

export function Canvas({ attention, length, remainder, marked, label }: CanvasProps) {
  const ref = useRef<HTMLCanvasElement>(null);
  const cell = marked === undefined ? 1 : CELL;
  // The remainder's column is wider and set off where there is room for it.
  const left = remainder ? (marked === undefined ? 1 : 3 * CELL) : 0;
  const width = left + length * cell;
  useEffect(() => {
    const canvas = ref.current!;
    const draw = () => paint(canvas, attention, { length, cell, left, marked });
    draw();
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', draw);
    return () => dark.removeEventListener('change', draw);
  }, [attention, length, cell, left, marked]);
  return <canvas ref={ref} width={width} height={length * cell} role="img" aria-label={label} />;
}

interface Layout {
  length: number;
  cell: number;
  left: number;
  marked: number | undefined;
}

function paint(canvas: HTMLCanvasElement, { weights, remainder }: Attention, { length, cell, left, marked }: Layout) {
  const context = canvas.getContext('2d')!;
  const style = getComputedStyle(canvas);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  context.globalAlpha = 1;
  context.fillStyle = colour('--raised');
  context.fillRect(0, 0, canvas.width, canvas.height);
  const cellOf = (x: number, row: number, share: number, size = cell) => {
    context.globalAlpha = strength(share);
    context.fillRect(x, row * cell, size, cell);
  };
  context.fillStyle = colour('--accent');
  for (let row = 0; row < length; row++)
    for (let key = 0; key <= row; key++) cellOf(left + key * cell, row, weights[row * length + key]!);
  if (left > 0) {
    context.fillStyle = colour('--rest');
    for (let row = 0; row < length; row++) cellOf(0, row, remainder[row]!, Math.max(1, left - cell));
  }
  if (marked === undefined) return;
  context.globalAlpha = 1;
  context.strokeStyle = colour('--ink');
  context.strokeRect(0.5, marked * cell + 0.5, canvas.width - 1, cell - 1);
}
