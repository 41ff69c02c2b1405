/** Runs that keep fewer bits: close to the others, resumed to the bit, and not by mistake. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readState, storeToRead } from './checkpoint.js';
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

it('a run goes on with the bits of the residual stream that it began with', async () => {
  const saved = (directory: string) => {
    return readState(storeToRead(directory).latest()!).identity.residualType;
  };
  for (const [name, residualType, other] of [
    ['more', 'fp24', 'bfloat16'],
    ['fewer', 'bfloat16', 'fp24'],
  ] as const) {
    const directory = join(folder, name);
    // A backend that keeps float32 anyway gives the same losses.
    expect(await lossesOf(2, { directory, residualType })).toEqual(await lossesOf(2, {}));
    await expect(lossesOf(4, { directory, residualType: other, resume: true })).rejects.toThrow(
      `residualType was "${residualType}" and is "${other}" now`,
    );
    expect(await lossesOf(4, { directory, resume: true })).toHaveLength(2);
    // Versions that knew bfloat16 alone said nothing.
    expect(saved(directory)).toBe(residualType === 'fp24' ? 'fp24' : undefined);
    expect(await lossesOf(6, { directory, residualType, resume: true })).toHaveLength(2);
  }
  for (const [name, options, expected] of [
    ['new', {}, 'fp24'],
    ['new-fp8', { precision: 'fp8' }, undefined],
  ] as const) {
    const directory = join(folder, name);
    await lossesOf(1, { directory, ...options });
    expect(saved(directory)).toBe(expected);
  }
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
