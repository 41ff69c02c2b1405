/** The conformance suite's cases of attention. */
import type { Random } from '@stickbreaking/base';
import {
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  tensor1d,
  tensor2d,
  tensor3d,
} from '@tensorflow/tfjs-core';
import { forgettingBias } from '../attention/forgetting.js';
import type { Position } from '../attention/positions.js';
import { softmaxAttention } from '../attention/softmax.js';
import { stickBreakingAttention } from '../attention/stick_breaking.js';
import { type ConformanceCase, type Expected, gradient, output, type PreparedCase, withGradients } from './case.js';
import { type Fire64, fireGradientNames } from './float64/fire.js';
import type { PackedLayout } from './float64/packed.js';
import type { Scaling64 } from './float64/positions.js';
import { type Position64, softmax64 } from './float64/softmax.js';
import { stickBreaking64 } from './float64/stick_breaking.js';
import { boundaries, type Logits, type Pack, packs, queriesAndKeys } from './packs.js';

export const headDims = [16, 32, 50, 64, 128] as const;
/** Query heads and key-value heads. */
export const headCounts = [
  [1, 1],
  [7, 1],
  [7, 7],
  [24, 1],
  [24, 2],
  [24, 24],
] as const;

export interface Sizes {
  pack: Pack;
  headDim: number;
  heads: readonly [number, number];
  logits?: Logits;
  scale?: number;
}

type Input = (values: Float32Array) => Float32Array;

export function drawn(random: Random, input: Input, { pack, headDim, heads: [heads, kvHeads], logits, scale }: Sizes) {
  const layout: PackedLayout = {
    heads,
    kvHeads,
    headDim,
    cuSeqlens: boundaries(pack.queries),
    cuSeqlensK: boundaries(pack.keys),
    scale: scale ?? 1 / Math.sqrt(headDim),
  };
  const { q, k } = queriesAndKeys(random, layout, logits ?? 'usual');
  const values = {
    q: input(q),
    k: input(k),
    v: input(random.normals(k.length)),
    dOutput: input(random.normals(q.length)),
    dRemainder: input(random.normals(q.length / headDim)),
  };
  const packed = (x: Float32Array, rowHeads: number) =>
    tensor3d(x, [x.length / (rowHeads * headDim), rowHeads, headDim]);
  const tensors = () => ({
    q: packed(values.q, heads),
    k: packed(values.k, kvHeads),
    v: packed(values.v, kvHeads),
    dOutput: packed(values.dOutput, heads),
    dRemainder: tensor2d(values.dRemainder, [values.dRemainder.length / heads, heads]),
  });
  return { layout, values, tensors };
}

/** What stick-breaking attention is held to: outputs, remainders and gradients. */
export function stickBreakingResults(wanted: ReturnType<typeof stickBreaking64>, headDim: number): Expected[] {
  return [
    output('output', wanted.output, headDim),
    output('remainder', wanted.remainder, 1),
    gradient('dq', wanted.dq, headDim),
    gradient('dk', wanted.dk, headDim),
    gradient('dv', wanted.dv, headDim),
  ];
}

export function sizesInWords({ pack, headDim, heads: [heads, kvHeads], logits, scale }: Sizes): string {
  const words = [`D ${headDim}`, `heads ${heads}/${kvHeads}`, pack.name];
  if (logits && logits !== 'usual') words.push(`${logits} logits`);
  if (scale !== undefined) words.push(`scale ${scale}`);
  return words.join(', ');
}

function isLarge({ pack, headDim, heads: [heads] }: Sizes): boolean {
  return heads * headDim > 24 * 32 || ([packs.mixed, packs.long].includes(pack) && heads * headDim > 32);
}

/** @param through 'both', or 'output' if the loss does not depend on the remainder */
function stickBreakingCase(sizes: Sizes, attendCurrent: boolean, through: 'both' | 'output' = 'both'): ConformanceCase {
  const self = attendCurrent ? ' with the current token' : '';
  const alone = through === 'output' ? ', remainder unused' : '';
  return {
    name: `stick-breaking${self}, ${sizesInWords(sizes)}${alone}`,
    extreme: !['usual', 'faint', 'far in some queries'].includes(sizes.logits ?? 'usual'),
    large: isLarge(sizes),
    prepare(random, input): PreparedCase {
      const { layout, values, tensors } = drawn(random, input, sizes);
      if (through === 'output') values.dRemainder.fill(0);
      const wanted = stickBreaking64(values, layout, attendCurrent);
      const { headDim, heads, cuSeqlens, cuSeqlensK } = layout;
      return {
        expected: stickBreakingResults(wanted, headDim),
        run() {
          const { q, k, v, dOutput, dRemainder } = tensors();
          const { scale } = sizes;
          return withGradients(
            (...[a, b, c]) => {
              const options = { cuSeqlens, cuSeqlensK, attendCurrent, ...(scale === undefined ? {} : { scale }) };
              const result = stickBreakingAttention(a as Tensor3D, b as Tensor3D, c as Tensor3D, options);
              return [result.output, result.remainder];
            },
            [q, k, v],
            [dOutput, through === 'both' ? dRemainder : undefined],
          );
        },
        exact: ([actualOutput, actualRemainder]) =>
          attendCurrent ? [] : firstTokens(layout, actualOutput!, actualRemainder!, heads * headDim),
      };
    },
  };
}

/** The first token of a document has nothing to attend to: output 0 and remainder 1, exactly. */
function firstTokens(layout: PackedLayout, actual: Float32Array, remainder: Float32Array, width: number): string[] {
  const { cuSeqlens, cuSeqlensK, heads } = layout;
  const wrong: string[] = [];
  for (let s = 0; s + 1 < cuSeqlens.length; s++) {
    const row = cuSeqlens[s]!;
    const count = cuSeqlens[s + 1]! - row;
    if (count === 0 || count !== cuSeqlensK[s + 1]! - cuSeqlensK[s]!) continue;
    if (actual.subarray(row * width, (row + 1) * width).some((value) => value !== 0))
      wrong.push(`document ${s}: the first token's output is not 0`);
    if (remainder.subarray(row * heads, (row + 1) * heads).some((value) => value !== 1))
      wrong.push(`document ${s}: the first token's remainder is not 1`);
  }
  return wrong;
}

type Scheme = 'none' | 'rope' | 'rope linear' | 'rope ntk' | 'rope dynamic' | 'alibi' | 'fire' | 'forget';
export const schemes: readonly Scheme[] = [
  'none',
  'rope',
  'rope linear',
  'rope ntk',
  'rope dynamic',
  'alibi',
  'fire',
  'forget',
];

const scalings: Partial<Record<Scheme, Scaling64>> = {
  'rope linear': { kind: 'linear', factor: 4 },
  'rope ntk': { kind: 'ntk', factor: 8 },
  // Documents shorter and longer than the trained length.
  'rope dynamic': { kind: 'dynamic', factor: 2, originalContextLength: 64 },
};

/** FIRE's hidden units: how many, drawn at random; or chosen for their knots (where a unit turns on or off). */
type FireUnits = number | 'special knots';
/**
 * Units without a knot, with one at distance 0, with the same one, rising and falling, and with one no distance
 * reaches.
 */
const specialKnots = { w1: [0, 0, 1, -1, 1, 2, -2, 1, -1], b1: [1, -1, 0, 0, -0.5, -1, 1, -1.5, 2] };

function drawnFire(random: Random, input: Input, heads: number, units: FireUnits): Fire64 {
  const width = units === 'special knots' ? specialKnots.w1.length : units;
  const { w1, b1 } =
    units === 'special knots' ? specialKnots : { w1: random.normals(width), b1: random.normals(width, 0.5) };
  return {
    w1: input(Float32Array.from(w1)),
    b1: input(Float32Array.from(b1)),
    w2: input(random.normals(heads * width, 0.5)),
    b2: input(random.normals(heads)),
    c: input(Float32Array.of(0.1 + 0.2 * random.uniform())),
    thresholdMultiplier: input(Float32Array.of(0.5 + random.uniform())),
    initialThreshold: 48,
  };
}

type FireTensors = [w1: Tensor2D, b1: Tensor1D, w2: Tensor2D, b2: Tensor1D, c: Tensor1D, thresholdMultiplier: Tensor1D];

function fireTensors(fire: Fire64, heads: number): FireTensors {
  const width = fire.w1.length;
  return [
    tensor2d(fire.w1 as Float32Array, [width, 1]),
    tensor1d(fire.b1 as Float32Array),
    tensor2d(fire.w2 as Float32Array, [heads, width]),
    tensor1d(fire.b2 as Float32Array),
    tensor1d(fire.c as Float32Array),
    tensor1d(fire.thresholdMultiplier as Float32Array),
  ];
}

const usualUnits = 5;

interface SoftmaxCase {
  window?: number | undefined;
  units?: FireUnits;
  /** With a learned sink in each head. */
  sinks?: boolean;
}

function softmaxCase(sizes: Sizes, scheme: Scheme, options: SoftmaxCase = {}): ConformanceCase {
  const { window, units = usualUnits, sinks = false } = options;
  const windowed = window === undefined ? '' : `, window ${window}`;
  const wide = units === usualUnits ? '' : typeof units === 'number' ? ` of ${units} units` : ` of ${units}`;
  return {
    name: `softmax ${scheme}${wide}${windowed}${sinks ? ' with sinks' : ''}, ${sizesInWords(sizes)}`,
    extreme: !['usual', 'faint', 'far in some queries'].includes(sizes.logits ?? 'usual'),
    // Plain operations take seconds of these schemes in a long document.
    large: isLarge(sizes) || (sizes.pack === packs.mixed && ['fire', 'forget'].includes(scheme)),
    prepare(random, input): PreparedCase {
      const { layout, values, tensors } = drawn(random, input, sizes);
      const { headDim, heads, cuSeqlens, cuSeqlensK } = layout;
      const fire = scheme === 'fire' ? drawnFire(random, input, heads, units) : undefined;
      // Some take nearly all, some nearly nothing.
      const sink = sinks ? input(random.normals(heads, 4)) : undefined;
      const logForget = scheme === 'forget' ? drawnGates(random, input, values.k.length / headDim) : undefined;
      const position = position64(scheme, fire, logForget);
      const wanted = softmax64(sink ? { ...values, sink } : values, layout, position, window);
      // A query that sees one key gives it everything, whatever the logit: the gradient is 0, give or take rounding.
      const leastNorm = window === 1 ? wanted.uncancelled : 0;
      return {
        expected: [
          output('output', wanted.output, headDim),
          gradient('dq', wanted.dq, headDim, leastNorm),
          gradient('dk', wanted.dk, headDim, leastNorm),
          gradient('dv', wanted.dv, headDim),
          ...(sink ? [gradient('dSink', wanted.dSink, heads, wanted.uncancelledSink)] : []),
          ...(logForget
            ? [gradient('dLogForget', wanted.dLogForget, layout.kvHeads, Math.max(leastNorm, wanted.uncancelledForget))]
            : []),
          ...(wanted.fire
            ? fireGradientNames.map((name) => {
                const sums = wanted.fire!.sums[name];
                return gradient(`FIRE's ${name}`, sums, sums.length, wanted.fire!.scale(name, 1e-4));
              })
            : []),
        ],
        run() {
          const { q, k, v, dOutput } = tensors();
          const { scale } = sizes;
          const shared = {
            cuSeqlens,
            cuSeqlensK,
            ...(window === undefined ? {} : { window }),
            ...(scale === undefined ? {} : { scale }),
          };
          return withGradients(
            (a, b, c, ...parameters) => [
              softmaxAttention(a as Tensor3D, b as Tensor3D, c as Tensor3D, {
                ...shared,
                ...(sink ? { sink: parameters[0]! } : {}),
                position: logForget
                  ? { kind: 'keys', keyBias: forgettingBias(parameters.at(-1)!, cuSeqlensK) }
                  : positionOf(scheme, fire, parameters.slice(sink ? 1 : 0)),
              }),
            ],
            [
              ...[q, k, v, ...(sink ? [tensor1d(sink)] : []), ...(fire ? fireTensors(fire, heads) : [])],
              ...(logForget ? [tensor2d(logForget, [logForget.length / layout.kvHeads, layout.kvHeads])] : []),
            ],
            [dOutput],
          );
        },
      };
    },
  };
}

/** Logarithms of forget gates from nearly 0 to nearly 1. */
const drawnGates = (random: Random, input: Input, count: number) =>
  input(random.normals(count, 3).map((gate) => -Math.log1p(Math.exp(-gate))));

function position64(scheme: Scheme, fire: Fire64 | undefined, logForget: Float32Array | undefined): Position64 {
  if (logForget) return { kind: 'forget', logForget };
  if (fire) return { kind: 'fire', fire };
  if (scheme === 'none' || scheme === 'alibi') return { kind: scheme };
  return { kind: 'rope', theta: 10_000, scaling: scalings[scheme] };
}

function positionOf(scheme: Scheme, fire: Fire64 | undefined, parameters: readonly Tensor[]): Position {
  if (fire) {
    const [w1, b1, w2, b2, c, thresholdMultiplier] = parameters as FireTensors;
    return {
      kind: 'fire',
      parameters: { w1, b1, w2, b2, c, thresholdMultiplier },
      initialThreshold: fire.initialThreshold,
    };
  }
  if (scheme === 'none' || scheme === 'alibi') return { kind: scheme };
  const scaling = scalings[scheme];
  return { kind: 'rope', ...(scaling ? { scaling } : {}) };
}

export function attentionCases(): ConformanceCase[] {
  const { short, mixed, cached, long, many } = packs;
  const cases: ConformanceCase[] = [];
  headDims.forEach((headDim, d) => {
    headCounts.forEach((heads, h) => {
      cases.push(stickBreakingCase({ pack: short, headDim, heads }, (d + h) % 2 === 1));
    });
    schemes.forEach((scheme, s) => {
      cases.push(softmaxCase({ pack: short, headDim, heads: headCounts[(d + s) % headCounts.length]! }, scheme));
    });
  });
  for (const attendCurrent of [false, true]) {
    const stick = (sizes: Sizes) => cases.push(stickBreakingCase(sizes, attendCurrent));
    stick({ pack: mixed, headDim: attendCurrent ? 64 : 32, heads: [1, 1] });
    stick({ pack: cached, headDim: 32, heads: [4, 2] });
    stick({ pack: many, headDim: 16, heads: [2, 1] });
    for (const logits of ['extreme', 'lone', 'high', 'low'] as const)
      stick({ pack: short, headDim: 64, heads: [2, 1], logits });
    stick({ pack: short, headDim: 32, heads: [2, 2], scale: 0.3 });
    stick({ pack: mixed, headDim: attendCurrent ? 64 : 32, heads: [2, 1], logits: 'faint' });
    stick({ pack: long, headDim: attendCurrent ? 32 : 64, heads: [2, 1], logits: 'far in some queries' });
  }
  cases.push(stickBreakingCase({ pack: long, headDim: 64, heads: [4, 2], logits: 'far in some queries' }, false));
  cases.push(stickBreakingCase({ pack: mixed, headDim: 128, heads: [2, 1] }, false));
  cases.push(stickBreakingCase({ pack: mixed, headDim: 64, heads: [1, 1], logits: 'extreme' }, false));
  cases.push(stickBreakingCase({ pack: short, headDim: 64, heads: [2, 2] }, false, 'output'));
  schemes.forEach((scheme, s) => {
    const headDim = ['rope dynamic', 'alibi', 'fire', 'forget'].includes(scheme) ? 16 : [64, 128][s % 2]!;
    cases.push(softmaxCase({ pack: mixed, headDim, heads: [1, 1] }, scheme));
    cases.push(softmaxCase({ pack: short, headDim: 32, heads: [4, 2] }, scheme, { window: [1, 2, 7, 64][s % 4]! }));
    cases.push(softmaxCase({ pack: cached, headDim: 64, heads: [4, 2] }, scheme));
    cases.push(softmaxCase({ pack: cached, headDim: 32, heads: [2, 1] }, scheme, { window: 33 }));
    cases.push(softmaxCase({ pack: many, headDim: 16, heads: [2, 1] }, scheme));
    cases.push(softmaxCase({ pack: short, headDim: 64, heads: [2, 1], logits: 'extreme' }, scheme));
  });
  for (const scheme of ['none', 'alibi', 'fire', 'forget'] as const)
    cases.push(softmaxCase({ pack: mixed, headDim: 32, heads: [2, 1] }, scheme, { window: 200 }));
  for (const headDim of [64, 128]) cases.push(softmaxCase({ pack: mixed, headDim, heads: [2, 1] }, 'forget'));
  cases.push(softmaxCase({ pack: mixed, headDim: 64, heads: [1, 1] }, 'fire', { units: 32 }));
  for (const units of [8, 100, 'special knots'] as const) {
    cases.push(softmaxCase({ pack: short, headDim: 64, heads: [4, 2] }, 'fire', { units }));
    cases.push(
      softmaxCase({ pack: cached, headDim: 32, heads: [2, 1] }, 'fire', {
        window: units === 8 ? 150 : undefined,
        units,
      }),
    );
  }
  for (const logits of ['lone', 'high', 'low'] as const)
    cases.push(softmaxCase({ pack: short, headDim: 64, heads: [2, 1], logits }, 'none'));
  cases.push(softmaxCase({ pack: short, headDim: 32, heads: [2, 2], scale: 0.3 }, 'alibi'));
  for (const scheme of ['none', 'rope', 'alibi', 'fire'] as const) {
    cases.push(softmaxCase({ pack: short, headDim: 64, heads: [4, 2] }, scheme, { sinks: true }));
    cases.push(softmaxCase({ pack: cached, headDim: 32, heads: [2, 1] }, scheme, { sinks: true, window: 33 }));
  }
  cases.push(softmaxCase({ pack: mixed, headDim: 128, heads: [1, 1] }, 'rope', { sinks: true }));
  return cases;
}
