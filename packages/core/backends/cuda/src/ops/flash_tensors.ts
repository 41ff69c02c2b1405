/** The tensors of one call of the fused attention kernels as these read and write them: bfloat16, with their head dimensions. */
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
import { THREADS, TILE_ROWS } from '../kernel_interface.js';
import { f32, i32, i64, pointer } from '../launch.js';
import { areBeside, makeBeside, operandOf } from '../matrix.js';
import type { Scratch } from '../scratch.js';
import type { Entry } from '../storage.js';
import { kernelDimension } from './flash_blocks.js';
import { rotaryTable } from './rotary.js';

export type AttentionInputs = KernelInputs<'StickBreakingAttention'>;

/** q, k and v, and elements between their tokens. */
export interface Operands {
  q: number;
  k: number;
  v: number;
  qStride: number;
  kvStride: number;
}

export class FlashTensors {
  readonly queries: number;
  readonly heads: number;
  readonly keys: number;
  readonly kvHeads: number;
  /** The kernels' head dimension; the tensors' may be smaller, and is filled up with zeros. */
  readonly dim: number;
  private readonly headDim: number;

  constructor(
    { q, k }: AttentionInputs,
    private readonly attrs: StickBreakingAttributes | SoftmaxAttributes,
    private readonly backend: CudaBackend,
    private readonly scratch: Scratch,
  ) {
    [this.queries, this.heads, this.headDim] = q.shape as [number, number, number];
    [this.keys, this.kvHeads] = k.shape as [number, number];
    this.dim = kernelDimension(this.headDim);
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
}
