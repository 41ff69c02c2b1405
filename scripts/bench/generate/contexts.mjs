// The cost of a token by the length of its context, and the share of the cache that is read for it.
import { median } from '@stickbreaking/base';

const CHUNK = 1024;
const STEPS = 24;

/**
 * @param tokens of a text, at least as many as the longest context
 * @returns one row for each context: tokens/s, and the share of the keys that was read
 */
export async function measureContexts(model, tokens, contexts) {
  const cache = model.createCache();
  // Some more, so that no step is recorded anew because the cache has grown.
  model.reserveCache([Math.max(...contexts) + 16 * STEPS]);
  const rows = [];
  for (const context of contexts) {
    while (cache.length < context) {
      const end = Math.min(context, cache.length + CHUNK);
      const logits = model.nextLogits(tokens.slice(cache.length, end), { cache });
      await logits.data();
      logits.dispose();
    }
    const step = cache.fork();
    const times = [];
    let [read, of] = [0, 0];
    for (let i = 0; i < STEPS; i++) {
      const token = [tokens[context + i]];
      const start = performance.now();
      // The first steps count what they read, which keeps them from being recorded; the others are timed.
      const counts = [];
      const counting = i < 4 ? { onKeysRead: (keys) => counts.push(keys.dataSync()) } : {};
      const logits = model.nextLogits(token, { cache: step, ...counting });
      await logits.data();
      logits.dispose();
      if (i >= 8) times.push(performance.now() - start);
      for (const keys of counts) for (const count of keys) [read, of] = [read + count, of + step.length];
    }
    step.dispose();
    const ms = median(times);
    rows.push({ context, msPerToken: ms, tokensPerSecond: 1000 / ms, shareRead: of > 0 ? read / of : 1 });
  }
  cache.dispose();
  return rows;
}
