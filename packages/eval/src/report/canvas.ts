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
