import { expect, it } from 'vitest';
import { alignColumns, formatBytes, formatCount, formatDuration } from './format.js';

it.each([
  [formatCount, 950, '950'],
  [formatCount, 1_234_567, '1.23M'],
  [formatCount, 12.345, '12.3'],
  [formatDuration, 59.4, '59s'],
  [formatDuration, 61, '1m 01s'],
  [formatDuration, 3725, '1h 02m'],
  [formatDuration, 200_000, '2.3 days'],
  [formatDuration, Number.NaN, '?'],
  [formatBytes, 1023, '1023 bytes'],
  [formatBytes, 3_221_225_472, '3.0 GiB'],
])('%o of %d', (format, value, text) => {
  expect(format(value)).toBe(text);
});

it('aligns columns to the right', () => {
  const rows = [
    ['length', 'loss'],
    ['64', '3.25'],
    ['128', '10.5'],
  ];
  expect(alignColumns(rows)).toBe('length  loss\n    64  3.25\n   128  10.5');
});
