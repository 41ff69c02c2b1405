/** The positions of each token that occurs, in the order in which a gradient sums them. */
export interface PositionsByToken {
  /** The tokens that occur, ascending. */
  token: Int32Array;
  /** Position order[start[i]] … order[start[i + 1] − 1] hold token[i]. */
  start: Int32Array;
  order: Int32Array;
}

/**
 * Sorts positions by token, stably, so that each token's sum is taken in one order: a counting sort, linear in both.
 *
 * @param tokens each from 0 to vocabulary − 1
 */
export function byToken(tokens: Int32Array, vocabulary: number): PositionsByToken {
  const next = new Int32Array(vocabulary + 1);
  for (const token of tokens) next[token + 1]!++;
  const token = new Int32Array(Math.min(tokens.length, vocabulary));
  const start = new Int32Array(token.length + 1);
  let distinct = 0;
  for (let id = 0; id < vocabulary; id++) {
    const count = next[id + 1]!;
    next[id + 1]! += next[id]!;
    if (count === 0) continue;
    token[distinct] = id;
    distinct++;
    start[distinct] = next[id + 1]!;
  }
  const order = new Int32Array(tokens.length);
  tokens.forEach((id, position) => {
    order[next[id]!++] = position;
  });
  return { token: token.subarray(0, distinct), start: start.subarray(0, distinct + 1), order };
}
