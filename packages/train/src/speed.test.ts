// What is measured for a plan: few experts of many, each with as many tokens as it would have.
import { LlamaModel } from '@stickbreaking/model';
import { afterEach, expect, it, vi } from 'vitest';
import { type RunConfig, RunConfigSchema } from './run_config.js';
import { secondsOfRun } from './speed.js';

afterEach(() => vi.restoreAllMocks());

const run = (count: number) =>
  RunConfigSchema.parse({
    ...{ output: 'nowhere', tokenizer: 'none.json', batchTokens: 2048, microBatchTokens: 2048 },
    model: {
      ...{ vocabSize: 300, hiddenSize: 8, numLayers: 3, numHeads: 1, contextLength: 64 },
      experts: { count, active: 2, intermediateSize: 128 },
    },
    stages: [{ steps: 10, schedule: { kind: 'constant', peak: 0.01 }, data: [{ path: 'none.jsonl' }] }],
  });

/** The first model that is measured; the measuring itself is not wanted here. */
async function measuredFirst(config: RunConfig, backend: string): Promise<RunConfig['model']> {
  const created = vi.spyOn(LlamaModel, 'create').mockImplementation(() => {
    throw new Error('enough');
  });
  await expect(secondsOfRun(config, backend)).rejects.toThrow('enough');
  return created.mock.calls[0]![0] as RunConfig['model'];
}

it('measures thousands of experts by some of them', async () => {
  const config = run(4096);
  for (const backend of ['cpu', 'native']) {
    const { numLayers, experts } = await measuredFirst(config, backend);
    expect(numLayers).toBe(1);
    expect(experts!.count).toBeLessThan(4096);
    expect(experts!.count).toBeGreaterThanOrEqual(2);
    vi.restoreAllMocks();
  }
});

it('measures all experts where they are few, and never fewer than a token passes', async () => {
  expect((await measuredFirst(run(8), 'native')).experts!.count).toBe(8);
  vi.restoreAllMocks();
  expect((await measuredFirst(run(3), 'cpu')).experts!.count).toBeGreaterThanOrEqual(2);
});
