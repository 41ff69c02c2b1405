/** Curves drawn by Observable Plot into an SVG string, on the server: no script runs in the reader's browser. */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

export interface Curve {
  name: string;
  points: readonly { x: number; y: number }[];
}

export interface CurvesOptions {
  xLabel: string;
  yLabel: string;
  /** Powers of two, as context lengths are. */
  xLog2?: boolean;
  yLog?: boolean;
  /** A vertical rule with a word beside it, such as the training length. */
  mark?: { x: number; label: string };
}

/** Okabe and Ito's colours, told apart by colour-blind readers too; dashes tell the curves apart without colour. */
const colours = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#F0E442', '#999999'];
const dashes = ['', '6 3', '2 3', '8 3 2 3', '12 4', '1 4', '4 4', '10 2'];

export function drawCurves(curves: readonly Curve[], { xLabel, yLabel, xLog2, yLog, mark }: CurvesOptions): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const dense = curves.some(({ points }) => points.length > 40);
  const marks: Plot.Markish[] = [Plot.gridY({ strokeOpacity: 0.15 })];
  if (mark) {
    marks.push(Plot.ruleX([mark.x], { strokeDasharray: '3 3', strokeOpacity: 0.6 }));
    marks.push(
      Plot.text([mark], {
        x: 'x',
        text: 'label',
        frameAnchor: 'top',
        textAnchor: 'start',
        dx: 5,
        fill: 'currentColor',
      }),
    );
  }
  for (const [i, { name, points }] of curves.entries()) {
    const stroke = colours[i % colours.length]!;
    const dash = dashes[i % dashes.length]!;
    const data = [...points];
    marks.push(Plot.line(data, { x: 'x', y: 'y', stroke, strokeWidth: 2, ...(dash ? { strokeDasharray: dash } : {}) }));
    const title = ({ x, y }: { x: number; y: number }) => `${name}\n${xLabel}: ${x}\n${yLabel}: ${y.toFixed(4)}`;
    marks.push(
      Plot.dot(data, {
        x: 'x',
        y: 'y',
        r: dense ? 2 : 4,
        fill: stroke,
        fillOpacity: dense ? 0 : 1,
        title,
        symbol: symbols[i % symbols.length]!,
      }),
    );
    const last = data.at(-1);
    if (last)
      marks.push(
        Plot.text([{ ...last, name }], { x: 'x', y: 'y', text: 'name', textAnchor: 'start', dx: 8, fill: stroke }),
      );
  }
  const svg = Plot.plot({
    document: document as never,
    width: 720,
    height: 420,
    marginLeft: 56,
    marginRight: 150,
    marginBottom: 44,
    style: { background: 'transparent', color: 'currentColor', fontSize: '13px' },
    x: { label: xLabel, ...(xLog2 ? { type: 'log', base: 2, tickFormat: (value: number) => `${value}` } : {}) },
    y: { label: yLabel, ...(yLog ? { type: 'log' } : {}) },
    marks,
  }) as unknown as { outerHTML: string; setAttribute(name: string, value: string): void };
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', `${yLabel} by ${xLabel}: ${curves.map(({ name }) => name).join(', ')}`);
  return svg.outerHTML;
}

const symbols = ['circle', 'square', 'triangle', 'diamond', 'star', 'cross', 'wye', 'times'] as const;
