/**
 * Stick-breaking attention over a sequence that several processes share by tokens. Sticks compose: what keys far away add is what
 * they would add to a whole stick, times what the nearer keys have left of it. So keys and values go round a ring, from each
 * process to the one with the tokens behind, the nearest first; and they stop for good once no row has anything left, which
 * softmax cannot know. Backward they come from the farthest to the nearest, and their gradients go with them, back to where
 * they belong; of each row a single number goes on from what is farther to what is nearer (`farther`).
 */
import { UserError } from '@stickbreaking/base';
import {
  add,
  engine,
  fill,
  max,
  mul,
  type NamedTensorMap,
  onesLike,
  scalar,
  slice,
  type Tensor,
  type Tensor2D,
  type Tensor3D,
  tidy,
} from '@tensorflow/tfjs-core';
import { checkAttention, checkCuSeqlens } from '../checks.js';
import { runKernel } from '../run_kernel.js';
import type { StickBreakingOptions } from './stick_breaking.js';

/** The processes that share a sequence, as one of them sees them. Each has as many tokens, in the order of their ranks. */
export interface AttentionRing {
  /** From 0. */
  readonly rank: number;
  readonly size: number;
  /**
   * Gives the tensors to the process `by` places further round the ring, and returns those of the process as many places
   * before: new tensors, of the same shapes, without a gradient. All make the same calls in the same order.
   */
  shift(tensors: readonly Tensor[], by: number): Tensor[];
  /** The largest of all processes' numbers, each a scalar of a process; or Infinity where nothing is to be left out. */
  most(x: Tensor): number;
}

/** Sticks that are shorter than this have ended: bfloat16 does not see what farther keys would add. */
const LEAST_STICK = 2 ** -20;

interface Attributes {
  /** [S+1] boundaries of the documents in the whole sequence. */
  cuSeqlens: Int32Array;
  scale: number;
  attendCurrent: boolean;
}

/** What a step leaves for its backward: nothing where no row of this process sees the keys that came. */
interface Step {
  stick: Tensor;
  saved: Tensor;
}

/**
 * `stickBreakingAttention` of a sequence of `ring.size` equal parts, of which this process has one.
 *
 * @param q [N / size, H, D]
 * @param k [N / size, K, D] with H a multiple of K
 * @param v [N / size, K, D]
 * @param options `cuSeqlens`: boundaries of the documents in the whole sequence, 0 … N
 * @returns output [N / size, H, D]; remainder [N / size, H]
 * @throws UserError if shapes, types or boundaries do not fit
 */
export function stickBreakingRing(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: Omit<StickBreakingOptions, 'cuSeqlensK'>,
  ring: AttentionRing,
): { output: Tensor3D; remainder: Tensor2D } {
  const op = 'stickBreakingRing';
  const length = q.shape[0]!;
  const cuSeqlens = checkCuSeqlens(op, 'cuSeqlens', options.cuSeqlens, length * ring.size);
  if (k.shape[0] !== length) throw new UserError(`${op}: q has ${length} rows and k ${k.shape[0]}; expected as many.`);
  const own = ownDocuments(cuSeqlens, ring);
  const { scale } = checkAttention(op, q, k, v, { ...options, cuSeqlens: own });
  const attrs = { cuSeqlens, scale, attendCurrent: options.attendCurrent ?? false };
  let hops = 0;
  const [output, remainder] = differentiable(
    { q, k, v },
    (save) => {
      const result = forward(q, k, v, attrs, ring);
      hops = result.steps.length - 1;
      const kept = result.steps.flatMap((step) => (step ? [step.stick, step.saved] : []));
      save([q, k, v, result.remainder, ...kept]);
      return [result.output, result.remainder];
    },
    ([dOutput, dRemainder], [savedQ, savedK, savedV, last, ...kept]) => {
      const steps = Array.from({ length: hops + 1 }, (_, hop): Step | undefined => {
        if (hop > 0 && !seenAfter(hop, cuSeqlens, ring)) return undefined;
        const [stick, saved] = kept.splice(0, 2);
        return { stick: stick!, saved: saved! };
      });
      const farther = mul(last!, dRemainder!);
      const inputs = { q: savedQ!, k: savedK!, v: savedV!, dOutput: dOutput! };
      const [dq, dk, dv] = backward(inputs, farther, steps, attrs, ring);
      return { q: () => dq, k: () => dk, v: () => dv };
    },
  );
  return { output: output as Tensor3D, remainder: remainder as Tensor2D };
}

function forward(q: Tensor, k: Tensor, v: Tensor, { cuSeqlens, ...how }: Attributes, ring: AttentionRing) {
  const own = ownDocuments(cuSeqlens, ring);
  let [output, remainder, saved] = runKernel(
    'StickBreakingAttention',
    { q, k, v },
    { ...how, cuSeqlens: own, cuSeqlensK: own },
  );
  // The first step takes whole sticks, which no kernel is told of.
  const steps: (Step | undefined)[] = [{ stick: remainder, saved }];
  let chunk: readonly Tensor[] = [k, v];
  const most = farthestHop(cuSeqlens, ring);
  for (let hop = 1; hop <= most; hop++) {
    const seen = seenAfter(hop, cuSeqlens, ring);
    // The first row of a part has seen nothing yet: the first hop is never left out.
    if (hop > 1 && longestStick(remainder, seen?.queries ?? 0, ring) < LEAST_STICK) break;
    const before = chunk;
    chunk = ring.shift(before, 1);
    if (hop > 1) for (const one of before) one.dispose();
    steps.push(undefined);
    if (!seen) continue;
    const [keys, values] = chunk as [Tensor, Tensor];
    const stick = remainder;
    let added: Tensor;
    [added, remainder, saved] = runKernel(
      'StickBreakingFarther',
      { q, k: keys, v: values, stick },
      { ...how, ...seen },
    );
    steps[hop] = { stick, saved };
    const sum = add(output, added);
    for (const one of [output, added]) one.dispose();
    output = sum;
  }
  return { output, remainder, steps };
}

/** The longest stick of any process among its first rows, so many of them here. */
function longestStick(remainder: Tensor, rows: number, ring: AttentionRing): number {
  // In two steps, of which each has many rows or few numbers.
  return tidy(() =>
    ring.most(rows > 0 ? max(max(slice(remainder, [0, 0], [rows, remainder.shape[1]!]), 1)) : scalar(0)),
  );
}

function backward(
  inputs: { q: Tensor; k: Tensor; v: Tensor; dOutput: Tensor },
  remainderShare: Tensor,
  steps: readonly (Step | undefined)[],
  { cuSeqlens, ...how }: Attributes,
  ring: AttentionRing,
): [Tensor, Tensor, Tensor] {
  const { q, k, v, dOutput } = inputs;
  const hops = steps.length - 1;
  let farther = remainderShare;
  let dq: Tensor | undefined;
  // Of the keys and values that are here, to which the processes that they come to add: in float32, whatever the kernels give.
  // Filled where they lie: tfjs's `zeros` are an array of the host's.
  let gradients = [k, v].map((one): Tensor => fill(one.shape, 0));
  let chunk: readonly Tensor[] = hops > 0 ? ring.shift([k, v], hops) : [k, v];
  const plus = (sums: readonly Tensor[], more: readonly Tensor[]) =>
    sums.map((sum, i) => {
      const result = add(sum, more[i]!);
      for (const one of [sum, more[i]!]) one.dispose();
      return result;
    });
  for (let hop = hops; hop > 0; hop--) {
    const step = steps[hop];
    if (step) {
      const [keys, values] = chunk as [Tensor, Tensor];
      const [ofQ, ofK, ofV, nearer] = runKernel(
        'StickBreakingFartherGrad',
        { q, k: keys, v: values, dOutput, farther, ...step },
        { ...how, ...seenAfter(hop, cuSeqlens, ring)! },
      );
      farther.dispose();
      farther = nearer;
      gradients = plus(gradients, [ofK, ofV]);
      [dq] = dq ? plus([dq], [ofQ]) : [ofQ];
    }
    const [before, brought] = [chunk, gradients];
    if (hop > 1) chunk = ring.shift(before, -1);
    gradients = ring.shift(brought, -1);
    for (const one of [...before, ...brought]) one.dispose();
  }
  const own = ownDocuments(cuSeqlens, ring);
  const [ofQ, ...ofKeys] = runKernel(
    'StickBreakingAttentionGrad',
    { q, k, v, dOutput, remainder: farther, dRemainder: onesLike(farther), saved: steps[0]!.saved },
    { ...how, cuSeqlens: own, cuSeqlensK: own },
  );
  const [dk, dv] = plus(gradients, ofKeys);
  return [dq ? add(dq, ofQ) : ofQ, dk!, dv!];
}

/** Boundaries of the documents among this process's tokens. */
function ownDocuments(cuSeqlens: Int32Array, { rank, size }: AttentionRing): Int32Array {
  const length = cuSeqlens[cuSeqlens.length - 1]! / size;
  const [from, to] = [rank * length, (rank + 1) * length];
  const inside = [...new Set(cuSeqlens)].filter((one) => one > from && one < to).map((one) => one - from);
  return Int32Array.from(length > 0 ? [0, ...inside, length] : [0]);
}

/** The document that goes on into a part of the sequence from the part before: where it begins and ends. */
function crossing(cuSeqlens: Int32Array, from: number): { begin: number; end: number } | undefined {
  const next = cuSeqlens.findIndex((one) => one > from);
  if (next <= 0) return undefined;
  const [begin, end] = [cuSeqlens[next - 1]!, cuSeqlens[next]!];
  return begin < from ? { begin, end } : undefined;
}

/**
 * What a process sees of the part of the sequence that comes to it in a hop: its first rows, so many of them, see the last keys. As
 * documents, of which the first has keys alone and the last queries alone.
 */
function seenAfter(hop: number, cuSeqlens: Int32Array, { rank, size }: Pick<AttentionRing, 'rank' | 'size'>) {
  const length = cuSeqlens[cuSeqlens.length - 1]! / size;
  const document = crossing(cuSeqlens, rank * length);
  const first = (rank - hop) * length;
  if (!document || first < 0 || document.begin >= first + length) return undefined;
  const queries = Math.min(length, document.end - rank * length);
  const firstKey = Math.max(0, document.begin - first);
  return {
    queries,
    cuSeqlens: Int32Array.of(0, 0, queries, length),
    cuSeqlensK: Int32Array.of(0, firstKey, length, length),
  };
}

/** How many hops the longest way of any process is, from its part of the sequence to where its first document begins. */
function farthestHop(cuSeqlens: Int32Array, { size }: AttentionRing): number {
  const hops = Array.from({ length: size }, (_, rank) => {
    let hop = 0;
    while (seenAfter(hop + 1, cuSeqlens, { rank, size })) hop++;
    return hop;
  });
  return Math.max(...hops);
}

/** The parts of tfjs's engine that record an op of several outputs, private in its types. */
interface Recorder {
  runKernelFunc(op: {
    forwardFunc: (backend: unknown, save: (tensors: Tensor[]) => void) => Tensor[];
    backwardsFunc: (dys: Tensor[], saved: Tensor[]) => Record<string, () => Tensor>;
    inputs: NamedTensorMap;
  }): Tensor[];
}

/** An op with its gradient, as tfjs's `customGrad` makes one of a single output. */
function differentiable(
  inputs: NamedTensorMap,
  run: (save: (tensors: Tensor[]) => void) => Tensor[],
  gradient: (dys: Tensor[], saved: Tensor[]) => Record<string, () => Tensor>,
): Tensor[] {
  return (engine() as unknown as Recorder).runKernelFunc({
    forwardFunc: (_, save) => run(save),
    backwardsFunc: gradient,
    inputs,
  });
}
