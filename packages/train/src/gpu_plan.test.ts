// What a run is told of GPUs' memory: that of the paper's models on an H100, and what would fit instead.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OutOfMemoryError } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { trainTokenizer } from '@stickbreaking/data';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adviceToFit, gpuMemoryFault, planGpus } from './gpu_plan.js';
import { runTraining } from './run.js';
import { loadRunConfig } from './run_config.js';

const GIB = 2 ** 30;
const H100 = 79.1 * GIB;

describe('a plan for GPUs', () => {
  it('shares the optimizer’s state out, and says what is sent', () => {
    const config = loadRunConfig('1b');
    const plans = [1, 2, 4, 8].map((gpus) => planGpus(config, gpus, H100));
    const parameters = 1_208_083_968;
    for (const [i, { gpus, memoryBytes, trafficBytes, instead }] of plans.entries()) {
      expect(instead).toBeNull();
      expect(trafficBytes).toBeCloseTo((6 * parameters * (gpus - 1)) / gpus, -1);
      // Sums of every micro-batch's gradients; weights for every forward and backward.
      const batches = 256 / gpus;
      for (const [shard, reduceType, bytes] of [
        ['gradients', 'float32', 4 * batches + 2],
        ['weights', 'float32', (4 + 2 * 2) * batches],
        ['optimizer', 'bfloat16', 2 + 2],
        ['gradients', 'bfloat16', 2 * batches + 2],
        ['weights', 'bfloat16', (2 + 2 * 2) * batches],
      ] as const) {
        const parallel = { ...config.parallel, shard, reduceType };
        const { trafficBytes: sent } = planGpus({ ...config, parallel }, gpus, H100);
        expect(sent).toBeCloseTo((bytes * parameters * (gpus - 1)) / gpus, -1);
      }
      // Of the twelve bytes a parameter that are shared out, a GPU of twice as many has half.
      const next = plans[i + 1];
      if (next && gpus > 1) expect(memoryBytes - next.memoryBytes).toBeCloseTo((12 * parameters) / next.gpus, -1);
    }
    // Measured on H100s, one micro-batch each: 41.2 GiB on two, 37.8 on four.
    for (const [gpus, measured] of [
      [2, 41.2],
      [4, 37.8],
    ] as const)
      expect(planGpus({ ...config, batchTokens: gpus * 16_384 }, gpus, H100).memoryBytes / GIB).toBeCloseTo(
        measured,
        0,
      );
    expect(plans.map(({ tokensPerSecond }) => tokensPerSecond)).toEqual(
      plans.map(({ tokensPerSecond }) => tokensPerSecond).toSorted((a, b) => a! - b!),
    );
  });

  it('knows what a mixture of experts needs, and that it takes longer than a dense model of its active size', () => {
    const plan = planGpus(loadRunConfig('moe-6.5b'), 4, H100);
    // By tensor: 12 bytes of state a parameter shared out, 2 and 4 of weights and gradients on each GPU.
    const parameters = 6_371_194_368;
    expect(plan.memoryBytes).toBeGreaterThan((12 / 4 + 2 + 4) * parameters);
    expect(plan.memoryBytes / GIB).toBeCloseTo(66.9, 1);
    expect(plan.instead).toBeNull();
    const { model, ...rest } = loadRunConfig('moe-6.5b');
    const { experts, ...sizes } = model;
    const dense = { ...rest, model: { ...sizes, intermediateSize: experts!.active * experts!.intermediateSize } };
    const { tokensPerSecond, utilisation } = planGpus(dense, 4, H100);
    // By the parameters that a token passes, and by what it costs to send it there.
    const flops = 6 * 1_086_371_328 + 6 * 40 * 12 * 128 * 4096;
    expect(plan.utilisation).toBeCloseTo((plan.tokensPerSecond * flops) / (4 * 989e12), 6);
    expect(plan.utilisation / utilisation).toBeCloseTo(plan.tokensPerSecond / tokensPerSecond, 2);
    expect(plan.tokensPerSecond / tokensPerSecond).toBeGreaterThan(0.6);
    expect(plan.tokensPerSecond / tokensPerSecond).toBeLessThan(0.9);
    expect(gpuMemoryFault(loadRunConfig('moe-28.6b'), planGpus(loadRunConfig('moe-28.6b'), 8, H100))).toMatch(
      /takes about 209.2 GiB of each GPU, which has 79.1 GiB; by the estimate it fits with parallel\.shard=weights/,
    );
  });

  it('leaves room for NCCL and for gaps: what ran on four H100s fits, and what did not does not', () => {
    const fault = (overrides: string[]) => {
      const config = loadRunConfig('moe-6.5b', ['batchTokens=262144', ...overrides]);
      return gpuMemoryFault(config, planGpus(config, 4, H100));
    };
    expect(fault(['microBatchTokens=8192'])).toBeUndefined();
    expect(fault(['microBatchTokens=16384', 'parallel.shard=gradients'])).toBeUndefined();
    const large = ['microBatchTokens=16384', 'optimizer.momentType=bfloat16'];
    expect(fault(large)).toMatch(
      /^The run takes about 74\.2 GiB of each GPU, which has 79\.1 GiB, beside 5\.7 GiB for the driver, NCCL and gaps between tensors; by the estimate it fits with /,
    );
    // On H100s whose driver keeps less to itself, too.
    const config = loadRunConfig('moe-6.5b', ['batchTokens=262144', ...large]);
    expect(planGpus(config, 4, 79.2 * GIB).instead).not.toBeNull();
  });

  it('takes the stage that needs the most, advises what every stage can have, and counts the time of each', () => {
    const stage = (contextLength: number) =>
      `{ steps: 10, contextLength: ${contextLength}, schedule: { kind: constant, peak: 1e-3 }, data: [{ path: text }] }`;
    const plan = (stages: string, capacity = H100) => {
      const sizes = ['batchTokens=65536', 'microBatchTokens=65536', 'model.contextLength=65536'];
      return planGpus(loadRunConfig('skip-16k', [...sizes, `stages=[${stages}]`]), 1, capacity);
    };
    const [short, long] = [plan(stage(4096)), plan(stage(65_536))];
    const both = [plan(`${stage(4096)}, ${stage(65_536)}`), plan(`${stage(65_536)}, ${stage(4096)}`)];
    for (const { memoryBytes, tokensPerSecond } of both) {
      expect(memoryBytes).toBe(long.memoryBytes);
      expect(memoryBytes).toBeGreaterThan(short.memoryBytes);
      expect(2 / tokensPerSecond).toBeCloseTo(1 / short.tokensPerSecond + 1 / long.tokensPerSecond, 9);
    }
    // Smaller micro-batches would not hold the second stage's documents.
    expect(plan(`${stage(4096)}, ${stage(65_536)}`, 7 * GIB).instead).toEqual(['recompute=attention']);
  });

  it('fits a larger model by the fastest settings that are not set already', () => {
    const config = loadRunConfig('3b');
    const plan = planGpus(config, 1, H100);
    expect(plan.instead).toEqual(['microBatchTokens=4096']);
    expect(gpuMemoryFault(config, plan)).toBe(
      'The run takes about 117.4 GiB of the GPU, which has 79.1 GiB; by the estimate it fits with microBatchTokens=4096.',
    );
    const there = loadRunConfig('3b', ['microBatchTokens=4096']);
    expect(planGpus(there, 1, H100).instead).toBeNull();
    expect(gpuMemoryFault(there, planGpus(there, 1, H100))).toBeUndefined();
  });

  it.each([
    // Its own recomputation is not advised to it, and what is tried takes less than what did not fit.
    [['recompute=block'], 60, /^by the estimate it fits with --gpus 2/],
    [['recompute=block', 'microBatchTokens=8192'], 75, /fits with microBatchTokens=4096$/],
    [[], 30, /fits with --gpus 4 parallel\.shard=gradients recompute=block$/],
    [[], 2, /^by the estimate no setting makes it fit: take a smaller model, or a shorter context$/],
  ])('advises %j on %d GiB', (overrides, gib, message) => {
    expect(adviceToFit(loadRunConfig('3b', overrides), 1, gib * GIB)).toMatch(message);
  });

  it('advises no more GPUs than may share the run', () => {
    const advice = (gib: number, ...overrides: string[]) =>
      adviceToFit(loadRunConfig('3b', overrides), 1, gib * GIB).replace('by the estimate ', '');
    const ordered = 'parallel.orderedSums=true';
    expect(advice(10)).toMatch(/^it fits with --gpus 16 /);
    expect(advice(10, ordered)).toBe(
      'no setting makes it fit on at most 8 GPUs, as parallel.orderedSums is set: take a smaller model, or a shorter context',
    );
    expect(advice(30, ordered)).toMatch(/^it fits with --gpus [248] /);
    expect(advice(60, 'recompute=block')).toMatch(/^it fits with --gpus 2/);
    expect(advice(60, 'recompute=block', 'parallel.context=4')).toMatch(/^it fits with --gpus 4 /);
  });

  it('advises nothing that the run would refuse: weights shared out where samples are made', () => {
    const config = loadRunConfig('moe-28.6b');
    expect(adviceToFit(config, 8, H100)).toMatch(/parallel\.shard=weights/);
    const samples = { ...config, samples: { prompts: ['a'] } } as typeof config;
    expect(adviceToFit(samples, 8, H100)).not.toMatch(/parallel\.shard=weights/);
  });
});

describe('a device without memory left', () => {
  const folder = mkdtempSync(join(tmpdir(), 'memory-'));
  beforeAll(() => selectBackend('cpu'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('is told with what would fit', async () => {
    const text = join(folder, 'text.jsonl');
    writeFileSync(text, `${JSON.stringify({ text: 'a rose is a rose '.repeat(60) })}\n`.repeat(5));
    await trainTokenizer({ sources: [{ path: text }], vocabSize: 260, output: join(folder, 'tokenizer.json') });
    const file = join(folder, 'run.yaml');
    writeFileSync(
      file,
      `output: ${join(folder, 'run')}
tokenizer: ${join(folder, 'tokenizer.json')}
batchTokens: 64
microBatchTokens: 64
model: { vocabSize: 300, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 2, contextLength: 32 }
stages: [{ steps: 1, schedule: { kind: constant, peak: 0.01 }, data: [{ path: ${text} }] }]
`,
    );
    const hooks = {
      onStart: () => {
        throw new OutOfMemoryError('out of GPU memory: 5 MiB asked, 1 MiB free');
      },
    };
    const run = (deviceMemory: number) => runTraining(loadRunConfig(file), { hooks, deviceMemory });
    await expect(run(GIB)).rejects.toThrow(
      'out of GPU memory: 5 MiB asked, 1 MiB free; by the estimate no setting makes it fit: take a smaller model, or a ' +
        'shorter context. The last checkpoint is safe.',
    );
    await expect(run(2 * GIB)).rejects.toThrow(/; by the estimate it fits with recompute=attention\. The last/);
  });
});
