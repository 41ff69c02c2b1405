import { describe, expect, it } from 'vitest';
import { learningRate, ScheduleSchema, type StageSchedule } from './schedule.js';

function stage(schedule: object, rest: Partial<StageSchedule> = {}): StageSchedule {
  return {
    schedule: ScheduleSchema.parse(schedule),
    steps: 100,
    batchTokens: 1000,
    contextLength: 100,
    tokensBefore: 0,
    ...rest,
  };
}

describe('power', () => {
  it('is min(peak, β·a·n^b) after a straight warm-up', () => {
    const big = { steps: 1_000_000, batchTokens: 4_194_304, contextLength: 4096 };
    const stages = [stage({ kind: 'power', peak: 0.01, warmupSteps: 10 }, big)];
    expect(learningRate(stages, 0, 0)).toBeCloseTo(0.001, 12);
    expect(learningRate(stages, 0, 9)).toBeCloseTo(0.01, 12);
    const n = 500_000 * 4_194_304;
    expect(learningRate(stages, 0, 500_000)).toBeCloseTo(1024 * 4.6 * n ** -0.51, 12);
    expect(learningRate(stages, 0, 500_000)).toBeLessThan(0.01);
  });

  it('warms up to its curve where that runs below the peak', () => {
    const below = stage({ kind: 'power', peak: 10, warmupTokens: 4000, warmupFrom: 0.1 });
    const curve = (tokens: number) => 10 * 4.6 * tokens ** -0.51;
    expect(curve(4000)).toBeLessThan(1);
    for (const step of [0, 1, 2, 3]) {
      expect(learningRate([below], 0, step)).toBeCloseTo(0.1 + ((curve(4000) - 0.1) * (step + 1)) / 4, 12);
    }
    for (const step of [4, 5, 50]) expect(learningRate([below], 0, step)).toBeCloseTo(curve(1000 * step), 12);
  });

  it('counts the tokens of the stages before', () => {
    const later = stage({ kind: 'power', peak: 10 }, { tokensBefore: 7000 });
    expect(learningRate([later], 0, 3)).toBeCloseTo(10 * 4.6 * 10_000 ** -0.51, 12);
  });

  it('does not depend on the stage’s length', () => {
    const short = stage({ kind: 'power', peak: 0.01 });
    const long = stage({ kind: 'power', peak: 0.01 }, { steps: 1e6 });
    for (const step of [0, 7, 99]) expect(learningRate([short], 0, step)).toBe(learningRate([long], 0, step));
  });
});

describe('a stage without a peak', () => {
  it('goes on from where the one before it ended', () => {
    const first = stage({ kind: 'power', peak: 0.01, warmupTokens: 3000 }, { steps: 1e6 });
    const second = stage({ kind: 'exponential' }, { tokensBefore: 1e9 });
    const stages = [first, second];
    expect(learningRate(stages, 1, 0)).toBeCloseTo(10 * 4.6 * 1e9 ** -0.51, 12);
  });
});

describe('decays', () => {
  it.each(['exponential', 'cosine', 'linear'])('%s goes from the peak to its final value, falling', (kind) => {
    const stages = [stage({ kind, peak: 1, final: 0.1, warmupSteps: 20 }, { steps: 1020 })];
    expect(learningRate(stages, 0, 20)).toBeCloseTo(1, 12);
    let before = 1;
    for (let step = 21; step < 1020; step++) {
      const now = learningRate(stages, 0, step);
      expect(now).toBeLessThan(before);
      before = now;
    }
    expect(before).toBeGreaterThan(0.1);
    expect(learningRate(stages, 0, 1020)).toBeCloseTo(0.1, 12);
  });

  it.each([
    ['linear', [1, 0.775, 0.55, 0.325]],
    ['cosine', [1, 0.1 + 0.45 * (1 + Math.SQRT1_2), 0.55, 0.1 + 0.45 * (1 - Math.SQRT1_2)]],
  ])('%s has its shape: %j at the quarters', (kind, expected) => {
    const stages = [stage({ kind, peak: 1, final: 0.1, warmupSteps: 20 })];
    const found = [20, 40, 60, 80].map((step) => learningRate(stages, 0, step));
    for (const [i, rate] of expected.entries()) expect(found[i]).toBeCloseTo(rate, 12);
  });

  it('exponential falls by the same factor in the same time, but for its shift', () => {
    const stages = [stage({ kind: 'exponential', peak: 1, rate: 4 })];
    const shift = Math.exp(-4) / (1 - Math.exp(-4));
    const at = (step: number) => learningRate(stages, 0, step) + shift;
    expect(at(60) / at(40)).toBeCloseTo(at(40) / at(20), 12);
  });

  it('follow appendix C.1: 1e-5 to 1.25e-4 in 150 steps, then to zero at step 6250', () => {
    const c1 = { steps: 6250, batchTokens: 4_194_304, contextLength: 16_384 };
    const stages = [stage({ kind: 'exponential', peak: 1.25e-4, warmupSteps: 150, warmupFrom: 1e-5 }, c1)];
    expect(learningRate(stages, 0, 0)).toBeCloseTo(1e-5 + 1.15e-4 / 150, 12);
    expect(learningRate(stages, 0, 149)).toBeCloseTo(1.25e-4, 12);
    expect(learningRate(stages, 0, 6249)).toBeGreaterThan(0);
    expect(learningRate(stages, 0, 6249)).toBeLessThan(1e-8);
    expect(learningRate(stages, 0, 6250)).toBe(0);
  });

  it('constant stays', () => {
    const stages = [stage({ kind: 'constant', peak: 0.3 })];
    expect([0, 50, 99].map((step) => learningRate(stages, 0, step))).toEqual([0.3, 0.3, 0.3]);
  });
});

describe('the edges of a stage', () => {
  const kinds = ['power', 'exponential', 'constant', 'cosine', 'linear'];
  const cases = kinds.flatMap((kind) =>
    [1, 2, 5].flatMap((steps) =>
      [...new Set([0, 1, steps - 1, steps])].map((warmupSteps) => ({ kind, steps, warmupSteps })),
    ),
  );

  // 100 sequences of 10 tokens: 10·4.6·n^−0.51 stays above the peak for these few tokens.
  it.each(cases)('$kind, $steps steps, $warmupSteps of them warm-up: rises to the peak and is never 0', (given) => {
    const { kind, steps, warmupSteps } = given;
    const stages = [stage({ kind, peak: 0.01, warmupSteps }, { steps, contextLength: 10 })];
    const rates = Array.from({ length: steps }, (_, step) => learningRate(stages, 0, step));
    for (const [step, rate] of rates.entries()) {
      expect(rate).toBeGreaterThan(0);
      expect(rate).toBeLessThanOrEqual(0.01);
      if (step < warmupSteps) expect(rate).toBeCloseTo((0.01 * (step + 1)) / warmupSteps, 12);
    }
    expect(rates[Math.max(0, warmupSteps - 1)]).toBeCloseTo(0.01, 12);
  });

  it.each(['exponential', 'constant', 'cosine', 'linear'])(
    '%s goes on from the peak of a stage that only warmed up',
    (kind) => {
      const first = stage({ kind: 'cosine', peak: 0.01, warmupSteps: 5 }, { steps: 5 });
      const second = stage({ kind }, { tokensBefore: 5000 });
      expect(learningRate([first, second], 1, 0)).toBeCloseTo(0.01, 12);
    },
  );

  it('a warm-up in tokens that ends within the last step', () => {
    for (const warmupTokens of [4001, 4999, 5000]) {
      const stages = [stage({ kind: 'cosine', peak: 0.01, warmupTokens }, { steps: 5 })];
      expect(learningRate(stages, 0, 4)).toBeCloseTo(0.01, 12);
    }
  });
});
