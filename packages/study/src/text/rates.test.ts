import { describe, expect, it } from 'vitest';
import type { TextEvaluation } from './evaluate.js';
import { earlierThan, keptResults, type Rate, type Swept, triedRates, whySkipped, withRate } from './rates.js';

const trainedId = (rate: Rate, seed: number) => `trained ${rate} ${seed}`;
const swept = (rate: Rate, seed: number, rates: Rate[] = [1, 2, 3]): Swept => ({
  ...{ id: trainedId(rate, seed), arm: { id: 'some', name: 'Some' }, rate, seed, rates, trainedId },
});
const derived = (rate: Rate, seed: number) => ({ ...swept(rate, seed), id: `made of ${rate} ${seed}` });
const results = (losses: Record<string, number>) =>
  new Map(
    Object.entries(losses).map(([id, nll]) => [
      id,
      { lengths: [{ nll }], byPosition: [] } as unknown as TextEvaluation,
    ]),
  );

describe('a sweep of learning rates', () => {
  const two = results({ 'trained 1 0': 4, 'trained 2 0': 3 });
  const all = results({ 'trained 1 0': 4, 'trained 2 0': Number.NaN, 'trained 3 0': 3.5 });

  it('is decided once the first seed has all of them, and a loss that is no number never wins', () => {
    expect(whySkipped(swept(1, 1), 0, two)).toBe(undefined);
    expect(whySkipped(swept(1, 1), 0, all)).toBe('trained 3 0 is better at the training length');
    expect(whySkipped(swept(3, 1), 0, all)).toBe(undefined);
    expect(whySkipped(derived(2, 0), 0, all)).toBe('trained 3 0 is better at the training length');
    const kept = (known: typeof all) => {
      const own = new Map([1, 2, 3].map((rate) => [trainedId(rate, 1), known.get(trainedId(1, 0))!] as const));
      const some = [1, 2, 3].map((rate) => swept(rate, 1));
      return some
        .filter((one) => keptResults([one], 0, new Map([...known, ...own])).length > 0)
        .map(({ rate }) => rate);
    };
    expect(kept(all)).toEqual([3]);
    expect(kept(two)).toEqual([2]);
  });

  it('never skips a training of the first seed', () => {
    for (const rate of [1, 2, 3]) expect(whySkipped(swept(rate, 0), 0, all)).toBe(undefined);
  });

  it('makes the other seeds wait for the first, and what is made of a model for that model', () => {
    const first = ['trained 1 0', 'trained 2 0', 'trained 3 0'];
    expect(earlierThan(swept(2, 0), 0)).toEqual([]);
    expect(earlierThan(swept(2, 1), 0)).toEqual(first);
    expect(earlierThan(derived(2, 1), 0)).toEqual(['trained 2 1', ...first]);
    expect(earlierThan(swept(2, 1, [2]), 0)).toEqual([]); // nothing to choose
  });

  it('says where the best lies at the edge, and nothing where nothing was tried', () => {
    const method = (name: string, losses: number[]) => ({
      ...{ name, rates: [1e-3, 2e-3, 3e-3], lossOf: (rate: Rate) => losses[[1e-3, 2e-3, 3e-3].indexOf(rate!)] },
    });
    const said = JSON.stringify(triedRates([method('inside', [3, 2, 3]), method('outside', [1, 2, 3])]));
    expect(said).toContain('for outside 1e-3: one beyond');
    expect(said).toContain('"2.0000 (kept)"');
    expect(triedRates([{ name: 'one', rates: [undefined], lossOf: () => 3 }])).toEqual([]);
  });

  it('changes the peak of the first stage alone', () => {
    const schedule = { kind: 'constant' as const, peak: 9, warmupFrom: 0 };
    const stages = [
      { steps: 1, schedule },
      { steps: 2, schedule },
    ];
    const recipe = { contextLength: 8, batchTokens: 8, stages, optimizer: {} as never };
    expect(withRate(recipe, 5).stages.map((stage) => stage.schedule.peak)).toEqual([5, 9]);
    expect(withRate(recipe, undefined)).toBe(recipe);
  });
});
