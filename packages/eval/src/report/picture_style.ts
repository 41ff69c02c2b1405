/** How pictures look: on a light page and a dark one, and what shows at the pointer. */
import { curveColours } from '@stickbreaking/base';

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
