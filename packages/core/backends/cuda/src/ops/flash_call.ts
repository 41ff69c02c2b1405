/** One call of the fused attention kernels: what they read and write, how they are launched. */
import type {
  KernelInputs,
  RotaryAttributes,
  SoftmaxAttributes,
  StickBreakingAttributes,
} from '@stickbreaking/core/backend';
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { copyRows } from '../casts.js';
import { spread } from '../grids.js';
import { ATTENTION, THREADS, TILE_ROWS } from '../kernel_interface.js';
import { type Argument, f32, i32, i64, pointer } from '../launch.js';
import { areBeside, makeBeside, operandOf } from '../matrix.js';
import type { Scratch } from '../scratch.js';
import type { Entry } from '../storage.js';
import { type AttentionPlans, attentionPlans, headsOfSection, type Plan } from './attention_plan.js';
import { FireTable, fireCall } from './fire_table.js';
import {
  BACKWARD,
  BACKWARD_KEYS,
  BACKWARD_QUERIES,
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
import { rotaryTable } from './rotary.js';

/** Keys and values of so many bytes are worked on at a time, so that they stay in the second-level cache. */
const SECTION_BYTES = 16 * 2 ** 20;
/** The same for the backward in one kernel, whose sums are in float32 and pass through that cache many times. */
const SUM_SECTION_BYTES = 32 * 2 ** 20;
/** What the backward keeps between blocks or kernels; heads are taken in turns where they would need more. */
const SCRATCH_BYTES = 2 ** 30;

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
  /** Elements between tokens of the gradients. */
  dqStride: 0,
  dkvStride: 0,
  /** The rotary embedding that q and k come from. */
  turnQ: 0,
  turnK: 0,
  /** Biases of keys, and their gradients. */
  keyBias: 0,
  dKeyBias: 0,
};

/** q, k and v, and elements between their tokens. */
interface Operands {
  q: number;
  k: number;
  v: number;
  qStride: number;
  kvStride: number;
}

type AttentionArguments = Operands & { rowOutput: number } & Partial<typeof ABSENT>;

/** The heads of a launch: query heads, or key heads where blocks are of keys. */
interface Part {
  firstHead: number;
  headCount: number;
  sectionHeads: number;
}

type AttentionInputs = KernelInputs<'StickBreakingAttention'>;

export class FlashCall {
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
    private readonly farther = false,
  ) {
    [this.queries, this.heads, this.headDim] = inputs.q.shape as [number, number, number];
    [this.keys, this.kvHeads] = inputs.k.shape as [number, number];
    this.dim = kernelDimension(this.headDim);
    this.plans = attentionPlans(backend, attrs.cuSeqlens, attrs.cuSeqlensK, farther);
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

  /** Queries, keys and values, which may lie side by side. */
  operands({ q, k, v }: AttentionInputs): Operands {
    const { backend, dim, headDim, heads, kvHeads } = this;
    const strides = { qStride: heads * dim, kvStride: kvHeads * dim };
    if (dim !== headDim) return { q: this.input(q), k: this.input(k), v: this.input(v), ...strides };
    const [ofQ, ofK, ofV] = [
      operandOf(backend, q, heads * dim),
      ...[k, v].map((x) => operandOf(backend, x, kvHeads * dim)),
    ];
    // Keys and values are brought by one address.
    const kv = ofK!.stride === ofV!.stride ? [ofK!.address, ofV!.address] : [backend.bf16(k), backend.bf16(v)];
    const kvStride = ofK!.stride === ofV!.stride ? ofK!.stride : strides.kvStride;
    return { q: ofQ!.address, k: kv[0]!, v: kv[1]!, qStride: ofQ!.stride, kvStride };
  }

  /** New tensors for the gradients of q, k and v: side by side if those are. */
  gradients({ q, k, v }: AttentionInputs): {
    addresses: { dq: number; dk: number; dv: number; dqStride: number; dkvStride: number };
    finish: () => [TensorInfo, TensorInfo, TensorInfo];
  } {
    const { backend, dim, headDim, heads, kvHeads } = this;
    const strides = { dqStride: heads * dim, dkvStride: kvHeads * dim };
    if (dim === headDim && areBeside(backend, [q, k, v])) {
      const parts = [q, k, v].map(({ shape }) => ({ shape, columns: shape[1]! * dim, width: shape[1]! * dim }));
      const made = makeBeside(backend, this.queries, parts) as [TensorInfo, TensorInfo, TensorInfo];
      const [dq, dk, dv] = made.map((one) => backend.stored(one)) as [Entry, Entry, Entry];
      const { stride } = dq.rows!;
      const addresses = { dq: dq.address, dk: dk.address, dv: dv.address, dqStride: stride, dkvStride: stride };
      return { addresses, finish: () => made };
    }
    const [dq, dk, dv] = [this.result(q.shape), this.result(k.shape), this.result(v.shape)];
    return {
      addresses: { dq: dq.address, dk: dk.address, dv: dv.address, ...strides },
      finish: () => [dq.finish(), dk.finish(), dv.finish()],
    };
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
    const [target, source] = [
      { address: to, columns: toWidth },
      { address: from, columns: fromWidth, stride: fromWidth },
    ];
    copyRows(this.backend, { ...target, rows }, { ...source, rows }, 'bf16');
  }

  /** The cosines and sines of a rotary embedding, which the kernels turn back by. */
  turn(rotary: RotaryAttributes, side: 'queries' | 'keys'): number {
    return rotaryTable(this.backend, this.headDim / 2, rotary[side], rotary.inverseFrequencies);
  }

  slopes(): number {
    const { attrs } = this;
    return 'bias' in attrs && attrs.bias === 'alibi' ? this.scratch.upload(attrs.alibiSlopes!) : 0;
  }

  /** Biases of keys [M, kvHeads] as the kernels read them; null where there are none. */
  keyBias(bias: TensorInfo | undefined): number {
    if (!bias) return 0;
    const { backend, scratch, keys, kvHeads } = this;
    const size = (keys + TILE_ROWS) * kvHeads;
    const address = scratch.allocate(size * 4);
    backend.launch('key_bias.cu', 'key_bias', { grid: [spread(size)], block: THREADS }, [
      ...[pointer(address), pointer(backend.f32(bias, scratch)), i64(keys)],
      ...[i32(kvHeads), i32(TILE_ROWS), f32(Math.LOG2E)],
    ]);
    return address;
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
    this.launch(FORWARD, args, plan, this.sections(0, this.heads, this.heads, plan));
  }

  backward(args: AttentionArguments): void {
    const plain = !this.fire && this.bias !== 'keys' && !this.farther;
    const one = this.backend.hopper && this.dim <= 64 && this.plans.square && plain;
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
    const plan = plans.queries(this.warpgroups(BACKWARD));
    for (let first = 0; first < kvHeads; first += together) {
      const headCount = Math.min(together, kvHeads - first) * group;
      backend.driver.call('cuMemsetD8Async', progress, 0, progressBytes, backend.driver.stream);
      // Heads of a group add to the same sums: a section has all or none of them.
      const sectionHeads = group * this.together(headCount / group, SUM_SECTION_BYTES / each, plan, group);
      const part = { firstHead: first * group, headCount, sectionHeads };
      this.launch(BACKWARD, args, plan, part, [pointer(sums), pointer(progress)]);
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
        this.sections(first * group, count * group, this.heads, queries),
      );
      this.launch(BACKWARD_KEYS, { ...args, carries }, keys, this.sections(first, count, this.kvHeads, keys));
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
    if ('bias' in this.attrs && this.attrs.bias === 'keys') return 'keys';
    return ('bias' in this.attrs && this.attrs.bias === 'alibi') || this.attrs.scale <= 0 ? 'alibi' : 'none';
  }

  private warpgroups(kernel: FlashKernel): number {
    return warpgroupsOf(kernel, this.variant);
  }

  /** Heads from `firstHead` on, of `all`, in sections. */
  private sections(firstHead: number, headCount: number, all: number, plan: Plan): Part {
    const headBytes = (this.keys * this.kvHeads * this.dim * 4) / all;
    return { firstHead, headCount, sectionHeads: this.together(headCount, SECTION_BYTES / headBytes, plan) };
  }

  /**
   * Heads of a section, or groups of `group` heads. With block skipping only some of a section's keys are in use at a time: the cache
   * has room for twice as many.
   */
  private together(heads: number, cached: number, { work, longest }: Plan, group = 1): number {
    const room = Math.floor(this.skips ? 2 * cached : cached);
    return headsOfSection(heads, room, { work: work * group, longest }, this.backend.driver.multiprocessors);
  }

  private get skips(): boolean {
    return this.mechanism === 'stick-breaking' && this.backend.blockSkipping;
  }

  private get variant(): FlashVariant {
    const { mechanism, bias, dim, farther } = this;
    return { mechanism, bias, dim, hopper: this.backend.hopper, farther };
  }

  private launch(kernel: FlashKernel, args: AttentionArguments, plan: Plan, part: Part, more: Argument[] = []): void {
    const { backend, variant } = this;
    const compiled = backend.function(kernel.file, kernel.name, flashMacros(kernel, variant));
    const shape = {
      grid: [plan.count * part.headCount] as const,
      block: threadsOf(kernel, variant),
      shared: sharedBytes(kernel, variant, this.fire?.units),
    };
    backend.driver.launch(compiled, shape, [this.structure(args, plan, part), ...more]);
  }

  private structure(args: AttentionArguments, plan: Plan, part: Part): Argument {
    const { attrs, fire, plans } = this;
    const { skips: skip } = this;
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
      keyTokens: this.keys,
      skip: skip ? 1 : 0,
      scale: attrs.scale,
      exhausted: leastStick(skip),
      fireTable: fire?.table ?? 0,
      fireUnits: fire?.units ?? 0,
    });
  }
}
