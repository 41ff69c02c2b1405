/**
 * Attention composed of matmuls: a block of query rows at a time, logits [kvHeads, rows, keys] in float32, one kernel
 * that turns rows of logits into weights, another matmul. Memory is bounded by the block, results are exact and
 * deterministic; speed is limited by moving the logits through memory, which fused kernels avoid.
 */
import type { KernelInputs, KernelOutputs, PackedAttributes, SoftmaxAttributes } from '@stickbreaking/core/backend';
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { type Argument, i32, pointer } from '../launch.js';
import type { Scratch } from '../scratch.js';
import type { CudaKernel } from './define.js';
import { fillAt } from './elementwise.js';
import { blocksOf, largest, products, rowsArgument, shapeOf } from './plain_blocks.js';

/** Rows of a block of the row kernels, one a warp. */
export const WARPS = 8;
const FILE = 'plain_attention.cu';

type AttentionInputs = KernelInputs<'StickBreakingAttention'>;

interface PlainCall<Inputs> {
  inputs: Inputs;
  attrs: PackedAttributes;
  backend: CudaBackend;
}

type RowKernel = (block: Argument, logits: number, weights: number) => Argument[];

/** Work on a block of logits beside the row kernels: launched with one warp a row. */
export interface BlockHooks {
  /** Once the logits are there. */
  logits?(grid: readonly [number, number], block: Argument, logits: number): void;
  /** Once their gradient is there; g is the number of the query head in its group. */
  gradient?(grid: readonly [number, number], block: Argument, dLogits: number, g: number): void;
}

function forward(
  { backend, inputs, attrs }: PlainCall<AttentionInputs>,
  name: string,
  statistic: TensorInfo,
  rowArguments: RowKernel,
  hooks: BlockHooks = {},
): TensorInfo {
  const s = shapeOf(inputs, attrs);
  const { q, k, v } = inputs;
  const output = backend.make(q.shape, 'bf16');
  fillAt(backend, backend.address(output), 'bf16', 0, util.sizeFromShape(q.shape));
  fillAt(
    backend,
    backend.address(statistic),
    'f32',
    name === 'stick_breaking_rows' ? 1 : -1e30,
    util.sizeFromShape(statistic.shape),
  );
  backend.withScratch((scratch) => {
    const size = largest(s);
    const [logits, weights] = [scratch.allocate(size * 4), scratch.allocate(size * 2)];
    const [qs, ks, vs] = [backend.bf16(q), backend.bf16(k), backend.bf16(v)];
    for (const block of blocksOf(s))
      for (let g = 0; g < s.group; g++) {
        const p = products(backend, s, block, g);
        p.compare(qs, ks, logits);
        const grid = [Math.ceil(block.rows / WARPS), s.kvHeads] as const;
        const rows = rowsArgument(s, block, g);
        hooks.logits?.(grid, rows, logits);
        backend.launch(FILE, name, { grid, block: WARPS * 32 }, rowArguments(rows, logits, weights));
        p.gather(weights, vs, backend.address(output));
      }
  });
  return output;
}

type RowGradKernel = (
  block: Argument,
  logits: number,
  weights: number,
  dWeights: number,
  dLogits: number,
) => Argument[];

function backward(
  { backend, inputs, attrs }: PlainCall<AttentionInputs & { dOutput: TensorInfo }>,
  name: string,
  rowArguments: (scratch: Scratch) => RowGradKernel,
  hooks: BlockHooks = {},
): KernelOutputs<'StickBreakingAttentionGrad'> {
  const s = shapeOf(inputs, attrs);
  const { q, k, v } = inputs;
  const dq = backend.make(q.shape, 'bf16');
  fillAt(backend, backend.address(dq), 'bf16', 0, util.sizeFromShape(q.shape));
  const [dk, dv] = [backend.make(k.shape, 'f32'), backend.make(v.shape, 'f32')];
  for (const t of [dk, dv]) fillAt(backend, backend.address(t), 'f32', 0, util.sizeFromShape(t.shape));
  backend.withScratch((scratch) => {
    const size = largest(s);
    const [logits, dWeights] = [scratch.allocate(size * 4), scratch.allocate(size * 4)];
    const [weights, dLogits] = [scratch.allocate(size * 2), scratch.allocate(size * 2)];
    const [qs, ks, vs] = [backend.bf16(q), backend.bf16(k), backend.bf16(v)];
    const dOutput = backend.bf16(inputs.dOutput);
    const args = rowArguments(scratch);
    for (const block of blocksOf(s))
      for (let g = 0; g < s.group; g++) {
        const p = products(backend, s, block, g);
        p.compare(qs, ks, logits);
        p.compare(dOutput, vs, dWeights);
        const grid = [Math.ceil(block.rows / WARPS), s.kvHeads] as const;
        const rows = rowsArgument(s, block, g);
        hooks.logits?.(grid, rows, logits);
        const all = args(rows, logits, weights, dWeights, dLogits);
        backend.launch(FILE, name, { grid, block: WARPS * 32 }, all);
        hooks.gradient?.(grid, rows, dLogits, g);
        p.gather(dLogits, ks, backend.address(dq));
        p.scatter(dLogits, qs, backend.address(dk));
        p.scatter(weights, dOutput, backend.address(dv));
      }
  });
  // The sums over query blocks are float32; what goes on to the projections is bfloat16 like every activation.
  const [narrowDk, narrowDv] = [backend.cast(dk, 'bf16', 'float32'), backend.cast(dv, 'bf16', 'float32')];
  for (const t of [dk, dv]) backend.disposeData(t.dataId);
  return [dq, narrowDk, narrowDv];
}

export const plainStickBreaking: CudaKernel<'StickBreakingAttention'> = (inputs, attrs, backend) => {
  const [tokens, heads] = inputs.q.shape as [number, number];
  const current = i32(attrs.attendCurrent ? 1 : 0);
  const remainder = backend.make([tokens, heads], 'f32');
  const rows: RowKernel = (block, logits, weights) => [
    pointer(weights),
    pointer(backend.address(remainder)),
    pointer(logits),
    block,
    current,
  ];
  const output = forward({ inputs, attrs, backend }, 'stick_breaking_rows', remainder, rows);
  return [output, remainder, backend.make([0], 'f32')];
};

export const plainStickBreakingGrad: CudaKernel<'StickBreakingAttentionGrad'> = (inputs, attrs, backend) => {
  const current = i32(attrs.attendCurrent ? 1 : 0);
  const rows = (scratch: Scratch): RowGradKernel => {
    const dRemainder = pointer(backend.f32(inputs.dRemainder, scratch));
    return (block, logits, weights, dWeights, dLogits) => [
      pointer(weights),
      pointer(dLogits),
      pointer(dWeights),
      pointer(logits),
      dRemainder,
      block,
      current,
    ];
  };
  return backward({ inputs, attrs, backend }, 'stick_breaking_rows_grad', rows);
};

function slopesOf({ bias, alibiSlopes }: SoftmaxAttributes, scratch: Scratch): Argument {
  return pointer(bias === 'alibi' ? scratch.upload(alibiSlopes!) : 0);
}

export function plainSoftmax(
  inputs: KernelInputs<'SoftmaxAttention'>,
  attrs: SoftmaxAttributes,
  backend: CudaBackend,
  hooks?: BlockHooks,
): KernelOutputs<'SoftmaxAttention'> {
  const [tokens, heads] = inputs.q.shape as [number, number];
  const logSumExp = backend.make([tokens, heads], 'f32');
  const window = i32(attrs.window);
  const output = backend.withScratch((scratch) => {
    const slopes = slopesOf(attrs, scratch);
    const rows: RowKernel = (block, logits, weights) => [
      pointer(weights),
      pointer(backend.address(logSumExp)),
      pointer(logits),
      slopes,
      block,
      window,
    ];
    return forward({ inputs, attrs, backend }, 'softmax_rows', logSumExp, rows, hooks);
  });
  return [output, logSumExp];
}

export function plainSoftmaxGrad(
  inputs: KernelInputs<'SoftmaxAttentionGrad'>,
  attrs: SoftmaxAttributes,
  backend: CudaBackend,
  hooks?: BlockHooks,
): KernelOutputs<'StickBreakingAttentionGrad'> {
  const window = i32(attrs.window);
  const rows = (scratch: Scratch): RowGradKernel => {
    const slopes = slopesOf(attrs, scratch);
    const logSumExp = pointer(backend.f32(inputs.logSumExp, scratch));
    return (block, logits, weights, dWeights, dLogits) => [
      pointer(weights),
      pointer(dLogits),
      pointer(dWeights),
      pointer(logits),
      logSumExp,
      slopes,
      block,
      window,
    ];
  };
  return backward({ inputs, attrs, backend }, 'softmax_rows_grad', rows, hooks);
}
