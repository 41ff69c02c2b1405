import { describe, expect, it } from 'vitest';
import { RollingRequests } from './rolling.js';
import { requestsOf, scoreTask, type Task } from './task.js';

/** A token for each character; a token's loss is its own number, so that answers can be told apart. */
const tokenizer = {
  beginId: 0,
  encodeBatch: async (texts: readonly string[]) =>
    texts.map((text) => Array.from(text, (one) => one.codePointAt(0)! - 64)),
};
const ownNumber = async ({ targets }: { targets: ArrayLike<number> }) => Array.from(targets, (one) => Math.max(0, one));

/** As many requests about a number as it is large. */
const counting: Task<'loglikelihood_rolling', number, number, number> = {
  name: 'counting',
  kind: 'loglikelihood_rolling',
  examples: [2, 0, 3],
  requests: (example) => Array.from({ length: example }, (_, i) => ({ text: 'ABC'.slice(0, i + 1) })),
  score: (example, answers) => example * 100 + answers.reduce((sum, { losses }) => sum + losses.length, 0),
  summarise: (scores) => scores.reduce((sum, one) => sum * 1000 + one, 0),
};

describe('a task', () => {
  it('is asked example by example and gives each its own answers', async () => {
    const requests = requestsOf(counting);
    expect(requests.map(({ text }) => text)).toEqual(['A', 'AB', 'A', 'AB', 'ABC']);
    const ids = await tokenizer.encodeBatch(requests.map(({ text }) => text));
    const answers = await new RollingRequests(ids, tokenizer.beginId).answer(ownNumber, 2, () => {});
    expect(answers.map(({ losses }) => [...losses])).toEqual([[1], [1, 2], [1], [1, 2], [1, 2, 3]]);
    expect(scoreTask(counting, answers)).toBe(203_000_306);
  });
});
