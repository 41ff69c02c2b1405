import { describe, expect, it } from 'vitest';
import { byToken } from './by_token.js';

/** The same by comparing, as a reader would write it. */
function sorted(tokens: Int32Array) {
  const order = [...tokens.keys()].sort((a, b) => tokens[a]! - tokens[b]! || a - b);
  const token = [...new Set(tokens)].sort((a, b) => a - b);
  const start = token.map((id) => order.findIndex((position) => tokens[position] === id));
  return {
    token: Int32Array.from(token),
    start: Int32Array.from([...start, tokens.length]),
    order: Int32Array.from(order),
  };
}

describe('byToken', () => {
  it.each([
    ['no token', [], 5],
    ['one token everywhere', [3, 3, 3], 5],
    ['the first and the last of the vocabulary', [6, 0, 6, 0, 3], 7],
    ['more tokens than the vocabulary has', [1, 0, 1, 1, 0, 1], 2],
  ])('%s', (_, tokens, vocabulary) => {
    expect(byToken(Int32Array.from(tokens), vocabulary)).toEqual(sorted(Int32Array.from(tokens)));
  });

  it('sorts a thousand tokens, equal ones by position', () => {
    const tokens = Int32Array.from({ length: 1000 }, (_, i) => (i * 7919) % 61);
    expect(byToken(tokens, 97)).toEqual(sorted(tokens));
  });
});
