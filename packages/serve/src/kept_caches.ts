/** Keys and values of conversations that were answered: their next turn begins with the same tokens, which are not read again. */
import type { KeyValueCache } from '@stickbreaking/model';

/** Fewer tokens are read as fast as they are found. */
const LEAST = 16;

interface Kept {
  tokens: readonly number[];
  cache: KeyValueCache;
}

export class KeptCaches {
  /** The last used last. */
  private kept: Kept[] = [];

  /** @param mostTokens that all caches together may hold; the least recently used are given up */
  constructor(private readonly mostTokens: number) {}

  /** A cache of as many of the prompt's first tokens as are kept, but for its last; the caller disposes of it. */
  beginningOf(prompt: readonly number[]): KeyValueCache | undefined {
    let [found, length] = [-1, LEAST - 1];
    for (const [i, { tokens }] of this.kept.entries()) {
      const alike = Math.min(alikeIn(tokens, prompt), prompt.length - 1);
      if (alike > length) [found, length] = [i, alike];
    }
    if (found < 0) return undefined;
    const [one] = this.kept.splice(found, 1) as [Kept];
    this.kept.push(one);
    return one.cache.fork(length);
  }

  /** Keeps a cache, which is no longer the caller's, with the tokens that it holds. */
  keep(tokens: readonly number[], cache: KeyValueCache): void {
    const held = tokens.slice(0, cache.length);
    // What a longer one holds as well is given up.
    const isBeginning = (one: Kept) => alikeIn(one.tokens, held) === one.tokens.length;
    for (const one of this.kept.filter(isBeginning)) one.cache.dispose();
    this.kept = [...this.kept.filter((one) => !isBeginning(one)), { tokens: held, cache }];
    let sum = this.kept.reduce((total, one) => total + one.tokens.length, 0);
    while (this.kept.length > 0 && sum > this.mostTokens) {
      const oldest = this.kept.shift()!;
      sum -= oldest.tokens.length;
      oldest.cache.dispose();
    }
  }

  dispose(): void {
    for (const { cache } of this.kept.splice(0)) cache.dispose();
  }
}

/** How many tokens both begin with. */
function alikeIn(a: readonly number[], b: readonly number[]): number {
  let count = 0;
  while (count < a.length && count < b.length && a[count] === b[count]) count++;
  return count;
}
