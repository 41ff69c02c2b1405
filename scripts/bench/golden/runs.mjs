// The golden runs: one tiny training run for each kind of attention and of feed-forward, the same on every machine but for rounding. Their
// losses are kept in native.json and cuda.json, so that a change which should alter no number can show that it alters none.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { train } from '@stickbreaking/train';

export const STEPS = 20;

/** Two layers, grouped heads, and weights large enough for attention to matter from the first step. */
const tiny = {
  vocabSize: 64,
  hiddenSize: 32,
  intermediateSize: 48,
  numLayers: 2,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 32,
  contextLength: 32,
  initializerRange: 0.2,
};
const softmax = (position, rest = {}) => ({ ...tiny, attention: { kind: 'softmax', position, ...rest } });
const rope = (scaling) => softmax({ kind: 'rope', ...(scaling ? { scaling } : {}) });
/** In place of the one SwiGLU. */
const mixture = (model, experts) => ({ ...model, intermediateSize: undefined, experts });
const stick = (rest = {}) => ({ ...tiny, attention: { kind: 'stick-breaking', ...rest } });

/** The models by name. Documents are longer than the windows, thresholds and original context lengths below. */
export const models = {
  'stick-breaking': stick(),
  'stick-breaking, attendCurrent': stick({ attendCurrent: true }),
  'stick-breaking, remainderBias and headNorm': stick({ remainderBias: true, headNorm: true }),
  rope: rope(),
  'rope, linear scaling': rope({ kind: 'linear', factor: 4 }),
  'rope, NTK scaling': rope({ kind: 'ntk', factor: 4 }),
  'rope, dynamic scaling': rope({ kind: 'dynamic', factor: 2, originalContextLength: 12 }),
  'rope in a window': softmax({ kind: 'rope' }, { window: 9 }),
  alibi: softmax({ kind: 'alibi' }),
  fire: softmax({ kind: 'fire', width: 24, initialThreshold: 12 }),
  nope: softmax({ kind: 'none' }),
  experts: mixture(stick(), { count: 6, active: 2, intermediateSize: 24 }),
  'experts and a shared one, rope': mixture(rope(), { count: 4, active: 1, intermediateSize: 24, shared: 16 }),
};

/** Lengths of the documents of each micro-batch: 40 tokens, from a document of one token to one of the whole context. */
const packs = [
  [24, 1, 15],
  [32, 8],
];
const MICRO_BATCH = 40;

/** A linear congruential generator (Numerical Recipes): its own, so that no change elsewhere changes the data. */
function numbers(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Documents that can be learnt: a token mostly has one successor, and the second half repeats the first. */
function document(length, below, { vocabSize }) {
  const half = Math.ceil(length / 2);
  const tokens = [below(vocabSize)];
  while (tokens.length < half) {
    tokens.push(below(4) === 0 ? below(vocabSize) : (5 * tokens.at(-1) + 17) % vocabSize);
  }
  return [...tokens, ...tokens.slice(0, length - half)];
}

function batches() {
  const below = numbers(20_240_601);
  let count = 0;
  return {
    next() {
      const documents = packs[count++ % packs.length].map((length) => document(length, below, tiny));
      const cuSeqlens = [0];
      for (const { length } of documents) cuSeqlens.push(cuSeqlens.at(-1) + length);
      return {
        tokens: Int32Array.from(documents.flat()),
        targets: Int32Array.from(documents.flatMap((tokens) => [...tokens.slice(1), -1])),
        cuSeqlens: Int32Array.from(cuSeqlens),
      };
    },
    cursor: () => null,
  };
}

/**
 * Trains one model for a few steps on tfjs's active backend.
 *
 * @param {string} name one of `models`
 * @returns {Promise<{ losses: number[], gradientNorms: number[] }>} one of each a step; the norms before clipping
 */
export async function goldenRun(name) {
  const losses = [];
  const gradientNorms = [];
  const { model } = await train({
    model: models[name],
    seed: 7,
    // Some steps are clipped and some are not.
    optimizer: { gradientClip: 2.5 },
    stages: [
      {
        steps: STEPS,
        contextLength: tiny.contextLength,
        batchTokens: packs.length * MICRO_BATCH,
        microBatchTokens: MICRO_BATCH,
        schedule: { kind: 'cosine', peak: 0.01, warmupSteps: 4 },
        data: { open: batches },
      },
    ],
    hooks: {
      onStep({ loss, gradientNorm }) {
        losses.push(digits(loss));
        gradientNorms.push(digits(gradientNorm));
      },
    },
  });
  model.dispose();
  return { losses, gradientNorms };
}

/** A float32 in as few digits as bring it back to the bit. */
const digits = (value) => Number(Math.fround(value).toPrecision(9));

/**
 * What the native backend's numbers depend on beside its sources: what the compiler makes of this machine (instruction
 * sets, tuning, its own version) and the C library. Equal fingerprints promise equal bits, with the backend's own matmul.
 *
 * @returns {string | undefined} undefined without a compiler
 */
export function nativeFingerprint() {
  const compilers = process.env.CXX?.trim() ? [process.env.CXX.trim()] : ['c++', 'g++', 'clang++'];
  const machine = process.arch === 'arm64' ? '-mcpu=native' : '-march=native';
  for (const compiler of compilers) {
    const args = [machine, '-O3', '-dM', '-E', '-x', 'c++', '-'];
    const { status, stdout } = spawnSync(compiler, args, { input: '#include <cmath>\n', encoding: 'utf8' });
    if (status !== 0) continue;
    const macros = stdout.split('\n').sort().join('\n');
    return `${process.platform}-${process.arch}-${createHash('sha256').update(macros).digest('hex').slice(0, 16)}`;
  }
  return undefined;
}

/**
 * How far two runs are apart.
 *
 * @returns {{ exact: boolean, losses: number, gradientNorms: number }} the largest relative differences
 */
export function compare(run, recorded) {
  const apart = (values, others) => {
    if (values.length !== others.length) return Number.POSITIVE_INFINITY;
    return Math.max(...values.map((value, i) => Math.abs(value - others[i]) / Math.abs(others[i])));
  };
  const losses = apart(run.losses, recorded.losses);
  const gradientNorms = apart(run.gradientNorms, recorded.gradientNorms);
  return { exact: losses === 0 && gradientNorms === 0, losses, gradientNorms };
}
