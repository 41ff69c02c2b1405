import { mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import type { LlamaConfigInput, TokenBatch } from '@stickbreaking/model';
import { memory } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Collective, oneProcess, shareOf } from './collective.js';
import { readMetrics } from './metrics.js';
import type { StageData, TrainStage } from './stage.js';
import { together } from './together.fixture.js';
import type { TrainOptions } from './train_options.js';
import { train } from './trainer.js';

beforeAll(() => selectBackend('cpu'));

const model: LlamaConfigInput = {
  vocabSize: 20,
  hiddenSize: 16,
  intermediateSize: 24,
  numLayers: 1,
  numHeads: 2,
  contextLength: 16,
};

/** Micro-batches of which each scores another number of tokens. */
const data: StageData = {
  open: ({ microBatchTokens: length }, cursor) => {
    let n = (cursor as { n: number } | undefined)?.n ?? 0;
    const next = (): TokenBatch => {
      const all = Array.from({ length: length + 1 }, (_, i) => (n + i * i) % 20);
      const targets = all.slice(1).map((token, i) => (i % 6 < n % 5 ? -1 : token));
      n++;
      return { tokens: all.slice(0, length), targets, cuSeqlens: [0, 7, length] };
    };
    return { next, cursor: () => ({ n }) };
  },
};

const stage: TrainStage = {
  schedule: { kind: 'constant', peak: 0.01 },
  steps: 3,
  contextLength: 16,
  batchTokens: 80,
  microBatchTokens: 16,
  data,
};

async function run(collective: Collective, options: Partial<TrainOptions> = {}) {
  const steps: { loss: number; norm: number }[] = [];
  const onStep: NonNullable<TrainOptions['hooks']>['onStep'] = ({ loss, gradientNorm }) => {
    steps.push({ loss: loss!, norm: gradientNorm! });
  };
  const result = await train({ model, stages: [stage], collective, hooks: { onStep }, ...options });
  const weights = [...result.model.parameters.values()].map((one) => one.dataSync().slice());
  result.model.dispose();
  return { steps, weights, result };
}

describe('several processes', () => {
  it.each([1, 2, 3, 5, 7])('%d share out each micro-batch once', (size) => {
    const batches = Array.from({ length: 5 }, (_, i) => ({ tokens: [i], targets: [i], cuSeqlens: [0, 1] }));
    const shares = together(size).map((one) => shareOf(batches, one));
    expect(shares.flat().sort((a, b) => a.tokens[0]! - b.tokens[0]!)).toEqual(batches);
    const counts = shares.map(({ length }) => length);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
  });

  // Seven are more than there are micro-batches.
  it.each([2, 7])('%d have the losses, norms and cursor of one, and the same weights as each other', async (size) => {
    const before = memory().numTensors;
    const alone = await run(oneProcess);
    const members = await Promise.all(together(size).map((one) => run(one)));
    for (const { steps, weights, result } of members) {
      expect(result.state).toEqual(alone.result.state);
      expect(steps).toEqual(members[0]!.steps);
      expect(weights).toEqual(members[0]!.weights);
      for (const [i, { loss, norm }] of steps.entries()) {
        expect(loss).toBeCloseTo(alone.steps[i]!.loss, 5);
        expect(norm).toBeCloseTo(alone.steps[i]!.norm, 4);
      }
    }
    expect(memory().numTensors).toBe(before);
  });

  it('stop at the same step when one is told to, and the first alone writes files', async () => {
    const directories = [0, 1].map(() => join(mkdtempSync(join(tmpdir(), 'together-')), 'run'));
    const stop = new AbortController();
    const members = await Promise.all(
      together(2).map((one) => {
        const onStep: NonNullable<TrainOptions['hooks']>['onStep'] = ({ step }) => {
          if (one.rank === 1 && step === 2) stop.abort();
        };
        const signal = one.rank === 1 ? stop.signal : undefined;
        return run(one, { directory: directories[one.rank]!, hooks: { onStep }, ...(signal ? { signal } : {}) });
      }),
    );
    for (const { result } of members) expect(result).toMatchObject({ finished: false, state: { step: 2 } });
    expect(readMetrics(join(directories[0]!, 'metrics.jsonl'))).toHaveLength(2);
    expect(readdirSync(join(directories[0]!, 'checkpoints'))).toContain('step-00000002');
    expect(() => readdirSync(directories[1]!)).toThrow('ENOENT');
  });
});
