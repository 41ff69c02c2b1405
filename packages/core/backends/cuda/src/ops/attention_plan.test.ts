import { describe, expect, it } from 'vitest';
import { headsOfSection, parts } from './attention_plan.js';

describe('parts of a document', () => {
  it.each([
    // 4,096 rows are 21 × 192 and 64: the 64 first, where a query sees few keys.
    [4096, 192, 'short first', [0, 64, 256], [64, 192, 192], 22],
    [4096, 192, 'short last', [0, 192, 384], [192, 192, 192], 22],
    [4096, 256, 'short first', [0, 256, 512], [256, 256, 256], 16],
    // The document's end may be no whole block; every part begins at one.
    [300, 192, 'short first', [0, 128], [128, 172], 2],
    [300, 192, 'short last', [0, 192], [192, 108], 2],
    [5, 192, 'short first', [0], [5], 1],
  ] as const)('%i rows by %i, %s', (length, rows, order, froms, counts, total) => {
    const made = parts(length, rows, order);
    expect(made.slice(0, froms.length).map(({ from }) => from)).toEqual([...froms]);
    expect(made.slice(0, counts.length).map(({ count }) => count)).toEqual([...counts]);
    expect(made).toHaveLength(total);
    expect(made.reduce((sum, { count }) => sum + count, 0)).toBe(length);
    expect(made.every(({ from, count }) => from % 64 === 0 && count <= rows)).toBe(true);
  });

  it('an empty document has none', () => {
    expect(parts(0, 192, 'short first')).toEqual([]);
  });
});

describe('heads of a section', () => {
  // Blocks of 192 queries of one document: the longest goes over all keys, all of them over about half of them each.
  const document = (tokens: number) => ({ work: (tokens / 192) * (tokens / 2), longest: tokens });
  it.each([
    // A multiprocessor of 132 has a longest block's work of 16,384 tokens from three heads on.
    ['as many as the cache has room for', 24, 4, 16_384, 4],
    ['more where sections would end before their longest block', 12, 2, 16_384, 3],
    ['fewer, where sections of even size are smaller', 6, 4, 16_384, 3],
    ['all of few', 5, 4, 16_384, 5],
    ['one head', 1, 4, 16_384, 1],
    ['one, where not even one has room', 8, 0, 1024 * 192, 1],
  ])('%s', (_, heads, cached, tokens, expected) => {
    expect(headsOfSection(heads, cached, document(tokens), 132)).toBe(expected);
  });
});
