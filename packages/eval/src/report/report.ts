/**
 * A report is one HTML file that opens from disk: text, figures as inline SVG, and beside every figure its numbers as a
 * table. Readable on a phone, in the dark, on paper.
 */
import { replaceFile } from '@stickbreaking/model';
import { type Curve, type CurvesOptions, drawCurves } from './curves.js';

export type { Curve } from './curves.js';

export type ReportBlock =
  | { kind: 'heading'; text: string }
  | { kind: 'text'; text: string }
  | { kind: 'facts'; facts: readonly (readonly [name: string, value: string])[] }
  | { kind: 'table'; columns: readonly string[]; rows: readonly (readonly (string | number)[])[] }
  | ({ kind: 'curves'; caption: string; curves: readonly Curve[] } & CurvesOptions);

export interface Report {
  title: string;
  blocks: readonly ReportBlock[];
}

/** Writes the report, replacing the file at once. */
export function writeReport(path: string, report: Report): void {
  replaceFile(path, (write) => write(Buffer.from(renderReport(report))));
}

export function renderReport({ title, blocks }: Report): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
${blocks.map(renderBlock).join('\n')}
</main>
</body>
</html>
`;
}

function renderBlock(block: ReportBlock): string {
  switch (block.kind) {
    case 'heading':
      return `<h2>${escapeHtml(block.text)}</h2>`;
    case 'text':
      return `<p>${escapeHtml(block.text)}</p>`;
    case 'facts':
      return `<dl>${block.facts.map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`).join('')}</dl>`;
    case 'table':
      return renderTable(block.columns, block.rows);
    case 'curves':
      return `<figure>${drawCurves(block.curves, block)}<figcaption>${escapeHtml(block.caption)}</figcaption></figure>`;
  }
}

function renderTable(columns: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const head = columns.map((column) => `<th scope="col">${escapeHtml(column)}</th>`).join('');
  const body = rows
    .map((row) => `<tr>${row.map((cell) => `<td>${escapeHtml(String(cell))}</td>`).join('')}</tr>`)
    .join('\n');
  return `<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

const style = `
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --faint: #6664; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 760px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2rem; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; opacity: .85; }
svg { max-width: 100%; height: auto; overflow: visible; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { opacity: .75; } dd { margin: 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child { text-align: left; }
@media print { main { max-width: none; } figure { break-inside: avoid; } }
`;
