import { describe, expect, it } from 'vitest';
import { placeStages, type StageData, type TrainStage, totalSteps, totalTokens } from './stage.js';

const data: StageData = {
  open: () => ({ next: () => ({ tokens: [], targets: [], cuSeqlens: [0] }), cursor: () => null }),
};
const constant = { kind: 'constant', peak: 0.1 } as const;
const stage = (rest: Partial<TrainStage> = {}): TrainStage => ({
  ...{ schedule: constant, steps: 3, contextLength: 8, batchTokens: 32, microBatchTokens: 16, data },
  ...rest,
});

describe('stages in their places', () => {
  it('count tokens and micro-batches, and read their own data or that of the last stage with any', () => {
    const placed = placeStages([
      stage({ data: { ...data, identity: 'first' } }),
      stage({ name: 'longer', contextLength: 16, steps: 2, batchTokens: 48, data: undefined }),
      stage({ data: undefined, microBatchTokens: 32 }),
      stage({ data: { ...data, identity: { seed: 1 } } }),
    ]);
    expect(placed.map(({ name }) => name)).toEqual(['stage 1', 'longer', 'stage 3', 'stage 4']);
    expect(placed.map(({ tokensBefore }) => tokensBefore)).toEqual([0, 96, 192, 288]);
    expect(placed.map(({ microBatches }) => microBatches)).toEqual([2, 3, 1, 2]);
    expect(placed.map(({ dataStage }) => dataStage)).toEqual([0, 0, 0, 3]);
    expect(placed.map((one) => one.data)).toEqual(['first', undefined, undefined, { seed: 1 }]);
    expect(totalSteps(placed)).toBe(11);
    expect(totalTokens(placed)).toBe(384);
  });

  it('may have a context as long as a micro-batch, and a warm-up as long as the stage', () => {
    const whole = { kind: 'constant', peak: 0.1, warmupTokens: 96 } as const;
    expect(placeStages([stage({ contextLength: 16, schedule: whole })])).toHaveLength(1);
  });

  it.each<[string, TrainStage[], string]>([
    ['none at all', [], 'The run has no stages'],
    ['no steps', [stage({ steps: 0 })], 'stage 1: steps is 0; expected a whole number above 0.'],
    ['half a step', [stage({ steps: 1.5 })], 'stage 1: steps is 1.5'],
    ['a context of none', [stage({ contextLength: 0 })], 'stage 1: contextLength is 0'],
    ['an empty batch', [stage({ batchTokens: -32 })], 'stage 1: batchTokens is -32'],
    ['an empty micro-batch', [stage({ microBatchTokens: Number.NaN })], 'stage 1: microBatchTokens is NaN'],
    [
      'a part of a micro-batch',
      [stage({ batchTokens: 40 })],
      'batchTokens 40 is not a multiple of microBatchTokens 16',
    ],
    ['too long a context', [stage({ contextLength: 17 })], 'contextLength 17 is above microBatchTokens 16'],
    ['no data', [stage({ data: undefined })], 'stage 1: the first stage needs data.'],
    ['no peak', [stage({ schedule: { kind: 'constant' } })], 'stage 1: the schedule of the first stage needs a peak.'],
    [
      'a warm-up beyond the end',
      [stage(), stage({ schedule: { ...constant, warmupTokens: 97 } })],
      'stage 2: the warm-up of 97 tokens is longer than its 96 tokens.',
    ],
    [
      'nothing left of the rate',
      [stage({ schedule: { kind: 'linear', peak: 0.1 } }), stage({ name: 'rest', schedule: { kind: 'constant' } })],
      'rest: its schedule has no peak, and the stage before ends at a learning rate of 0',
    ],
  ])('are refused: %s', (_, stages, message) => {
    expect(() => placeStages(stages)).toThrow(message);
  });
});
