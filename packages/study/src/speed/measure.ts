/**
 * Measures training steps of one attention at one context length, in a separate process, so that its memory is
 * separate.
 */
import { generator, median } from '@stickbreaking/base';
import { peakMemory } from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import { type LlamaConfigInput, LlamaModel, type TokenBatch } from '@stickbreaking/model';
import { batchGradients, Optimizer, OptimizerSchema } from '@stickbreaking/train';
import { backend as activeBackend } from '@tensorflow/tfjs-core';
import { z } from 'zod';
import { runOwnProcess, tellParent } from '../own_process.js';
import type { ArmContext } from '../study.js';

export interface MeasureRequest {
  backend: string;
  model: LlamaConfigInput;
  /** Tokens of each document. */
  length: number;
  /** Tokens of a step: a multiple of the length. */
  tokens: number;
  /** Steps before the clock starts, and steps measured. */
  warmupSteps: number;
  steps: number;
  /** Give up after this many seconds. */
  secondsAtMost: number;
}

const MeasuredSchema = z.object({
  /** Median over the steps. */
  tokensPerSecond: z.number(),
  /** Tokens per second of the slowest and of the fastest step; studies of before have none. */
  slowestToFastest: z.tuple([z.number(), z.number()]).optional(),
  /** Peak memory: of the device if the backend has one, otherwise of the whole process. */
  peakBytes: z.number(),
  peakOf: z.enum(['device', 'process']),
  tokens: z.number(),
});

export type Measured = z.infer<typeof MeasuredSchema>;

/** What was measured, or why that failed. */
export const MeasureResultSchema = z.union([MeasuredSchema, z.strictObject({ failed: z.string() })]);

export type MeasureResult = z.infer<typeof MeasureResultSchema>;

/** Starts this command again with `--measure` and returns what it reports; undefined if the signal stopped it. */
export async function measureApart(
  { secondsAtMost, ...request }: MeasureRequest,
  { signal, command }: ArmContext,
): Promise<MeasureResult | undefined> {
  let measured: Measured | undefined;
  const { code, killedBy, lastLine } = await runOwnProcess({
    args: [command, '--measure', JSON.stringify(request)],
    signal,
    stopWith: 'SIGKILL',
    timeout: 1000 * secondsAtMost,
    onMessage: (message: Measured) => {
      measured = message;
    },
  });
  if (signal.aborted) return undefined;
  if (code === 0 && measured) return measured;
  return { failed: killedBy ? `not done within ${secondsAtMost} s, or out of memory` : lastLine };
}

export async function measureHere(json: string): Promise<void> {
  const request = JSON.parse(json) as Omit<MeasureRequest, 'secondsAtMost'>;
  await selectBackend(request.backend);
  tellParent(await measure(request));
  if (process.connected) process.disconnect();
}

/** Whole training steps: forward, backward, gradient norm and AdamW, on random tokens. */
export async function measure({
  model: config,
  length,
  tokens,
  warmupSteps,
  steps,
}: Omit<MeasureRequest, 'secondsAtMost'>): Promise<Measured> {
  const model = LlamaModel.create(config);
  const optimizer = new Optimizer(model.parameters, OptimizerSchema.parse({}));
  const random = generator(0, 'speed');
  const times: number[] = [];
  for (let step = 0; step < warmupSteps + steps; step++) {
    const batch = randomBatch(model.config.vocabSize, length, tokens, random);
    const start = performance.now();
    const { gradients } = (await batchGradients(model, [batch], {
      early: (gradients, norm) => optimizer.update(gradients, norm, 1e-4),
    }))!;
    for (const gradient of gradients.values()) gradient.dispose();
    await [...model.parameters.values()].at(-1)!.data(); // a device works behind the host: wait for it
    if (step >= warmupSteps) times.push(performance.now() - start);
  }
  const speed = (time: number) => (1000 * tokens) / time;
  const onDevice = (activeBackend().memory() as { peakBytesInGpu?: number }).peakBytesInGpu;
  const peak = onDevice ?? peakMemory();
  return {
    tokensPerSecond: speed(median(times)),
    slowestToFastest: [speed(Math.max(...times)), speed(Math.min(...times))],
    peakBytes: peak,
    peakOf: onDevice === undefined ? 'process' : 'device',
    tokens: tokens * steps,
  };
}

function randomBatch(vocabSize: number, length: number, tokens: number, random: () => number): TokenBatch {
  const ids = Int32Array.from({ length: tokens + 1 }, () => Math.floor(random() * vocabSize));
  const documents = Math.ceil(tokens / length);
  return {
    tokens: ids.subarray(0, tokens),
    targets: ids.subarray(1),
    cuSeqlens: Int32Array.from({ length: documents + 1 }, (_, s) => Math.min(tokens, s * length)),
  };
}
