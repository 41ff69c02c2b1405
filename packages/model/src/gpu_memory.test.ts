/** The estimate, held to the cuda backend on a device that only counts, and to what GPUs measured. */
import { readdirSync, readFileSync } from 'node:fs';
import { adamW, selectBackend, toBfloat16 } from '@stickbreaking/core';
import {
  type Communicator,
  type CountingCuda,
  Gpus,
  registerCountingCuda,
  ShardedWeights,
} from '@stickbreaking/core/cuda';
import { add, dispose, type Tensor, type Variable, variable, zeros } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  estimateTrainingMemory,
  type LlamaConfig,
  LlamaModel,
  loadConfig,
  ownTokens,
  parseConfig,
  type SequenceGroup,
  type TrainingMemoryOptions,
} from './index.js';

const WORKSPACE = 64 * 2 ** 20;
let device: CountingCuda;

beforeAll(async () => {
  device = registerCountingCuda('counting');
  await selectBackend('counting');
});

function zeroLike({ shape }: Variable, momentType?: string): Variable {
  const wide = zeros(shape);
  const initial = momentType === 'bfloat16' ? toBfloat16(wide) : wide;
  if (initial !== wide) wide.dispose();
  const result = variable(initial, false);
  initial.dispose();
  return result;
}

/** Peak of the second of two steps, with the library's workspace that the device has not. */
function counted(config: LlamaConfig, options: TrainingMemoryOptions) {
  const { tokens, contextLength, recompute, precision, residualType, momentType = 'float32', accumulates } = options;
  const model = LlamaModel.from(config, (_, shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)));
  const parameters = [...model.parameters.values()];
  const moments = () => parameters.map((parameter) => zeroLike(parameter, momentType));
  const [firstMoments, secondMoments] = [moments(), moments()];
  const ids = new Int32Array(tokens);
  const cuSeqlens = Int32Array.from({ length: tokens / contextLength! + 1 }, (_, i) => i * contextLength!);
  const sequence = options.context ? ringOf(options.context) : undefined;
  const whole = { tokens: ids, targets: ids, cuSeqlens };
  const batch = sequence ? ownTokens(whole, sequence) : whole;
  for (let step = 1; step <= 2; step++) {
    device.reset();
    let sums: Map<string, Tensor> | undefined;
    for (let i = 0; i < (accumulates ? 2 : 1); i++) {
      const { loss, gradients } = model.gradients(batch, { recompute, precision, residualType, sums, sequence });
      loss.dispose();
      sums = gradients;
    }
    const gradients = [...sums!.values()];
    adamW({
      ...{ parameters, gradients, firstMoments, secondMoments, weightDecays: parameters.map(() => 0) },
      ...{ learningRate: 0, beta1: 0, beta2: 0, epsilon: 1, step, gradientScale: 1, momentType },
    });
    dispose(gradients);
  }
  const { peak } = device.memory();
  const uploaded = device.uploaded();
  dispose([...firstMoments, ...secondMoments]);
  model.dispose();
  // A step brings its tokens, four numbers each, and small things: a tensor made on the host would hold the GPU up.
  expect(uploaded).toBeLessThan((accumulates ? 2 : 1) * batch.tokens.length * 16 + 2 ** 17);
  return peak + WORKSPACE;
}

/** The last of a ring, to which all others' keys come: tensors that are sent are copied. */
function ringOf(size: number): SequenceGroup {
  const copies = (tensors: readonly Tensor[]) => tensors.map((one) => add(one, one));
  return { rank: size - 1, size, by: 'ring', exchange: (parts) => add(parts, parts), shift: copies, most: () => 1 };
}

/** The same of one of several GPUs that share the optimizer's state; what others would send is left out. */
function countedShared(config: LlamaConfig, options: TrainingMemoryOptions) {
  const { tokens, contextLength, recompute, gpus, accumulates, shard, orderedSums, reduceType } = options;
  const model = LlamaModel.from(config, (_, shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)));
  const communicator = { rank: 0, size: gpus!, memory: () => undefined } as unknown as Communicator;
  const isMatrix = (name: string, { rank }: Variable) => rank >= 2 && !/norm|bias/.test(name);
  const others = new Gpus(device.backend, communicator);
  others.silent = true;
  const weights = new ShardedWeights(others, model.parameters, isMatrix, { shard, orderedSums, reduceType });
  const parameters = [...weights.owned.values()];
  const moments = () => parameters.map((parameter) => zeroLike(parameter));
  const [firstMoments, secondMoments] = [moments(), moments()];
  const ids = new Int32Array(tokens);
  const cuSeqlens = Int32Array.from({ length: tokens / contextLength! + 1 }, (_, i) => i * contextLength!);
  for (let step = 1; step <= 2; step++) {
    device.reset();
    weights.beginStep();
    let gradients: Map<string, Tensor> | undefined;
    const batches = accumulates ? 2 : 1;
    for (let i = 0; i < batches; i++) {
      gradients = weights.beginBatch(gradients, i === batches - 1);
      const onReady = (name: string, gradient: Tensor) => weights.settle(name, gradient);
      const result = model.gradients({ tokens: ids, targets: ids, cuSeqlens }, { recompute, sums: gradients, onReady });
      result.loss.dispose();
      gradients = result.gradients;
      weights.endBatch();
    }
    const sums = weights.finishSums(gradients!);
    adamW({
      ...{ parameters, gradients: [...sums.values()], firstMoments, secondMoments },
      ...{ weightDecays: parameters.map(() => 0), learningRate: 0, beta1: 0, beta2: 0, epsilon: 1, step },
      gradientScale: 1,
    });
    dispose([...sums.values()]);
    for (const inLayers of [false, true]) weights.renewWeights(inLayers);
  }
  const { peak } = device.memory();
  dispose([...firstMoments, ...secondMoments, ...parameters]);
  return peak + WORKSPACE;
}

const modelOf = (changed: object) =>
  parseConfig({
    ...{ vocabSize: 8192, hiddenSize: 512, intermediateSize: 1376, numLayers: 8, numHeads: 8, contextLength: 4096 },
    ...changed,
  });

describe('the memory of a training step, which runs on the GPU alone, is within 3 %', () => {
  it.each<[string, object, Partial<TrainingMemoryOptions>?]>([
    ['stick-breaking', {}],
    ['grouped queries and a tied head', { numKvHeads: 2, tieEmbeddings: true }],
    ['RoPE, with muP', { attention: 'softmax+rope', mup: { residualMultiplier: 0.22 } }],
    ['heads of 128', { numHeads: 4 }],
    ['FIRE', { attention: 'softmax+fire' }],
    ['a forget gate', { attention: 'softmax+forget' }],
    ['norms over heads', { attention: { kind: 'stick-breaking', headNorm: true, remainderBias: true } }],
    ['QK-norm', { attention: { kind: 'softmax', position: 'rope', qkNorm: true } }],
    ['QK-norm of sticks', { numKvHeads: 2, attention: { kind: 'stick-breaking', qkNorm: true, initialReach: 16 } }],
    [
      'norms that follow',
      { normPlacement: 'after', attention: { kind: 'softmax', position: 'rope', qkNorm: 'projection' } },
    ],
    [
      'layers that differ',
      { attention: { kind: 'softmax', position: 'rope', window: 512, windowLayers: [0, 1, 2, 4], nopeLayers: [3, 7] } },
    ],
    ['a part of each head turned', { attention: { kind: 'softmax', position: { kind: 'rope', rotaryFraction: 0.5 } } }],
    ['a sink', { attention: { kind: 'softmax', position: 'alibi', sink: true } }],
    ['an initial reach', { numKvHeads: 2, attention: { kind: 'stick-breaking', initialReach: 32 } }],
    ['a mixture', { intermediateSize: undefined, experts: { count: 16, active: 4, intermediateSize: 352 } }],
    [
      'a mixture, with a shared expert',
      { intermediateSize: undefined, experts: { count: 16, active: 4, intermediateSize: 352, shared: 352 } },
    ],
    ['a vocabulary whose logits are not kept', { vocabSize: 128_000 }],
    ['a residual stream in 24 bits', {}, { residualType: 'fp24' }],
    ['the same, with norms that follow', { normPlacement: 'after' }, { residualType: 'fp24' }],
    ['matmuls in eight bits, moments in bfloat16', {}, { precision: 'fp8', momentType: 'bfloat16' }],
  ])('%s', (_, changed, fewer = {}) => {
    const config = modelOf(changed);
    device.onCpu.clear();
    for (const recompute of ['none', 'attention', 'block'] as const) {
      for (const options of [
        { tokens: 512, contextLength: 512, recompute, accumulates: false },
        { tokens: 16_384, contextLength: 4096, recompute, accumulates: true },
        { tokens: 16_384, contextLength: 16_384, recompute, accumulates: false },
      ].map((one): TrainingMemoryOptions => ({ ...one, ...fewer }))) {
        const measured = counted(config, options);
        const { total } = estimateTrainingMemory(config, options);
        expect(Math.abs(total / measured - 1), `${JSON.stringify(options)}: ${total} for ${measured}`).toBeLessThan(
          0.03,
        );
      }
    }
    expect([...device.onCpu]).toEqual([]);
  });
});

it.each([64, 128])('the memory of a GPU whose sequences go round a ring is near enough, heads of %d', (headDim) => {
  const config = modelOf({ numHeads: 512 / headDim, numKvHeads: 256 / headDim, contextLength: 32_768 });
  for (const recompute of ['none', 'attention', 'block'] as const) {
    const shared = { tokens: 32_768, contextLength: 32_768, context: 4, contextBy: 'ring' } as const;
    const options = { ...shared, recompute, accumulates: false };
    const measured = counted(config, options);
    const { total } = estimateTrainingMemory(config, options);
    expect(Math.abs(total / measured - 1), `${recompute}: ${total} for ${measured}`).toBeLessThan(0.03);
  }
});

describe('the memory of each of several GPUs is within 3 %', () => {
  const mixture = { intermediateSize: undefined, experts: { count: 16, active: 4, intermediateSize: 352 } };
  it.each<[number, 'optimizer' | 'gradients' | 'weights', string?, object?]>([
    [2, 'optimizer'],
    [4, 'optimizer'],
    [4, 'gradients'],
    [4, 'weights'],
    [4, 'optimizer', 'in order'],
    [4, 'optimizer', 'in bfloat16'],
    [2, 'gradients', 'in bfloat16'],
    [4, 'optimizer', 'of a mixture', mixture],
    [4, 'gradients', 'of a mixture', mixture],
    [4, 'weights', 'of a mixture', mixture],
  ])('%d, %s %s', (gpus, shard, what = '', more = {}) => {
    // Once each: what several share stays, as it does until a run ends.
    const config = modelOf({ numKvHeads: 2, tieEmbeddings: true, mup: { residualMultiplier: 0.22 }, ...more });
    const orderedSums = what === 'in order';
    const reduceType = what === 'in bfloat16' ? 'bfloat16' : 'float32';
    for (const accumulates of [false, true]) {
      const before = device.memory().used;
      const recompute = shard === 'optimizer' ? 'none' : 'block';
      const shared = { recompute, gpus, shard, accumulates, orderedSums, reduceType } as const;
      const options = { tokens: 16_384, contextLength: 4096, ...shared };
      const measured = countedShared(config, options) - before;
      const { total } = estimateTrainingMemory(config, options);
      expect(Math.abs(total / measured - 1), `${accumulates}: ${total} for ${measured}`).toBeLessThan(0.03);
    }
  });
});

const folder = new URL('../../../benchmarks/', import.meta.url);
const kept = ['', 'h200/']
  .flatMap((card) => readdirSync(new URL(card || '.', folder)).map((name) => `${card}${name}`))
  .filter((name) => /(^|\/)cuda-train-.*\.json$/.test(name))
  .map((name) => ({ name, ...JSON.parse(readFileSync(new URL(name, folder), 'utf8')) }));

describe('the memory that a GPU measured is within 3 %', () => {
  it.each(kept)('$name', ({ command, attention, layers, tokensPerStep, peakGiB, gpus = 1, ...measured }) => {
    const {
      recompute,
      precision,
      residualType,
      momentType,
      shard,
      context = 1,
      orderedSums: how,
      reduceType,
    } = measured;
    const file = /--config (\S+)/.exec(command)?.[1] ?? 'configs/1b.yaml';
    const base = loadConfig(new URL(`../../../${file}`, import.meta.url).pathname);
    const contextLength = measured.sequenceLength ?? base.contextLength;
    const config = parseConfig({ ...base, attention, numLayers: layers, contextLength, mup: undefined });
    const tokens = (tokensPerStep / gpus) * context;
    const fewer = { precision, residualType, momentType };
    const options = { tokens, recompute, ...fewer, gpus, shard, context, orderedSums: how !== undefined, reduceType };
    const { total } = estimateTrainingMemory(config, options);
    expect(Math.abs(total / 2 ** 30 / peakGiB - 1)).toBeLessThan(0.03);
  });
});
