import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { type LlamaConfigInput, LlamaModel, parseConfig, type TokenBatch } from '@stickbreaking/model';
import { memory, tensor, type Variable } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { batchGradients, disposeAll } from './batch_gradients.js';
import { CheckpointStore } from './checkpoint.js';
import { readMetrics } from './metrics.js';
import { checkpointToResume, intactToResume } from './resume.js';
import type { BatchSource, StageData, TrainStage } from './stage.js';
import { checkIntactStart } from './start.js';
import type { TrainOptions } from './train_options.js';
import { train } from './trainer.js';

const model: LlamaConfigInput = {
  vocabSize: 20,
  hiddenSize: 16,
  intermediateSize: 24,
  numLayers: 1,
  numHeads: 2,
  contextLength: 16,
};

/** Counting upwards from anywhere: a task that a small model learns in a few steps. */
function counting(opened: unknown[] = []): StageData {
  return {
    open: (stage, cursor) => {
      opened.push(cursor);
      let n = (cursor as { n: number } | undefined)?.n ?? 0;
      return {
        next: () => batchFrom(n++, stage.microBatchTokens),
        cursor: () => ({ n }),
      } satisfies BatchSource;
    },
  };
}

function batchFrom(start: number, length: number): TokenBatch {
  const all = Array.from({ length: length + 1 }, (_, i) => (start + i) % 20);
  return { tokens: all.slice(0, length), targets: all.slice(1), cuSeqlens: [0, length / 2, length] };
}

const stage = (rest: Partial<TrainStage> = {}): TrainStage => ({
  schedule: { kind: 'constant', peak: 0.01 },
  steps: 6,
  contextLength: 16,
  batchTokens: 64,
  microBatchTokens: 32,
  data: counting(),
  ...rest,
});

const lossesOf = async (options: Partial<TrainOptions>) => {
  const losses: (number | null)[] = [];
  const hooks = { onStep: ({ loss }: { loss: number | null }) => void losses.push(loss) };
  const result = await train({ model, stages: [stage()], hooks, ...options });
  return { losses, result };
};

beforeAll(async () => {
  await selectBackend('cpu');
});

describe('train', () => {
  it('learns a task that is given to it, and writes nothing without a directory', async () => {
    const { losses, result } = await lossesOf({
      stages: [stage({ steps: 40, schedule: { kind: 'cosine', peak: 0.03 } })],
    });
    expect(losses[0]).toBeGreaterThan(2.5);
    expect(losses.at(-1)).toBeLessThan(0.5);
    expect(result).toMatchObject({ finished: true, checkpoint: undefined, state: { step: 40, tokens: 40 * 64 } });
    result.model.dispose();
  });

  it('leaves no tensors behind but the model', async () => {
    const before = memory().numTensors;
    const { result } = await lossesOf({});
    expect(memory().numTensors - before).toBe(result.model.parameters.size);
    result.model.dispose();
    expect(memory().numTensors).toBe(before);
  });

  it('goes on with the data of the stage before, in batches of another size', async () => {
    const opened: unknown[] = [];
    const stages = [
      stage({ steps: 3, data: counting(opened) }),
      stage({ steps: 2, data: undefined, microBatchTokens: 64 }),
      stage({ steps: 1, data: counting(opened) }),
    ];
    const { result } = await lossesOf({ stages });
    expect(opened).toEqual([undefined, { n: 6 }, undefined]);
    expect(result.state).toMatchObject({ stage: 3, step: 6 });
  });

  it('resumes to the same losses when its signal stopped it, within a step too', async () => {
    const whole = await lossesOf({});
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const stop = new AbortController();
    const hooks = { onStep: ({ step }: { step: number }) => void (step === 2 && setImmediate(() => stop.abort())) };
    const first = await train({ model, stages: [stage()], directory, hooks, signal: stop.signal });
    expect(first).toMatchObject({ finished: false, checkpoint: join(directory, 'checkpoints', 'step-00000002') });
    await train({ model, stages: [stage()], directory, resume: true });
    const saved = readMetrics(join(directory, 'metrics.jsonl')).map((line) => 'loss' in line && line.loss);
    expect(saved).toEqual(whole.losses);
  });

  it('says when it goes on with other arithmetic than it was saved with, and only then', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const noticesOf = async (steps: number, arithmetic?: string) => {
      const notices: string[] = [];
      const hooks = { onNotice: (line: string) => void notices.push(line) };
      const { state } = await train({ model, stages: [stage({ steps })], directory, resume: true, hooks, arithmetic });
      return { notices, arithmetic: state.arithmetic };
    };
    const openBlas = 'native: matmul by OpenBLAS 0.3.21';
    const own = 'native: matmul by our own kernel';
    expect(await noticesOf(1)).toEqual({ notices: [], arithmetic: undefined }); // as older versions saved it
    expect(await noticesOf(2, openBlas)).toEqual({ notices: [], arithmetic: openBlas });
    expect(await noticesOf(3, openBlas)).toEqual({ notices: [], arithmetic: openBlas });
    expect(await noticesOf(4, own)).toEqual({
      notices: [expect.stringMatching(new RegExp(`differ .* up to step 3 .*'${openBlas}', and goes on with '${own}'`))],
      arithmetic: own,
    });
    expect(await noticesOf(5)).toEqual({ notices: [], arithmetic: own });
  });

  it('goes on after its end with a stage that was added, but not with one that was changed', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const opened: unknown[] = [];
    const first = stage({ steps: 3, data: counting(opened) });
    const added = stage({ steps: 2, data: undefined, schedule: { kind: 'linear' } });
    await train({ model, stages: [first], directory });
    const { state } = await train({ model, stages: [first, added], directory, resume: true });
    expect(state).toMatchObject({ stage: 2, step: 5 });
    expect(opened).toEqual([undefined, { n: 6 }]);
    const whole = await lossesOf({ stages: [first, added] });
    const saved = readMetrics(join(directory, 'metrics.jsonl')).map((line) => 'loss' in line && line.loss);
    expect(saved).toEqual(whole.losses);
    const changed = train({ model, stages: [{ ...first, steps: 4 }, added], directory, resume: true });
    await expect(changed).rejects.toThrow('stages.0.steps was 3 and is 4 now');
  });

  it.each(['constant', 'power'])(
    'goes on with a finished stage of a %s schedule that was made longer',
    async (kind) => {
      const schedule = { kind, peak: 0.01 } as TrainStage['schedule'];
      const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
      await train({ model, stages: [stage({ steps: 3, schedule })], directory });
      const stages = [stage({ steps: 5, schedule })];
      const { state } = await train({ model, stages, directory, resume: true });
      expect(state).toMatchObject({ stage: 1, stageStep: 0, step: 5 });
      const saved = readMetrics(join(directory, 'metrics.jsonl')).map((line) => 'loss' in line && line.loss);
      expect(saved).toEqual((await lossesOf({ stages })).losses);
      const shorter = train({ model, stages: [stage({ steps: 2, schedule })], directory, resume: true });
      await expect(shorter).rejects.toThrow('stages.0.steps was 5 and is 2 now');
    },
  );

  it('but not with one whose rate depends on its length, and both values are named', async () => {
    const schedule = { kind: 'cosine', peak: 0.01 } as const;
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    await train({ model, stages: [stage({ steps: 3, schedule })], directory });
    const longer = train({ model, stages: [stage({ steps: 5, schedule })], directory, resume: true });
    await expect(longer).rejects.toThrow('stages.0.steps was 3 and is 5 now');
  });

  it('refuses other data in a stage that has begun, and names the key and both values', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const of = (weight: number) => ({ ...counting(), identity: { sources: [{ weight }] } });
    await train({ model, stages: [stage({ steps: 3, data: of(1) })], directory });
    const other = train({ model, stages: [stage({ steps: 6, data: of(2) })], directory, resume: true });
    await expect(other).rejects.toThrow('stages.0.data.sources.0.weight was 1 and is 2 now');
  });

  it.each([{ step: 2 }, { stageStep: 400 }, { stage: 1 }, { stage: 5, stageStep: 0 }, { tokens: 1 }, { updates: 9 }])(
    'refuses a state that its stages cannot have come to: %j',
    async (change) => {
      const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
      const stop = new AbortController();
      const { checkpoint } = await train({
        ...{ model, directory, stages: [stage({ steps: 6 })], signal: stop.signal },
        hooks: { onStep: ({ step }) => void (step === 3 && stop.abort()) },
      });
      const file = join(checkpoint!, 'state.json');
      writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...change }));
      const resumed = train({ model, stages: [stage({ steps: 6 })], directory, resume: true, verify: false });
      await expect(resumed).rejects.toThrow(/state\.json is (damaged: step \d+|of step 2)/);
    },
  );

  it('refuses a checkpoint whose config.json is of another model than its state', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const { checkpoint } = await train({ model, stages: [stage({ steps: 3 })], directory });
    const file = join(checkpoint!, 'config.json');
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.replace('"attendCurrent": false', '"attendCurrent": true'));
    expect(readFileSync(file, 'utf8')).not.toBe(text);
    const resumed = (verify: boolean) => train({ model, stages: [stage()], directory, resume: true, verify });
    await expect(resumed(true)).rejects.toThrow('config.json is damaged: it has');
    await expect(resumed(false)).rejects.toThrow(
      'model.attention.attendCurrent is false in state.json and true in config.json; put config.json back as it was ' +
        `saved; no other checkpoint of the run is good: move ${join(directory, 'checkpoints')} away, and the run begins anew.`,
    );
  });

  it.each(['model.safetensors', 'optimizer.safetensors', 'state.json', 'config.json', 'checksums.json'])(
    'refuses a checkpoint with one bit of %s changed, and takes the older one that is named',
    async (name) => {
      const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
      const stages = [stage({ steps: 4 })];
      const { checkpoint } = await train({ model, stages, directory, checkpoints: { everySteps: 2 } });
      const file = join(checkpoint!, name);
      const bytes = readFileSync(file);
      const at = name.endsWith('.json') ? bytes.lastIndexOf('"') - 1 : bytes.length >> 1;
      bytes[at] = bytes[at]! ^ 1;
      writeFileSync(file, bytes);
      const longer = { model, stages: [stage({ steps: 6 })], directory, resume: true };
      const error = (await train(longer).catch((one) => one)) as Error;
      expect(error.name).toBe('UserError');
      expect(error.message).toContain(checkpoint);
      const older = checkpoint!.replace('00004', '00002');
      expect(error.message).toMatch(
        new RegExp(`(${name}|json) is damaged: .*; ${older} is good: delete ${checkpoint} to go on`),
      );
      rmSync(checkpoint!, { recursive: true });
      const { state } = await train(longer);
      expect(state.step).toBe(6);
      const saved = readMetrics(join(directory, 'metrics.jsonl')).map((line) => 'loss' in line && line.loss);
      expect(saved).toEqual((await lossesOf({ stages: longer.stages })).losses);
    },
  );

  it('goes on from a changed bit where it is told not to verify', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const { checkpoint } = await train({ model, stages: [stage({ steps: 4 })], directory });
    const file = join(checkpoint!, 'model.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 4] = bytes[bytes.length - 4]! ^ 1;
    writeFileSync(file, bytes);
    const { state } = await train({ model, stages: [stage()], directory, resume: true, verify: false });
    expect(state.step).toBe(6);
  });

  it('takes the newest checkpoint where the one before it is removed while it looks', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const { checkpoint } = await train({ model, stages: [stage({ steps: 3 })], directory });
    const latest = vi.spyOn(CheckpointStore.prototype, 'latest');
    latest.mockReturnValueOnce(checkpoint!.replace('00003', '00002'));
    const found = checkpointToResume({ model, stages: [stage()], directory, resume: true });
    latest.mockRestore();
    expect(found?.directory).toBe(checkpoint);
  });

  it('looks at no more bytes than it may where a damaged file may explain what else is wrong', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const { checkpoint } = await train({ model, stages: [stage({ steps: 3 })], directory });
    const file = join(checkpoint!, 'model.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 4] = bytes[bytes.length - 4]! ^ 1;
    writeFileSync(file, bytes);
    const other = { model, seed: 9, stages: [stage()], directory, resume: true };
    await expect(intactToResume(other)).rejects.toThrow('model.safetensors is damaged');
    await expect(intactToResume(other, bytes.length)).rejects.toThrow(/seed/);
    const wider = parseConfig({ ...model, intermediateSize: 48 });
    const start = (mostBytes?: number) => checkIntactStart(wider, { path: checkpoint! }, undefined, true, mostBytes);
    await expect(start()).rejects.toThrow('model.safetensors is damaged');
    await expect(start(bytes.length)).rejects.toThrow(/of another model/);
  });

  it('refuses a checkpoint that lies under the name of another step', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const { checkpoint } = await train({ model, stages: [stage({ steps: 3 })], directory });
    renameSync(checkpoint!, checkpoint!.replace('00003', '00005'));
    await expect(train({ model, stages: [stage()], directory, resume: true })).rejects.toThrow(/is of step 3/);
  });

  it('starts from a checkpoint, at another context length, and refuses one of another model', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const { checkpoint } = await train({ model, stages: [stage()], directory });
    const longer = { ...model, contextLength: 32 };
    const { losses } = await lossesOf({ model: longer, startFrom: checkpoint! });
    const { losses: fresh } = await lossesOf({ model: longer });
    expect(losses[0]).toBeLessThan(fresh[0]! - 0.2);
    const deeper = { ...model, numLayers: 2 };
    await expect(train({ model: deeper, stages: [stage()], startFrom: checkpoint! })).rejects.toThrow(
      /startFrom: .* is of another model: 'model\.layers\.1\./,
    );
  });

  it('does not start from weights that are not finite, and names them', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'train-'));
    const weights = LlamaModel.create(model);
    weights.parameters.get('model.norm.weight')!.assign(tensor(new Float32Array(16).fill(Number.NaN)));
    weights.save(directory);
    await expect(train({ model, stages: [stage()], startFrom: directory })).rejects.toThrow(
      `${directory}: the weights 'model.norm.weight' are not finite`,
    );
  });

  it.each([
    [{ stages: [] }, /no stages/],
    [{ stages: [stage({ data: undefined })] }, /stage 1: the first stage needs data/],
    [{ stages: [stage({ batchTokens: 63 })] }, /batchTokens 63 is not a multiple of microBatchTokens 32/],
    [{ stages: [stage(), stage({ name: 'late', steps: 0 })] }, /late: steps is 0/],
    [{ stages: [stage({ schedule: { kind: 'constant', peak: 1, warmupSteps: 9 } })] }, /warm-up of 576 tokens/],
  ])('says what does not fit: %#', async (options, message) => {
    await expect(train({ model, ...options })).rejects.toThrow(message);
  });
});

describe('a loss that is not finite', () => {
  const spoil = (trained: LlamaModel, value: number) => {
    const weight = trained.parameters.get('model.norm.weight') as Variable;
    weight.assign(tensor(new Float32Array(16).fill(value)));
  };

  it('skips the step, says so, and goes on', async () => {
    const said: string[] = [];
    const metrics: { skipped?: true; loss: number | null }[] = [];
    const { state } = await train({
      model,
      stages: [stage()],
      hooks: {
        onStep: (line, trained) => {
          metrics.push(line);
          if (line.step === 2) spoil(trained, Number.NaN);
          if (line.step === 3) spoil(trained, 1);
        },
        onNotice: (line) => said.push(line),
      },
    });
    expect(metrics.map(({ skipped }) => skipped ?? false)).toEqual([false, false, true, false, false, false]);
    expect(metrics[2]!.loss).toBeNull();
    expect(state).toMatchObject({ step: 6, updates: 5, nonFiniteSteps: 0 });
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(
      /^step 3: the loss is not finite; the step is skipped .* \(1 in a row, the run stops at 5\)$/,
    );
  });

  it('stops after N in a row and names the last good checkpoint', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const run = train({
      model,
      stages: [stage({ steps: 20 })],
      directory,
      checkpoints: { everySteps: 2 },
      maxNonFiniteSteps: 3,
      hooks: { onStep: ({ step }, trained) => step === 5 && spoil(trained, Number.POSITIVE_INFINITY) },
    } as TrainOptions);
    await expect(run).rejects.toThrow(
      `not finite in 3 steps in a row, up to step 8. The last good checkpoint is ${join(directory, 'checkpoints', 'step-00000004')}`,
    );
    expect(readFileSync(join(directory, 'checkpoints', 'latest'), 'utf8')).toBe('step-00000004\n');
  });

  it('ends the run where its last steps were so, with nothing saved over the last good checkpoint', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const run = train({
      model,
      stages: [stage({ steps: 6 })],
      directory,
      checkpoints: { everySteps: 2, keepLast: 1 },
      hooks: { onStep: ({ step }, trained) => step === 5 && spoil(trained, Number.NaN) },
    } as TrainOptions);
    await expect(run).rejects.toThrow(
      /not finite in the last step, up to step 6\. The last good checkpoint is .*step-0+4;/,
    );
    expect(readdirSync(join(directory, 'checkpoints')).sort()).toEqual(['latest', 'step-00000004']);
  });

  it('saves nothing where a signal ends the run among such steps, and says so', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const stop = new AbortController();
    const said: string[] = [];
    const { finished, checkpoint } = await train({
      model,
      stages: [stage({ steps: 9 })],
      directory,
      signal: stop.signal,
      checkpoints: { everySteps: 2 },
      hooks: {
        onStep: ({ step }, trained) => {
          if (step === 5) spoil(trained, Number.NaN);
          if (step === 7) stop.abort();
        },
        onNotice: (line) => void said.push(line),
      },
    });
    expect(finished).toBe(false);
    expect(checkpoint).toBe(join(directory, 'checkpoints', 'step-00000004'));
    expect(said.at(-1)).toBe('the last 2 steps were not finite, so they are not saved');
  });

  it('is found where the last update spoiled the weights and no loss has shown it', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'train-')), 'run');
    const run = train({
      model,
      stages: [stage({ steps: 6 })],
      directory,
      checkpoints: { everySteps: 4 },
      hooks: { onStep: ({ step }, trained) => step === 6 && spoil(trained, Number.NaN) },
    } as TrainOptions);
    await expect(run).rejects.toThrow(/not finite after step 6, so they are not saved\. The last good .*step-0+4;/);
    expect(readFileSync(join(directory, 'checkpoints', 'latest'), 'utf8')).toBe('step-00000004\n');
  });
});

describe('a batch', () => {
  it('in micro-batches has the gradients of the whole, counted by scored tokens', async () => {
    const trained = LlamaModel.create(model, { seed: 3 });
    const parts = [batchFrom(0, 16), batchFrom(5, 16)];
    parts[0] = { ...parts[0]!, targets: Array.from(parts[0]!.targets, (t, i) => (i < 12 ? -1 : t)) };
    const whole: TokenBatch = {
      tokens: parts.flatMap(({ tokens }) => [...tokens]),
      targets: parts.flatMap(({ targets }) => [...targets]),
      cuSeqlens: [0, 8, 16, 24, 32],
    };
    const apart = (await batchGradients(trained, parts))!;
    const together = (await batchGradients(trained, [whole]))!;
    expect(apart.loss).toBeCloseTo(together.loss, 5);
    expect(apart.gradientNorm).toBeCloseTo(together.gradientNorm, 5);
    for (const [name, gradient] of apart.gradients) {
      const other = await together.gradients.get(name)!.data();
      for (const [i, value] of (await gradient.data()).entries()) expect(value).toBeCloseTo(other[i]!, 5);
    }
    disposeAll(apart.gradients);
    disposeAll(together.gradients);
    trained.dispose();
  });
});
