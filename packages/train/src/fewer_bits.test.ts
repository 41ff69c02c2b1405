/** Runs that keep fewer bits: close to the others, resumed to the bit, and not by mistake. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StageData } from './stage.js';
import type { TrainOptions } from './train_options.js';
import { train } from './trainer.js';

const model = { vocabSize: 20, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 2, contextLength: 16 };
const data: StageData = {
  open: (_, cursor) => {
    let n = (cursor as { n: number } | undefined)?.n ?? 0;
    const next = () => {
      const all = Array.from({ length: 33 }, (_, i) => (3 * n + i * i) % 20);
      n++;
      return { tokens: all.slice(0, 32), targets: all.slice(1), cuSeqlens: [0, 16, 32] };
    };
    return { next, cursor: () => ({ n }) };
  },
};
const folder = mkdtempSync(join(tmpdir(), 'fewer-bits-'));
afterAll(() => rmSync(folder, { recursive: true }));
beforeAll(() => selectBackend('cpu'));

async function lossesOf(steps: number, options: Partial<TrainOptions>): Promise<number[]> {
  const losses: number[] = [];
  const result = await train({
    model,
    stages: [
      {
        ...{ steps, contextLength: 16, batchTokens: 32, microBatchTokens: 32, data },
        schedule: { kind: 'constant', peak: 0.01 },
      },
    ],
    hooks: { onStep: ({ loss }) => void losses.push(loss!) },
    ...options,
  });
  result.model.dispose();
  return losses;
}

it('a run whose residual stream has more bits does not go on without them', async () => {
  const directory = join(folder, 'stream');
  const options = { directory, residualType: 'fp24' } as const;
  // A backend that keeps float32 anyway loses nothing.
  expect(await lossesOf(2, options)).toEqual(await lossesOf(2, {}));
  await expect(lossesOf(4, { directory, resume: true })).rejects.toThrow('residualType');
  expect(await lossesOf(4, { ...options, resume: true })).toHaveLength(2);
});

describe.each([
  ['matmuls in fp8', { precision: 'fp8' }, 'precision'],
  ['moments in bfloat16', { optimizer: { momentType: 'bfloat16' } }, 'optimizer.momentType'],
] as [string, Partial<TrainOptions>, string][])('%s', (name, options, key) => {
  it('change the losses, a little', async () => {
    const [plain, fewer] = [await lossesOf(6, {}), await lossesOf(6, options)];
    expect(fewer).not.toEqual(plain);
    fewer.forEach((loss, i) => {
      expect(Math.abs(loss - plain[i]!)).toBeLessThan(0.02);
    });
  });

  it('give the same bits after a stop, and are not left out by mistake', async () => {
    const directory = join(folder, name.replaceAll(' ', '-'));
    const whole = await lossesOf(6, options);
    const before = await lossesOf(3, { ...options, directory });
    const after = await lossesOf(6, { ...options, directory, resume: true });
    expect([...before, ...after]).toEqual(whole);
    await expect(lossesOf(8, { directory, resume: true })).rejects.toThrow(key);
  });
});
