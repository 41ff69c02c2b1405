/** The blocks of logits that attention composed of matmuls works on, and the matmuls of one block. */
import type { KernelInputs, PackedAttributes } from '@stickbreaking/core/backend';
import type { CudaBackend } from '../backend.js';
import { LOGIT_BLOCK } from '../kernel_interface.js';
import type { Argument } from '../launch.js';

const BLOCK_BYTES = 256 * 2 ** 20;

export interface Shape {
  heads: number;
  kvHeads: number;
  group: number;
  dim: number;
  scale: number;
  cuSeqlens: Int32Array;
  cuSeqlensK: Int32Array;
}

/** Consecutive query rows of one document, and the keys that the last of them may see. */
export interface Block {
  token: number;
  firstKey: number;
  rows: number;
  /** Position of the first query among the document's keys. */
  first: number;
  keys: number;
  /** `keys`, rounded up so that rows are aligned. */
  stride: number;
}

export function shapeOf(
  { q, k }: KernelInputs<'StickBreakingAttention'>,
  { cuSeqlens, cuSeqlensK, scale }: PackedAttributes,
): Shape {
  const [, heads, dim] = q.shape as [number, number, number];
  const kvHeads = k.shape[1]!;
  return { heads, kvHeads, group: heads / kvHeads, dim, scale, cuSeqlens, cuSeqlensK };
}

export function* blocksOf(s: Shape): Generator<Block> {
  for (let d = 0; d + 1 < s.cuSeqlens.length; d++) {
    const [from, to] = [s.cuSeqlens[d]!, s.cuSeqlens[d + 1]!];
    const firstKey = s.cuSeqlensK[d]!;
    const length = s.cuSeqlensK[d + 1]! - firstKey;
    const offset = length - (to - from);
    const room = Math.max(1, Math.min(1024, Math.floor(BLOCK_BYTES / 4 / s.kvHeads / Math.max(length, 8))));
    // Multiples of 64 keep the matmuls' sides aligned: at odd sizes the library uses its slow kernels.
    const most = room > 64 ? room - (room % 64) : room;
    for (let token = from; token < to; token += most) {
      const rows = Math.min(most, to - token);
      const first = offset + token - from;
      const keys = Math.min(length, first + rows);
      yield { token, firstKey, rows, first, keys, stride: Math.ceil(keys / 8) * 8 };
    }
  }
}

export function largest(s: Shape): number {
  let size = 1;
  for (const block of blocksOf(s)) size = Math.max(size, s.kvHeads * block.rows * block.stride);
  return size;
}

export function rowsArgument(s: Shape, b: Block, g: number): Argument {
  const { rows, stride, first, keys, token } = b;
  return LOGIT_BLOCK.argument({
    rows,
    stride,
    first,
    keys,
    heads: s.kvHeads,
    group: s.group,
    g,
    token,
    scale: s.scale,
  });
}

/** The products of one block, batched over kv heads, for the g-th query head of each group. */
export function products(backend: CudaBackend, s: Shape, b: Block, g: number) {
  const query = { lda: s.heads * s.dim, stride: s.group * s.dim };
  const key = { ld: s.kvHeads * s.dim, stride: s.dim };
  const square = { ld: b.stride, stride: b.rows * b.stride };
  const batch = s.kvHeads;
  const rowAt = (address: number) => address + (b.token * s.heads + g) * s.dim * 2;
  const keyAt = (address: number, bytes = 2) => address + b.firstKey * s.kvHeads * s.dim * bytes;
  return {
    /** square = rows · keysᵀ, float32. */
    compare: (rows: number, keys: number, out: number) =>
      backend.matmul(rowAt(rows), keyAt(keys), out, {
        m: b.rows,
        n: b.keys,
        k: s.dim,
        transposeA: false,
        transposeB: true,
        batch,
        untuned: true,
        output: 'f32',
        lda: query.lda,
        strideA: query.stride,
        ldb: key.ld,
        strideB: key.stride,
        ldc: square.ld,
        strideC: square.stride,
      }),
    /** rows = square · keys. */
    gather: (weights: number, keys: number, out: number) =>
      backend.matmul(weights, keyAt(keys), rowAt(out), {
        m: b.rows,
        n: s.dim,
        k: b.keys,
        transposeA: false,
        transposeB: false,
        batch,
        untuned: true,
        output: 'bf16',
        lda: square.ld,
        strideA: square.stride,
        ldb: key.ld,
        strideB: key.stride,
        ldc: query.lda,
        strideC: query.stride,
      }),
    /** keys (float32) += squareᵀ · rows. */
    scatter: (weights: number, rows: number, out: number) =>
      backend.matmul(weights, rowAt(rows), keyAt(out, 4), {
        m: b.keys,
        n: s.dim,
        k: b.rows,
        transposeA: true,
        transposeB: false,
        batch,
        untuned: true,
        output: 'f32',
        beta: 1,
        lda: square.ld,
        strideA: square.stride,
        ldb: query.lda,
        strideB: query.stride,
        ldc: key.ld,
        strideC: key.stride,
      }),
  };
}
