/** Causal softmax attention over packed documents, with the position schemes that stick-breaking is compared with. */
import { UserError } from '@stickbreaking/base';
import { customGrad, type GradSaveFunc, type Tensor, type Tensor3D, tidy } from '@tensorflow/tfjs-core';
import { checkAttention, checkInt, checkNumber, checkShape } from '../checks.js';
import { fireInputNames } from '../fire_inputs.js';
import type { FireInputs, KernelAttributes, KeyBiasInput, SoftmaxAttributes } from '../kernels.js';
import { runKernel } from '../run_kernel.js';
import { alibiSlopes, type FireParameters, type Position, partialInverseFrequencies } from './positions.js';
import { type RotaryOptions, rotaryAttributes, rotaryEmbedding } from './rotary.js';
import { sinkGradient, withSink } from './sink.js';
import type { PackedAttentionOptions } from './stick_breaking.js';

/** Options of `softmaxAttention`. */
export interface SoftmaxOptions extends PackedAttentionOptions {
  /** A query sees its last `window` keys, itself included. Default: all of its document. */
  window?: number;
  position: Position;
  /**
   * [H], the logit of one more key for each head, whose value is zero (a learned attention sink). What it takes is missing
   * from the output: a head may attend to nothing.
   */
  sink?: Tensor;
  /** Whether a backend may change q and k in place, which saves memory: nothing else reads them. Default: false. */
  consumed?: boolean;
}

type SoftmaxInputs = { q: Tensor; k: Tensor; v: Tensor } & Partial<FireInputs & KeyBiasInput>;

/**
 * Causal softmax attention: a token attends to itself and to the tokens before it in its document. O(N) memory;
 * differentiable in q, k, v and in what the position scheme learns. RoPE is applied inside: pass q and k unrotated.
 *
 * @param q [N, H, D]
 * @param k [M, K, D] with H a multiple of K (grouped-query heads)
 * @param v [M, K, D]
 * @returns [N, H, D]
 * @throws UserError if shapes, types, boundaries or options do not fit
 */
export function softmaxAttention(q: Tensor, k: Tensor, v: Tensor, options: SoftmaxOptions): Tensor3D {
  return tidy(() => attend(q, k, v, options));
}

function attend(q: Tensor, k: Tensor, v: Tensor, options: SoftmaxOptions): Tensor3D {
  const op = 'softmaxAttention';
  const { position, consumed = false, sink } = options;
  if (sink) checkShape(op, 'sink', sink, [q.shape[1]!]);
  // Keys' biases are known up to what a query adds to all of them, which its sink would have to be compared with.
  if (sink && position.kind === 'keys') throw new UserError(`${op}: a sink beside a bias of keys is not supported.`);
  if (position.kind !== 'rope') {
    const { inputs, attrs } = softmaxInputs(op, q, k, v, options);
    return withGradient(inputs, attrs, sink) as Tensor3D;
  }
  const { attrs } = softmaxInputs(op, q, k, v, { ...options, position: { kind: 'none' } });
  const rotary = rotaryAttributes(op, q, k, rotaryOptions(q, attrs, position));
  return rotated({ q, k, v }, { ...attrs, rotary, consumed }, sink) as Tensor3D;
}

/** RoPE and attention as one kernel, whose gradient turns those of q and k back where it writes them. */
function rotated(
  { q, k, v }: { q: Tensor; k: Tensor; v: Tensor },
  attrs: KernelAttributes<'RotarySoftmaxAttention'>,
  sink: Tensor | undefined,
) {
  const kernel = customGrad((...args) => {
    const save = args.pop() as GradSaveFunc;
    const [q, k, v, sink] = args as [Tensor, Tensor, Tensor, Tensor?];
    const [plain, plainSum, turnedQ, turnedK] = runKernel('RotarySoftmaxAttention', { q, k, v }, attrs);
    const { output, logSumExp } = rowsWith(sink, plain, plainSum);
    save([turnedQ, turnedK, v, output, logSumExp, ...(sink ? [sink] : [])]);
    const gradFunc = (dOutput: Tensor, saved: Tensor[]) => {
      const [q, k, v, output, logSumExp, sink] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor?];
      const { consumed: _, ...others } = attrs;
      const grads = runKernel('RotarySoftmaxAttentionGrad', { q, k, v, output, logSumExp, dOutput }, others);
      return [...grads, ...(sink ? [sinkGradient(output, logSumExp, dOutput, sink)] : [])];
    };
    return { value: output, gradFunc };
  });
  return kernel(q, k, v, ...(sink ? [sink] : []));
}

const rowsWith = (sink: Tensor | undefined, output: Tensor, logSumExp: Tensor) =>
  sink ? withSink(output, logSumExp, sink) : { output, logSumExp };

/** The kernel's inputs and attributes: everything checked, RoPE applied, the bias named. */
export function softmaxInputs(
  op: string,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: SoftmaxOptions,
): { inputs: SoftmaxInputs; attrs: SoftmaxAttributes } {
  const packed = checkAttention(op, q, k, v, options);
  const { window, position } = options;
  if (window !== undefined) checkInt(op, 'window', window, 1);
  const attrs: SoftmaxAttributes = { ...packed, window: window ?? 0, bias: 'none' };
  const numHeads = q.shape[1]!;
  let inputs: SoftmaxInputs = { q, k, v };
  switch (position.kind) {
    case 'none':
      break;
    case 'rope':
      inputs = { ...rotaryEmbedding(q, k, rotaryOptions(q, packed, position)), v };
      break;
    case 'alibi': {
      const given = position.slopes ?? alibiSlopes(numHeads);
      given.forEach((slope, h) => {
        checkNumber(op, `slopes[${h}]`, slope);
      });
      const slopes = Float32Array.from(given);
      if (slopes.length !== numHeads)
        throw new UserError(`${op}: ${slopes.length} ALiBi slopes for ${numHeads} heads.`);
      attrs.bias = 'alibi';
      attrs.alibiSlopes = slopes;
      break;
    }
    case 'keys':
      checkShape(op, 'keyBias', position.keyBias, k.shape.slice(0, 2));
      attrs.bias = 'keys';
      inputs.keyBias = position.keyBias;
      break;
    case 'fire':
      checkNumber(op, 'initialThreshold', position.initialThreshold);
      attrs.bias = 'fire';
      attrs.fireInitialThreshold = position.initialThreshold;
      Object.assign(inputs, fireInputs(position.parameters, numHeads));
      break;
    default:
      throw new UserError(
        `${op}: position is ${(position as Position).kind}; expected none, rope, alibi, fire or keys.`,
      );
  }
  return { inputs, attrs };
}

/** The boundaries and frequencies of RoPE. */
function rotaryOptions(
  q: Tensor,
  { cuSeqlens, cuSeqlensK }: { cuSeqlens: Int32Array; cuSeqlensK: Int32Array },
  { theta, scaling, rotated = q.shape[2]! }: Extract<Position, { kind: 'rope' }>,
): RotaryOptions {
  const documents = cuSeqlens.length - 1;
  const keys = (s: number) => cuSeqlensK[s + 1]! - cuSeqlensK[s]!;
  const headDim = q.shape[2]!;
  // Only dynamic scaling depends on a document's length; every other scheme has one set of frequencies.
  const inverseFrequencies =
    scaling?.kind === 'dynamic'
      ? Float64Array.from(
          Array.from({ length: documents }, (_, s) => [
            ...partialInverseFrequencies(headDim, rotated, theta, scaling, keys(s)),
          ]).flat(),
        )
      : partialInverseFrequencies(headDim, rotated, theta, scaling);
  return { cuSeqlens, cuSeqlensK, inverseFrequencies };
}

function fireInputs(parameters: FireParameters, numHeads: number): FireInputs {
  const { w1, b1, w2, b2, c, thresholdMultiplier } = parameters;
  checkShape('FIRE', 'w1', w1, [-1, 1]);
  const width = w1.shape[0];
  checkShape('FIRE', 'b1', b1, [width]);
  checkShape('FIRE', 'w2', w2, [numHeads, width]);
  checkShape('FIRE', 'b2', b2, [numHeads]);
  checkShape('FIRE', 'c', c, [1]);
  checkShape('FIRE', 'thresholdMultiplier', thresholdMultiplier, [1]);
  return { fireW1: w1, fireB1: b1, fireW2: w2, fireB2: b2, fireC: c, fireThreshold: thresholdMultiplier };
}

/** The kernel with its gradient. A registered gradient cannot save inputs that are sometimes absent, as a bias's are. */
function withGradient(inputs: SoftmaxInputs, attrs: SoftmaxAttributes, sink: Tensor | undefined) {
  const ofBias = attrs.bias === 'fire' ? fireInputNames : attrs.bias === 'keys' ? (['keyBias'] as const) : [];
  const names = ['q', 'k', 'v', ...ofBias] as const;
  const namedFrom = (tensors: readonly Tensor[]) =>
    Object.fromEntries(names.map((name, i) => [name, tensors[i]!])) as unknown as typeof inputs;
  const kernel = customGrad((...args) => {
    const save = args.pop() as GradSaveFunc;
    const tensors = args as Tensor[];
    const [plain, plainSum] = runKernel('SoftmaxAttention', namedFrom(tensors), attrs);
    const { output, logSumExp } = rowsWith(tensors[names.length], plain, plainSum);
    save([...tensors, output, logSumExp]);
    return {
      value: output,
      gradFunc: (dOutput: Tensor, saved: Tensor[]) => {
        const [output, logSumExp] = saved.slice(-2) as [Tensor, Tensor];
        const grads = runKernel('SoftmaxAttentionGrad', { ...namedFrom(saved), output, logSumExp, dOutput }, attrs);
        return [...grads, ...(sink ? [sinkGradient(output, logSumExp, dOutput, saved[names.length]!)] : [])];
      },
    };
  });
  return kernel(...names.map((name) => inputs[name]!), ...(sink ? [sink] : []));
}
