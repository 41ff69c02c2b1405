/**
 * The fused attention kernels (flash_forward.cu; flash_backward.cu, or flash_backward_queries.cu and flash_backward_keys.cu):
 * logits never leave the chip, memory is linear in the number of tokens, results are the same in every run. Hopper has its
 * own matrix instructions, larger blocks and a backward in one kernel; other GPUs get the same kernels with `mma.sync`.
 */

import type {
  KernelInputs,
  KernelOutputs,
  SoftmaxAttributes,
  StickBreakingAttributes,
} from '@stickbreaking/core/backend';
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend, Scratch } from '../backend.js';
import { type Argument, i64, pointer } from '../driver.js';
import { ATTENTION, MOST_UNITS, THREADS, TILE_ROWS } from '../kernel_interface.js';
import { type AttentionPlans, attentionPlans, type Plan } from './attention_plan.js';
import type { CudaKernel } from './define.js';
import { FireTable, fireCall } from './fire_table.js';
import {
  BACKWARD,
  BACKWARD_KEYS,
  BACKWARD_QUERIES,
  DIMENSIONS,
  type FlashKernel,
  type FlashVariant,
  FORWARD,
  flashMacros,
  kernelDimension,
  leastStick,
  sharedBytes,
  threadsOf,
  tileSumBytes,
  warpgroupsOf,
} from './flash_blocks.js';

/** Keys and values of so many bytes are worked on at a time, so that they stay in the second-level cache. */
const SECTION_BYTES = 16 * 2 ** 20;
/** The same for the backward in one kernel, whose sums are in float32 and pass through that cache many times. */
const SUM_SECTION_BYTES = 32 * 2 ** 20;
/** What the backward keeps between blocks or kernels; heads are taken in turns where they would need more. */
const SCRATCH_BYTES = 2 ** 30;

/** Whether these kernels serve the call; plain_attention.ts serves the rest. */
export function servesAttention(q: TensorInfo): boolean {
  const [queries, , headDim] = q.shape as [number, number, number];
  return headDim <= DIMENSIONS[DIMENSIONS.length - 1]! && queries > 0;
}

/** Whether calls with FIRE's bias are kept from these kernels, to compare the two. */
export const plainFire = () => process.env.STICKBREAKING_FIRE === 'plain';

/** The same for a call with FIRE's bias: every warp of the queries' backward keeps sums of each segment. */
export function servesFusedFire({ q, fireW1 }: KernelInputs<'SoftmaxAttention'>, backend: CudaBackend): boolean {
  if (plainFire() || !servesAttention(q)) return false;
  const units = fireW1!.shape[0]!;
  const shared = sharedBytes(BACKWARD_QUERIES, kernelDimension(q.shape[2]!), backend.hopper, units);
  return units <= MOST_UNITS && shared <= backend.driver.sharedPerBlock;
}

/** Addresses of ATTENTION that some of the kernels need; null for the others. */
const ABSENT = {
  output: 0,
  dOutput: 0,
  out: 0,
  dq: 0,
  dk: 0,
  dv: 0,
  dRemainder: 0,
  saved: 0,
  carries: 0,
  slopes: 0,
  /** Room for the sums of FIRE's gradients. */
  fireSums: 0,
};

type AttentionArguments = { q: number; k: number; v: number; rowOutput: number } & Partial<typeof ABSENT>;

/** The heads of a launch: query heads, or key heads where blocks are of keys. */
interface Part {
  firstHead: number;
  headCount: number;
  sectionHeads: number;
}

type AttentionInputs = KernelInputs<'StickBreakingAttention'>;

class Attention {
  readonly plans: AttentionPlans;
  readonly heads: number;
  readonly kvHeads: number;
  readonly queries: number;
  readonly keys: number;
  /** The kernels' head dimension, and the tensors'. */
  readonly dim: number;
  readonly headDim: number;
  readonly fire: FireTable | undefined;

  constructor(
    readonly mechanism: 'stick-breaking' | 'softmax',
    inputs: AttentionInputs,
    private readonly attrs: StickBreakingAttributes | SoftmaxAttributes,
    readonly backend: CudaBackend,
    private readonly scratch: Scratch,
  ) {
    [this.queries, this.heads, this.headDim] = inputs.q.shape as [number, number, number];
    [this.keys, this.kvHeads] = inputs.k.shape as [number, number];
    this.dim = kernelDimension(this.headDim);
    this.plans = attentionPlans(backend, attrs.cuSeqlens, attrs.cuSeqlensK);
    if ('bias' in attrs && attrs.bias === 'fire') this.fire = new FireTable(fireCall(inputs, attrs), backend, scratch);
  }

  /** The tensor as bfloat16 with the kernels' head dimension. */
  input(tensor: TensorInfo): number {
    const address = this.backend.bf16(tensor);
    if (this.dim === this.headDim) return address;
    const rows = util.sizeFromShape(tensor.shape) / this.headDim;
    const padded = this.scratch.allocate(rows * this.dim * 2);
    this.copyColumns(padded, this.dim, address, this.headDim, rows);
    return padded;
  }

  /** A new tensor that the kernels write; `finish` brings it to the tensors' head dimension. */
  result(shape: number[]): { address: number; finish: () => TensorInfo } {
    const tensor = this.backend.make(shape, 'bf16');
    const target = this.backend.address(tensor);
    if (this.dim === this.headDim) return { address: target, finish: () => tensor };
    const rows = util.sizeFromShape(shape) / this.headDim;
    const padded = this.scratch.allocate(rows * this.dim * 2);
    const finish = () => {
      this.copyColumns(target, this.headDim, padded, this.dim, rows);
      return tensor;
    };
    return { address: padded, finish };
  }

  private copyColumns(to: number, toWidth: number, from: number, fromWidth: number, rows: number): void {
    const grid = [Math.ceil((rows * toWidth) / THREADS)] as const;
    const args = [pointer(to), i64(toWidth), pointer(from), i64(fromWidth), i64(rows)];
    this.backend.launch('elementwise.cu', 'copy_columns', { grid, block: THREADS }, args);
  }

  slopes(): number {
    const { attrs } = this;
    return 'bias' in attrs && attrs.bias === 'alibi' ? this.scratch.upload(attrs.alibiSlopes!) : 0;
  }

  /** struct Saved of flash.cuh. */
  get savedBytes(): number {
    return 4 * this.heads * (2 * this.queries + this.plans.rowBlocks);
  }

  /** Key heads that are worked on together, where each needs so many bytes of scratch. */
  private headsAtATime(each: number): number {
    return Math.min(this.kvHeads, Math.max(1, Math.floor(SCRATCH_BYTES / each)));
  }

  forward(args: AttentionArguments): void {
    const plan = this.plans.queries(this.warpgroups(FORWARD));
    this.launch(FORWARD, args, plan, this.sections(0, this.heads, this.heads));
  }

  backward(args: AttentionArguments): void {
    const one = this.backend.hopper && this.dim <= 64 && this.plans.square && !this.fire;
    if (one) this.backwardInOne(args);
    else this.backwardInTwo(args);
  }

  private backwardInOne(args: AttentionArguments): void {
    const { backend, heads, kvHeads, plans } = this;
    const group = heads / kvHeads;
    const each = plans.rowBlocks * tileSumBytes(this.dim);
    const together = this.headsAtATime(each);
    const sums = this.scratch.allocate(each * together);
    // A counter of blocks; of each block's dV and dK the tile up to which they are added: see flash_turns.cuh.
    const progressBytes = (1 + 2 * heads * plans.rowBlocks) * 4;
    const progress = this.scratch.allocate(progressBytes);
    // Heads of a group add to the same sums: a section has all or none of them.
    const sectionHeads = group * Math.max(1, Math.floor(SUM_SECTION_BYTES / each));
    for (let first = 0; first < kvHeads; first += together) {
      const headCount = Math.min(together, kvHeads - first) * group;
      backend.driver.call('cuMemsetD8Async', progress, 0, progressBytes, backend.driver.stream);
      const part = { firstHead: first * group, headCount, sectionHeads: Math.min(headCount, sectionHeads) };
      this.launch(BACKWARD, args, plans.queries(this.warpgroups(BACKWARD)), part, [pointer(sums), pointer(progress)]);
    }
  }

  private backwardInTwo(args: AttentionArguments): void {
    const group = this.heads / this.kvHeads;
    const softmax = this.mechanism === 'softmax';
    const each = this.plans.tiles * TILE_ROWS * 8 * group;
    const together = softmax ? this.kvHeads : this.headsAtATime(each);
    const carries = this.scratch.allocate(softmax ? this.queries * this.heads * 8 : each * together);
    const queries = this.plans.queries(this.warpgroups(BACKWARD_QUERIES));
    const keys = this.plans.keys(this.warpgroups(BACKWARD_KEYS));
    for (let first = 0; first < this.kvHeads; first += together) {
      const count = Math.min(together, this.kvHeads - first);
      this.launch(
        BACKWARD_QUERIES,
        { ...args, carries },
        queries,
        this.sections(first * group, count * group, this.heads),
      );
      this.launch(BACKWARD_KEYS, { ...args, carries }, keys, this.sections(first, count, this.kvHeads));
    }
  }

  /** Blocks of the queries' backward, each of which leaves sums of FIRE's gradients. */
  get queryBlocks(): number {
    return this.plans.queries(this.warpgroups(BACKWARD_QUERIES)).count;
  }

  /** What is added to logits. Without a bias the kernels take a row's maximum before the scale, which must be positive then. */
  private get bias(): FlashVariant['bias'] {
    if (this.mechanism === 'stick-breaking') return 'none';
    if (this.fire) return 'fire';
    return ('bias' in this.attrs && this.attrs.bias === 'alibi') || this.attrs.scale <= 0 ? 'alibi' : 'none';
  }

  private warpgroups(kernel: FlashKernel): number {
    return warpgroupsOf(kernel, this.dim, this.backend.hopper);
  }

  /** Heads from `firstHead` on, of `all`, in sections. */
  private sections(firstHead: number, headCount: number, all: number): Part {
    const headBytes = (this.keys * this.kvHeads * this.dim * 4) / all;
    return {
      firstHead,
      headCount,
      sectionHeads: Math.min(headCount, Math.max(1, Math.floor(SECTION_BYTES / headBytes))),
    };
  }

  private launch(kernel: FlashKernel, args: AttentionArguments, plan: Plan, part: Part, more: Argument[] = []): void {
    const { backend, dim } = this;
    const variant = { mechanism: this.mechanism, bias: this.bias, dim, hopper: backend.hopper };
    const compiled = backend.function(kernel.file, kernel.name, flashMacros(kernel, variant));
    const shape = {
      grid: [plan.count * part.headCount] as const,
      block: threadsOf(kernel, dim, backend.hopper),
      shared: sharedBytes(kernel, dim, backend.hopper, this.fire?.units),
    };
    backend.driver.launch(compiled, shape, [this.structure(args, plan, part), ...more]);
  }

  private structure(args: AttentionArguments, plan: Plan, part: Part): Argument {
    const { attrs, fire, plans } = this;
    const skip = this.mechanism === 'stick-breaking' && this.backend.blockSkipping;
    return ATTENTION.argument({
      ...ABSENT,
      ...args,
      ...part,
      items: plan.address,
      itemCount: plan.count,
      carryBase: plans.carryBase,
      rowBlocks: plans.rowBlocks,
      tokens: this.queries,
      heads: this.heads,
      kvHeads: this.kvHeads,
      attendCurrent: 'attendCurrent' in attrs && attrs.attendCurrent ? 1 : 0,
      window: 'window' in attrs ? attrs.window : 0,
      skip: skip ? 1 : 0,
      scale: attrs.scale,
      exhausted: leastStick(skip),
      fireTable: fire?.table ?? 0,
      fireUnits: fire?.units ?? 0,
    });
  }
}

export const stickBreakingForward: CudaKernel<'StickBreakingAttention'> = (inputs, attrs, backend) =>
  backend.withScratch((scratch) => {
    const a = new Attention('stick-breaking', inputs, attrs, backend, scratch);
    const remainder = backend.make([a.queries, a.heads], 'f32');
    const saved = backend.makeOpaque(a.savedBytes);
    const out = a.result(inputs.q.shape);
    a.forward({
      ...inputsOf(a, inputs),
      out: out.address,
      rowOutput: backend.address(remainder),
      saved: backend.address(saved),
    });
    return [out.finish(), remainder, saved];
  });

export const stickBreakingBackward: CudaKernel<'StickBreakingAttentionGrad'> = (inputs, attrs, backend) =>
  backend.withScratch((scratch) => {
    const a = new Attention('stick-breaking', inputs, attrs, backend, scratch);
    return gradients(a, inputs, {
      ...inputsOf(a, inputs),
      rowOutput: backend.f32(inputs.remainder, scratch),
      dRemainder: backend.f32(inputs.dRemainder, scratch),
      saved: backend.address(inputs.saved),
      dOutput: a.input(inputs.dOutput),
    });
  });

export const softmaxForward: CudaKernel<'SoftmaxAttention'> = (inputs, attrs, backend) =>
  backend.withScratch((scratch) => {
    const a = new Attention('softmax', inputs, attrs, backend, scratch);
    const logSumExp = backend.make([a.queries, a.heads], 'f32');
    const out = a.result(inputs.q.shape);
    a.forward({
      ...inputsOf(a, inputs),
      out: out.address,
      rowOutput: backend.address(logSumExp),
      slopes: a.slopes(),
    });
    return [out.finish(), logSumExp];
  });

export const softmaxBackward: CudaKernel<'SoftmaxAttentionGrad'> = (inputs, attrs, backend) =>
  backend.withScratch((scratch) => {
    const a = new Attention('softmax', inputs, attrs, backend, scratch);
    const fireSums = a.fire?.partialSums(a.queryBlocks) ?? 0;
    const [dq, dk, dv] = gradients(a, inputs, {
      ...inputsOf(a, inputs),
      rowOutput: backend.f32(inputs.logSumExp, scratch),
      output: a.input(inputs.output),
      dOutput: a.input(inputs.dOutput),
      slopes: a.slopes(),
      fireSums,
    });
    return [dq, dk, dv, ...(a.fire?.gradients(fireSums, a.queryBlocks) ?? [])];
  });

function inputsOf(a: Attention, { q, k, v }: AttentionInputs): { q: number; k: number; v: number } {
  return { q: a.input(q), k: a.input(k), v: a.input(v) };
}

function gradients(
  a: Attention,
  inputs: AttentionInputs,
  args: AttentionArguments,
): KernelOutputs<'StickBreakingAttentionGrad'> {
  const [dq, dk, dv] = [a.result(inputs.q.shape), a.result(inputs.k.shape), a.result(inputs.v.shape)];
  a.backward({ ...args, dq: dq.address, dk: dk.address, dv: dv.address });
  return [dq.finish(), dk.finish(), dv.finish()];
}
