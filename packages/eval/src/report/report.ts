/**
 * A report is one HTML file that opens from disk: text, figures as inline SVG, and the numbers of every figure as a
 * table. Readable on a phone, in the dark, on paper; without scripts or anything fetched.
 */
import { join } from 'node:path';
import { makeDirectory, replaceFile, writeOutput } from '@stickbreaking/base/node';
import { type Bar, type BarsOptions, barsStyle, renderBars } from './bars.js';
import type { Curve } from './curve.js';
import type { CurvesOptions } from './curves.js';
import { type Finding, sortFindings, summariseFindings, verdictWords } from './findings.js';
import type { MatrixOptions } from './matrix.js';
import { pictureStyle, standaloneSvg } from './picture_style.js';

export type { Curve, CurvePoint } from './curve.js';
export type { Finding } from './findings.js';

interface Picture {
  caption: string;
  /** The picture's file name, without ending, where pictures are written as files too. */
  name?: string;
}

/** One block of a report. */
export type ReportBlock =
  | { kind: 'heading'; text: string }
  | { kind: 'text'; text: string }
  | { kind: 'facts'; facts: readonly (readonly [name: string, value: string])[] }
  | { kind: 'table'; columns: readonly string[]; rows: readonly (readonly (string | number)[])[] }
  /** Text kept as it is, such as a configuration; folded away until asked for. */
  | { kind: 'code'; summary: string; text: string }
  /** `expectedBy` is who expects them, such as "the paper", which is the default. */
  | { kind: 'findings'; findings: readonly Finding[]; expectedBy?: string }
  /** Files beside the report, such as its numbers; paths as seen from it. */
  | { kind: 'files'; files: readonly { path: string; text: string }[] }
  | ({ kind: 'bars'; bars: readonly Bar[] } & BarsOptions)
  | ({ kind: 'curves'; curves: readonly Curve[] } & Picture & CurvesOptions)
  | ({ kind: 'matrix' } & Picture & MatrixOptions)
  /** What the colours of matrices stand for, from nothing to a full colour. */
  | { kind: 'scale'; label: string; largest: number }
  /** Pictures beside each other where there is room. */
  | { kind: 'row'; blocks: readonly ReportBlock[] };

/** A report: a title and its blocks, in order. */
export interface Report {
  title: string;
  blocks: readonly ReportBlock[];
}

/** Writes the report, replacing the file atomically. */
export async function writeReport(path: string, report: Report): Promise<void> {
  writeOutput(path, await renderReport(report));
}

/** Writes each picture that has a name as `<directory>/<name>.svg`; returns the names. */
export async function writePictures(directory: string, report: Report): Promise<string[]> {
  makeDirectory(directory);
  const pictures = await picturesOf(report.blocks);
  for (const { name, svg } of pictures) {
    replaceFile(join(directory, `${name}.svg`), standaloneSvg(svg));
  }
  return pictures.map(({ name }) => name);
}

async function picturesOf(blocks: readonly ReportBlock[]): Promise<{ name: string; svg: string }[]> {
  const pictures = blocks.map(async (block) => {
    if (block.kind === 'row') return await picturesOf(block.blocks);
    const svg = await drawBlock(block);
    return svg && 'name' in block && block.name ? [{ name: block.name, svg }] : [];
  });
  return (await Promise.all(pictures)).flat();
}

/**
 * A block's picture as SVG; undefined where it is none.
 *
 * @param isNarrow for screens as narrow as a phone's; undefined also where it does not fit there
 */
export async function drawBlock(block: ReportBlock, isNarrow = false): Promise<string | undefined> {
  if (block.kind !== 'curves' && block.kind !== 'matrix') return undefined;
  // Observable Plot and a DOM take a while to load, which a program without pictures is spared.
  const { drawCurves, drawMatrix } = await import('./drawing.js');
  return block.kind === 'curves' ? drawCurves(block.curves, block, isNarrow) : drawMatrix(block, isNarrow);
}

/** The report as HTML. */
export async function renderReport({ title, blocks }: Report): Promise<string> {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${style}${barsStyle}${pictureStyle}</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
${await renderBlocks(blocks)}
</main>
</body>
</html>
`;
}

async function renderBlocks(blocks: readonly ReportBlock[]): Promise<string> {
  return (await Promise.all(blocks.map(renderBlock))).join('\n');
}

async function renderBlock(block: ReportBlock): Promise<string> {
  switch (block.kind) {
    case 'heading':
      return `<h2>${escapeHtml(block.text)}</h2>`;
    case 'text':
      return `<p>${escapeHtml(block.text)}</p>`;
    case 'facts':
      return `<dl>${block.facts.map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`).join('')}</dl>`;
    case 'table':
      return renderTable(block.columns, block.rows);
    case 'code':
      return `<details><summary>${escapeHtml(block.summary)}</summary><pre>${escapeHtml(block.text)}</pre></details>`;
    case 'findings':
      return renderFindings(block.findings, block.expectedBy);
    case 'bars':
      return renderBars(block.bars, block, escapeHtml);
    case 'scale':
      return `<p class="scale">${escapeHtml(block.label)}: 0 <span></span> ${block.largest}</p>`;
    case 'row':
      return `<div class="row">${await renderBlocks(block.blocks)}</div>`;
    case 'curves':
    case 'matrix':
      return renderFigure((await drawBlock(block))!, await drawBlock(block, true), block.caption);
    case 'files':
      return `<p>${block.files.map(({ path, text }) => `<a href="${escapeHtml(encodeURI(path))}">${escapeHtml(text)}</a>`).join(' · ')}</p>`;
  }
}

/** A picture, drawn once more for phones; one that would be too small there is scrolled instead. */
function renderFigure(svg: string, narrow: string | undefined, caption: string): string {
  const picture =
    narrow === undefined
      ? `<div class="scroll picture">${svg}</div>`
      : `<div class="for-wide">${svg}</div><div class="for-narrow">${narrow}</div>`;
  return `<figure>${picture}<figcaption>${escapeHtml(caption)}</figcaption></figure>`;
}

/** Each finding under its verdict, which is a word and a sign, not a colour alone. */
function renderFindings(findings: readonly Finding[], expectedBy = 'the paper'): string {
  const expects = escapeHtml(`${expectedBy.charAt(0).toUpperCase()}${expectedBy.slice(1)} expects`);
  const rows = sortFindings(findings).map(
    ({ expected, source, found, verdict }) =>
      `<tr class="${verdict}"><td data-label="Verdict"><strong>${verdictWords[verdict]}</strong></td>` +
      `<td data-label="${expects}">${escapeHtml(expected)} <small>(${escapeHtml(source)})</small></td>` +
      `<td data-label="Found here">${escapeHtml(found)}</td></tr>`,
  );
  return (
    `<p><strong>${escapeHtml(summariseFindings(findings, expectedBy))}</strong></p>` +
    `<table class="findings"><thead><tr><th scope="col">Verdict</th><th scope="col">${expects}</th>` +
    `<th scope="col">Found here</th></tr></thead><tbody>\n${rows.join('\n')}\n</tbody></table>`
  );
}

function renderTable(columns: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const head = columns.map((column) => `<th scope="col">${escapeHtml(column)}</th>`).join('');
  const body = rows
    .map((row) => `<tr>${row.map((cell) => `<td>${escapeHtml(String(cell))}</td>`).join('')}</tr>`)
    .join('\n');
  return `<div class="scroll table"><table><thead><tr>${head}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

const style = `
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --faint: #6664; --weight: #0072B2; --on-weight: #ffffff; --link: #005a8c; --mark: #D55E00; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c; --weight: #56B4E9; --on-weight: #000000; --link: #56B4E9; --mark: #ff8a4c; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 820px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2rem; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; opacity: .85; }
svg { max-width: 100%; height: auto; overflow: visible; } .picture svg { max-width: none; } a { color: var(--link); }
.for-narrow { display: none; } .for-narrow svg { width: 100%; max-width: 460px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { opacity: .75; }
dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } .scroll + .scroll { margin-top: 1.2rem; } .scroll td { white-space: nowrap; }
main > .table, main > .row { position: relative; left: 50%; transform: translateX(-50%); width: max-content; min-width: 100%; max-width: calc(100vw - 3rem); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child { text-align: left; }
.findings th, .findings td { text-align: left; vertical-align: top; }
.findings td:first-child { white-space: nowrap; } .findings td { border-bottom: 1px solid var(--faint); }
.findings .disagrees td:first-child { border-left: 6px solid var(--mark); }
.findings .open td:first-child { border-left: 6px dotted #8a8a8a; }
.findings .agrees td:first-child { border-left: 6px solid var(--weight); }
.scale span { display: inline-block; width: 8rem; height: .8rem; vertical-align: middle; border: 1px solid var(--faint); background: linear-gradient(to right, transparent, var(--weight)) padding-box; print-color-adjust: exact; }
.row { display: flex; flex-wrap: wrap; gap: 0 1.5rem; } .row figure { max-width: 100%; margin: .75rem 0; }
h1, h2, p, dd, figcaption { overflow-wrap: anywhere; }
pre { overflow-x: auto; font-size: .85rem; white-space: pre-wrap; overflow-wrap: anywhere; } summary { cursor: pointer; }
@media screen and (max-width: 720px) { .for-wide { display: none; } .for-narrow { display: block; } }
@media (max-width: 560px) {
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
  .findings thead { display: none; } .findings tr, .findings td { display: block; border: 0; padding: .15rem .6rem; }
  .findings tr { margin-bottom: .8rem; border-bottom: 1px solid var(--faint); }
  .findings td:not(:first-child)::before { content: attr(data-label) ": "; opacity: .75; }
}
@media print {
  :root { color-scheme: light; --ink: #000000; --paper: #ffffff; } main { max-width: none; } .picture svg { max-width: 100%; }
  details::details-content { content-visibility: visible; display: block; } pre { columns: 2; font-size: .7rem; } .row figure { max-width: 48%; }
  .scroll { overflow: visible; font-size: .7rem; } main > .table, main > .row { position: static; transform: none; width: auto; max-width: none; } figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
}
`;
