/** An attention map as a picture: queries downwards, keys to the right, tokens on both axes. */
import type { ReportBlock } from '../report/report.js';
import type { AttentionMap } from './maps.js';

/** Labels and caption of an attention picture. */
export interface AttentionPictureOptions {
  /** One for each token. */
  labels: readonly string[];
  caption: string;
  /** File name without ending. */
  name?: string;
  /** Cells to frame, such as the token that should be retrieved. */
  marked?: readonly { query: number; key: number; label?: string }[];
}

/** With stick-breaking the first column is what a query gave to no key. */
const NO_KEY = '∅';

/** An attention map as a block of a report. */
export function attentionPicture(map: AttentionMap, options: AttentionPictureOptions): ReportBlock {
  const { labels, caption, name, marked = [] } = options;
  const length = labels.length;
  const withRemainder = map.remainder.some((rest) => rest > 0);
  const shift = withRemainder ? 1 : 0;
  const columns = withRemainder ? [NO_KEY, ...labels] : labels;
  const values = new Float32Array(length * columns.length);
  for (let j = 0; j < length; j++) {
    if (withRemainder) values[j * columns.length] = map.remainder[j]!;
    values.set(map.weights.subarray(j * length, (j + 1) * length), j * columns.length + shift);
  }
  const describe = (row: number, column: number, value: number) => {
    const key = column < shift ? 'no key' : `${labels[column - shift]} (${column - shift + 1})`;
    return `${labels[row]} (${row + 1}) gives ${key} ${value.toFixed(3)}`;
  };
  return {
    kind: 'matrix',
    caption,
    ...(name ? { name } : {}),
    rows: labels,
    columns,
    rowLabel: 'query',
    columnLabel: 'key',
    values,
    describe,
    marked: marked.map(({ query, key, label }) => ({ row: query, column: key + shift, ...(label ? { label } : {}) })),
  };
}

/** Tokens as labels: what would be invisible, or look like something else, is written out. */
export function tokenLabels(tokens: readonly number[], decode: (ids: number[]) => string): string[] {
  return tokens.map((token) => {
    const text = decode([token]).replaceAll('\n', '⏎').replaceAll('\t', '⇥').replaceAll(' ', '␣');
    if (text === '' || text.includes('\ufffd')) return `#${token}`;
    return text.length > 14 ? `${text.slice(0, 13)}…` : text;
  });
}
