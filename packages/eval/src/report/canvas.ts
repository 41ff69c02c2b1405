/** Pictures are SVG drawn by Observable Plot; values at the pointer are shown by CSS, so no script is needed. */
import { createHash } from 'node:crypto';
import * as Plot from '@observablehq/plot';
import { curveColours } from '@stickbreaking/base';
import { parseHTML } from 'linkedom';

/** As much of the DOM as is used here; linkedom gives it. */
export interface SvgElement {
  outerHTML: string;
  setAttribute(name: string, value: string): void;
  append(...children: (SvgElement | string)[]): void;
  prepend(...children: (SvgElement | string)[]): void;
}

export interface Canvas {
  svg: SvgElement;
  create(name: string, attributes?: Record<string, string | number>, ...children: (SvgElement | string)[]): SvgElement;
  /** Pixels of a value on one of Plot's scales; a band scale has a width. */
  scale(name: 'x' | 'y'): { apply(value: number): number; bandwidth?: number };
}

/** Draws a plot into a document of its own. `label` is what a screen reader says. */
export function plot(options: Plot.PlotOptions, label: string): Canvas {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const drawn = Plot.plot({ ...options, document: document as never });
  const svg = drawn as unknown as SvgElement;
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', label);
  const create: Canvas['create'] = (name, attributes = {}, ...children) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', name) as unknown as SvgElement;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
    element.append(...children);
    return element;
  };
  const scale = (name: 'x' | 'y') => {
    const found = drawn.scale(name)!;
    const { bandwidth } = found as { bandwidth?: number };
    return {
      apply: (value: number) => found.apply(value) as number,
      ...(bandwidth === undefined ? {} : { bandwidth }),
    };
  };
  return { svg, create, scale };
}

/**
 * The finished picture. Plot numbers its clip paths through a whole process; here their names come from what is drawn, so that
 * they are the same whenever it is drawn, and others than those of other pictures on the page.
 */
export function textOf({ svg }: Canvas): string {
  const names = new Map<string, string>();
  const numbered = svg.outerHTML.replaceAll(/plot-clip-\d+/g, (name) => {
    if (!names.has(name)) names.set(name, `plot-clip-${names.size + 1}`);
    return names.get(name)!;
  });
  if (names.size === 0) return numbered;
  const drawn = createHash('sha256').update(numbered).digest('hex').slice(0, 12);
  return numbered.replaceAll('plot-clip-', `plot-clip-${drawn}-`);
}

const colours = curveColours.light;
const dashes = ['', '6 3', '2 3', '8 3 2 3', '12 4', '1 4', '4 4', '10 2'];
const symbols = ['circle', 'square', 'triangle', 'diamond', 'star', 'cross', 'wye', 'times'] as const;

/** How the i-th curve of a picture looks: colour, dash and symbol each tell it from the others. */
export function lookOf(i: number): { stroke: string; dash: string; symbol: (typeof symbols)[number] } {
  const shifted = i + Math.floor(i / colours.length);
  return {
    stroke: colours[i % colours.length]!,
    dash: dashes[i % dashes.length]!,
    symbol: symbols[shifted % symbols.length]!,
  };
}

/** Colours of curves that stand out from a dark page; they stand in the picture as for a light one. */
const darkColours = curveColours.light
  .map((light, i) => {
    const dark = curveColours.dark[i]!;
    return `[stroke="${light}"] { stroke: ${dark}; } [fill="${light}"] { fill: ${dark}; }`;
  })
  .join('\n');

/** What every picture's CSS needs, in a report and in an SVG file of its own. */
export const pictureStyle = `
@media screen and (prefers-color-scheme: dark) { ${darkColours} }
.sb-tip { visibility: hidden; pointer-events: none; }
.sb-column:hover .sb-tip, .sb-column:focus .sb-tip { visibility: visible; }
.sb-column { outline: none; }
.sb-tip rect { fill: var(--paper, #ffffff); stroke: var(--ink, #1b1b1b); stroke-opacity: .5; }
.sb-tip text { fill: var(--ink, #1b1b1b); }
.sb-said { visibility: hidden; pointer-events: none; fill: currentColor; font-size: 13px; }
.sb-point { outline: none; } .sb-point:hover rect, .sb-point:focus rect { stroke: currentColor; }
.sb-point:hover .sb-said, .sb-point:focus .sb-said { visibility: visible; }
svg:has(.sb-point:hover) .sb-point:not(:hover) .sb-said, svg:has(.sb-column:hover) .sb-column:not(:hover) .sb-tip { visibility: hidden; }
.sb-cell { fill: var(--weight, #0072B2); }
.sb-value { fill: currentColor; }
.sb-value-on-dark { fill: var(--on-weight, #ffffff); }
.sb-mark { fill: none; stroke: var(--mark, #D55E00); stroke-width: 2.5; }
`;

/** A picture as a file of its own, which follows the reader's light or dark setting. */
export function standaloneSvg(svg: string): string {
  const own = `<style>
svg { color: #1b1b1b; background: #ffffff; font-family: system-ui, sans-serif; --ink: #1b1b1b; --paper: #ffffff; }
@media screen and (prefers-color-scheme: dark) { svg { color: #e8e8e8; background: #16181c; --ink: #e8e8e8; --paper: #16181c; --weight: #56B4E9; --on-weight: #000000; --mark: #ff8a4c; } }
${pictureStyle}</style>`;
  const opened = svg.replace(/^<svg([^>]*)>/, (_, attributes: string) => {
    const namespace = attributes.includes('xmlns=') ? '' : ' xmlns="http://www.w3.org/2000/svg"';
    return `<svg${namespace}${attributes}>${own}`;
  });
  return `<?xml version="1.0" encoding="UTF-8"?>\n${opened}\n`;
}
