/**
 * How the reference attention kernels walk a pack: document by document, blocks of queries over blocks of keys, heads
 * batched in one matmul. Nothing larger than a block of H·B·B numbers exists, so memory is linear in the tokens.
 */
import { concat, reshape, type Tensor, type Tensor3D, tensor1d, tidy, transpose, zeros } from '@tensorflow/tfjs-core';
import type { PackedAttributes } from '../kernels.js';

/** One document of a pack. */
export interface PackedDocument {
  queries: { begin: number; end: number };
  keys: { begin: number; end: number };
  /** Position of the first query among the document's keys. */
  firstPosition: number;
}

/** Consecutive rows inside a document, counted from the document's first query or key. */
export interface Block {
  begin: number;
  end: number;
}

export function packedDocuments({ cuSeqlens, cuSeqlensK }: PackedAttributes): PackedDocument[] {
  return Array.from({ length: cuSeqlens.length - 1 }, (_, s) => {
    const queries = { begin: cuSeqlens[s]!, end: cuSeqlens[s + 1]! };
    const keys = { begin: cuSeqlensK[s]!, end: cuSeqlensK[s + 1]! };
    return { queries, keys, firstPosition: keys.end - keys.begin - (queries.end - queries.begin) };
  }).filter(({ queries }) => queries.end > queries.begin);
}

/** Cuts `length` rows into blocks, first to last. */
export function blocksOf(length: number, size: number): Block[] {
  return Array.from({ length: Math.ceil(length / size) }, (_, b) => ({
    begin: b * size,
    end: Math.min(length, (b + 1) * size),
  }));
}

/** Block lengths whose H·B·B stays near a million numbers, for any number of heads. */
export function blockSize(numHeads: number): number {
  return Math.max(32, Math.min(256, 2 ** Math.floor(Math.log2(1024 / Math.sqrt(numHeads)))));
}

/** Rows of a packed [N, heads, D] as [heads, rows, D]. */
export function rows(x: Tensor, begin: number, end: number): Tensor3D {
  const [, heads, dim] = x.shape as [number, number, number];
  return tidy(() => transpose((x as Tensor3D).slice([begin, 0, 0], [end - begin, heads, dim]), [1, 0, 2]));
}

/** [H, B, D] as [K, G·B, D]: the query heads of one key-value head together in one matmul. */
export function grouped(x: Tensor3D, numKvHeads: number): Tensor3D {
  const [heads, length, dim] = x.shape;
  return reshape(x, [numKvHeads, (heads / numKvHeads) * length, dim]);
}

/** The inverse of `grouped`. */
export function ungrouped(x: Tensor3D, numHeads: number): Tensor3D {
  const [kvHeads, groupedLength, dim] = x.shape;
  return reshape(x, [numHeads, (groupedLength * kvHeads) / numHeads, dim]);
}

/** 1 where query p may see key c, as [1, B, C]; undefined where it may see all of them. */
export function visible(
  queries: Block,
  keys: Block,
  firstPosition: number,
  last: (position: number) => number,
  first: (position: number) => number = () => 0,
): Tensor3D | undefined {
  const length = queries.end - queries.begin;
  const width = keys.end - keys.begin;
  const mask = new Float32Array(length * width);
  let hidden = false;
  for (let r = 0; r < length; r++) {
    const position = firstPosition + queries.begin + r;
    for (let c = 0; c < width; c++) {
      const key = keys.begin + c;
      if (key <= last(position) && key >= first(position)) mask[r * width + c] = 1;
      else hidden = true;
    }
  }
  return hidden ? reshape(tensor1d(mask), [1, length, width]) : undefined;
}

/** Blocks [heads, rows, D] of consecutive rows as one packed [N, heads, D]. */
export function assemble(blocks: readonly Tensor3D[], heads: number, dim: number): Tensor3D {
  if (blocks.length === 0) return zeros([0, heads, dim]);
  return tidy(() => transpose(blocks.length === 1 ? blocks[0]! : concat(blocks as Tensor3D[], 1), [1, 0, 2]));
}

/** Sums of blocks that come in any order, one for each key block; a missing one counts as zero. */
export class BlockSums {
  private readonly sums: (Tensor3D | undefined)[];

  constructor(
    private readonly blocks: readonly Block[],
    private readonly heads: number,
    private readonly dim: number,
  ) {
    this.sums = new Array(blocks.length).fill(undefined);
  }

  add(index: number, block: Tensor3D): void {
    const old = this.sums[index];
    if (!old) {
      this.sums[index] = block;
      return;
    }
    this.sums[index] = old.add(block);
    old.dispose();
    block.dispose();
  }

  /** The sums that exist so far. */
  present(): Tensor3D[] {
    return this.sums.filter((sum) => sum !== undefined);
  }

  all(): Tensor3D[] {
    return this.blocks.map(
      ({ begin, end }, index) => this.sums[index] ?? (zeros([this.heads, end - begin, this.dim]) as Tensor3D),
    );
  }
}
