/**
 * Stick-breaking attention in plain tfjs ops. Forward, each block of queries walks its keys from the nearest to the
 * farthest and carries how much of the stick is gone, as a logarithm. Backward, a first walk does the same and keeps
 * the carries; a second walks from the farthest key to the nearest and carries the prefix sum of weights times their
 * gradients, because a total minus a suffix would cancel.
 */
import {
  cumsum,
  exp,
  log,
  matMul,
  mul,
  neg,
  sigmoid,
  sum,
  type Tensor,
  type Tensor2D,
  type Tensor3D,
  tidy,
  transpose,
  zeros,
} from '@tensorflow/tfjs-core';
import type { PackedAttributes, ReferenceKernel, StickBreakingAttributes } from '../kernels.js';
import {
  assemble,
  type Block,
  BlockSums,
  blockSize,
  blocksOf,
  grouped,
  type PackedDocument,
  packedDocuments,
  rows,
  ungrouped,
  visible,
} from './blocks.js';

/** The key blocks that a block of queries sees, first to last. */
function keyBlocks(queries: Block, document: PackedDocument, attendCurrent: boolean, all: Block[]): Block[] {
  const lastPosition = document.firstPosition + queries.end - 1;
  const seen = attendCurrent ? lastPosition + 1 : lastPosition;
  return all.filter(({ begin }) => begin < seen);
}

interface Weights {
  /** z = q·k·scale, [H, B, C] */
  logits: Tensor3D;
  /** A, [H, B, C] */
  weights: Tensor3D;
  /** Σ softplus(z) over the block's visible keys, [H, B, 1] */
  broken: Tensor3D;
}

/** The weights of one block, given the logarithm of what nearer keys have broken off ([H, B, 1]). */
export function blockWeights(
  q: Tensor3D,
  k: Tensor3D,
  carry: Tensor3D,
  mask: Tensor3D | undefined,
  scale: number,
): Weights {
  const logits = mul(ungrouped(matMul(grouped(q, k.shape[0]), k, false, true), q.shape[0]), scale) as Tensor3D;
  const hide = (x: Tensor3D) => (mask ? (mul(x, mask) as Tensor3D) : x);
  const pieces = hide(stableSoftplus(logits));
  // log A = z − softplus(z) − (what nearer keys took) = −softplus(−z) − …: no difference of large numbers.
  const nearer = cumsum(pieces, 2, true, true).add(carry);
  const weights = hide(exp(neg(stableSoftplus(neg(logits)).add(nearer))) as Tensor3D);
  return { logits, weights, broken: sum(pieces, 2, true) as Tensor3D };
}

/** max(x, 0) + log1p(exp(−|x|)): tfjs's own softplus switches to approximations at thresholds. */
function stableSoftplus(x: Tensor3D): Tensor3D {
  return x.relu().add(x.abs().neg().exp().log1p()) as Tensor3D;
}

export const stickBreakingAttention: ReferenceKernel<'StickBreakingAttention'> = ({ q, k, v }, attrs) =>
  attended({ q, k, v }, attrs, packedDocuments(attrs));

export const stickBreakingFarther: ReferenceKernel<'StickBreakingFarther'> = (inputs, attrs) =>
  attended(inputs, { ...attrs, attendCurrent: false }, behindTheirKeys(attrs));

/** Documents whose queries come behind all of their keys. */
function behindTheirKeys(attrs: PackedAttributes): PackedDocument[] {
  return packedDocuments(attrs).map((one) => ({ ...one, firstPosition: one.keys.end - one.keys.begin }));
}

function attended(
  { q, k, v, stick }: { q: Tensor; k: Tensor; v: Tensor; stick?: Tensor },
  attrs: StickBreakingAttributes,
  documents: readonly PackedDocument[],
): [Tensor, Tensor, Tensor] {
  const [, numHeads, headDim] = q.shape as [number, number, number];
  const outputs: Tensor3D[] = [];
  const remainders: Tensor3D[] = [];
  forEachQueryBlock(q, documents, (document, queries, all) => {
    const [output, carry] = tidy(() => attendBlock({ q, k, v, stick }, document, queries, all, attrs));
    outputs.push(output);
    remainders.push(carry);
  });
  const output = assemble(outputs, numHeads, headDim);
  const remainder = exp(neg(assemble(remainders, numHeads, 1))).reshape([q.shape[0]!, numHeads]);
  return [output, remainder, zeros([0])];
}

function forEachQueryBlock(
  q: Tensor,
  documents: readonly PackedDocument[],
  visit: (document: PackedDocument, queries: Block, keyBlocks: Block[]) => void,
): void {
  const size = blockSize(q.shape[1]!);
  for (const document of documents) {
    const all = blocksOf(document.keys.end - document.keys.begin, size);
    for (const queries of blocksOf(document.queries.end - document.queries.begin, size)) visit(document, queries, all);
  }
}

/** What is gone of the sticks of a block of rows before they come to any key, as a logarithm, [H, B, 1]. */
function startOf(stick: Tensor | undefined, heads: number, begin: number, end: number): Tensor3D {
  return stick ? (neg(log(column(stick, begin, end))) as Tensor3D) : zeros([heads, end - begin, 1]);
}

/** Rows of [N, H] as [H, B, 1]. */
function column(x: Tensor, begin: number, end: number): Tensor3D {
  const heads = x.shape[1]!;
  return transpose((x as Tensor2D).slice([begin, 0], [end - begin, heads])).reshape([heads, end - begin, 1]);
}

export function maskOf(
  queries: Block,
  keys: Block,
  document: PackedDocument,
  attendCurrent: boolean,
): Tensor3D | undefined {
  return visible(queries, keys, document.firstPosition, (position) => (attendCurrent ? position : position - 1));
}

function attendBlock(
  { q, k, v, stick }: { q: Tensor; k: Tensor; v: Tensor; stick: Tensor | undefined },
  document: PackedDocument,
  queries: Block,
  all: Block[],
  { attendCurrent, scale }: StickBreakingAttributes,
): [Tensor3D, Tensor3D] {
  const [begin, end] = [document.queries.begin + queries.begin, document.queries.begin + queries.end];
  const qBlock = rows(q, begin, end);
  const [numHeads, length, headDim] = qBlock.shape;
  let state: [Tensor3D, Tensor3D] = [zeros([numHeads, length, headDim]), startOf(stick, numHeads, begin, end)];
  for (const keys of keyBlocks(queries, document, attendCurrent, all).reverse()) {
    const [output, carry] = state;
    state = tidy(() => {
      const kBlock = rows(k, document.keys.begin + keys.begin, document.keys.begin + keys.end);
      const vBlock = rows(v, document.keys.begin + keys.begin, document.keys.begin + keys.end);
      const mask = maskOf(queries, keys, document, attendCurrent);
      const { weights, broken } = blockWeights(qBlock, kBlock, carry, mask, scale);
      const added = ungrouped(matMul(grouped(weights, vBlock.shape[0]), vBlock), numHeads);
      return [output.add(added) as Tensor3D, carry.add(broken) as Tensor3D];
    });
    output.dispose();
    carry.dispose();
  }
  return state;
}

export const stickBreakingAttentionGrad: ReferenceKernel<'StickBreakingAttentionGrad'> = (inputs, attrs) => {
  const { remainder, dRemainder, ...others } = inputs;
  // The remainder's share of every key's gradient: −σ(z) · remainder · dRemainder.
  const farther = tidy(() => mul(remainder, dRemainder));
  const [dq, dk, dv, nearer] = gradients({ ...others, farther }, attrs, packedDocuments(attrs));
  for (const one of [farther, nearer]) one.dispose();
  return [dq, dk, dv];
};

export const stickBreakingFartherGrad: ReferenceKernel<'StickBreakingFartherGrad'> = (inputs, attrs) =>
  gradients(inputs, { ...attrs, attendCurrent: false }, behindTheirKeys(attrs));

interface GradientInputs {
  q: Tensor;
  k: Tensor;
  v: Tensor;
  stick?: Tensor;
  dOutput: Tensor;
  farther: Tensor;
}

function gradients(
  inputs: GradientInputs,
  attrs: StickBreakingAttributes,
  documents: readonly PackedDocument[],
): [Tensor, Tensor, Tensor, Tensor] {
  const { q, k, v } = inputs;
  const [, numHeads, headDim] = q.shape as [number, number, number];
  const numKvHeads = k.shape[1]!;
  const dqBlocks: Tensor3D[] = [];
  const nearerBlocks: Tensor3D[] = [];
  const dkBlocks: Tensor3D[] = [];
  const dvBlocks: Tensor3D[] = [];
  let sums: { dk: BlockSums; dv: BlockSums } | undefined;
  let current: PackedDocument | undefined;
  const finish = () => {
    if (!sums) return;
    dkBlocks.push(...sums.dk.all());
    dvBlocks.push(...sums.dv.all());
  };
  let covered = 0;
  forEachQueryBlock(q, documents, (document, queries, all) => {
    if (document !== current) {
      finish();
      padKeys(dkBlocks, dvBlocks, document.keys.begin - covered, numKvHeads, headDim);
      covered = document.keys.end;
      sums = { dk: new BlockSums(all, numKvHeads, headDim), dv: new BlockSums(all, numKvHeads, headDim) };
      current = document;
    }
    const [dq, nearer] = backwardBlock(inputs, document, queries, all, attrs, sums!);
    dqBlocks.push(dq);
    nearerBlocks.push(nearer);
  });
  finish();
  padKeys(dkBlocks, dvBlocks, k.shape[0]! - covered, numKvHeads, headDim);
  return [
    assemble(dqBlocks, numHeads, headDim),
    assemble(dkBlocks, numKvHeads, headDim),
    assemble(dvBlocks, numKvHeads, v.shape[2]!),
    assemble(nearerBlocks, numHeads, 1).reshape([q.shape[0]!, numHeads]),
  ];
}

/** Documents that have keys and no queries get gradients of zero. */
function padKeys(dk: Tensor3D[], dv: Tensor3D[], count: number, numKvHeads: number, headDim: number): void {
  if (count === 0) return;
  dk.push(zeros([numKvHeads, count, headDim]));
  dv.push(zeros([numKvHeads, count, headDim]));
}

/** dq of a block, and the sum of dÃ over all of its keys and what is farther. */
function backwardBlock(
  { q, k, v, stick, dOutput, farther }: GradientInputs,
  document: PackedDocument,
  queries: Block,
  all: Block[],
  { attendCurrent, scale }: StickBreakingAttributes,
  sums: { dk: BlockSums; dv: BlockSums },
): [Tensor3D, Tensor3D] {
  return tidyKeeping(sums, () => {
    const begin = document.queries.begin + queries.begin;
    const end = document.queries.begin + queries.end;
    const qBlock = rows(q, begin, end);
    const dOutputBlock = rows(dOutput, begin, end);
    const [numHeads, length, headDim] = qBlock.shape;
    const seen = keyBlocks(queries, document, attendCurrent, all);
    const keyRows = (x: Tensor, keys: Block) =>
      rows(x, document.keys.begin + keys.begin, document.keys.begin + keys.end);

    const carries: Tensor3D[] = [];
    let carry = startOf(stick, numHeads, begin, end);
    for (let b = seen.length - 1; b >= 0; b--) {
      carries[b] = carry;
      carry = tidy(() => {
        const mask = maskOf(queries, seen[b]!, document, attendCurrent);
        return carries[b]!.add(blockWeights(qBlock, keyRows(k, seen[b]!), carries[b]!, mask, scale).broken) as Tensor3D;
      });
    }
    let prefix = column(farther, begin, end);
    let dq = zeros([numHeads, length, headDim]) as Tensor3D;
    seen.forEach((keys, b) => {
      const kBlock = keyRows(k, keys);
      const vBlock = keyRows(v, keys);
      const kvHeads = kBlock.shape[0];
      const [dqBlock, dkBlock, dvBlock, nextPrefix] = tidy(() => {
        const mask = maskOf(queries, keys, document, attendCurrent);
        const { logits, weights } = blockWeights(qBlock, kBlock, carries[b]!, mask, scale);
        const dWeights = ungrouped(matMul(grouped(dOutputBlock, kvHeads), vBlock, false, true), numHeads);
        const dLogWeights = mul(weights, dWeights) as Tensor3D;
        const upToHere = cumsum(dLogWeights, 2).add(prefix);
        const all = dLogWeights.sub(sigmoid(logits).mul(upToHere)) as Tensor3D;
        const dLogits = mul(mask ? (all.mul(mask) as Tensor3D) : all, scale) as Tensor3D;
        return [
          ungrouped(matMul(grouped(dLogits, kvHeads), kBlock), numHeads),
          matMul(grouped(dLogits, kvHeads), grouped(qBlock, kvHeads), true, false),
          matMul(grouped(weights, kvHeads), grouped(dOutputBlock, kvHeads), true, false),
          prefix.add(sum(dLogWeights, 2, true)) as Tensor3D,
        ] as [Tensor3D, Tensor3D, Tensor3D, Tensor3D];
      });
      dq = dq.add(dqBlock);
      prefix = nextPrefix;
      const index = all.indexOf(keys);
      sums.dk.add(index, dkBlock);
      sums.dv.add(index, dvBlock);
    });
    return [dq, prefix];
  });
}

/** A tidy that leaves the running sums of the key blocks alive beside its results. */
function tidyKeeping<T extends Tensor[]>(sums: { dk: BlockSums; dv: BlockSums }, compute: () => T): T {
  let results: T | undefined;
  tidy(() => {
    results = compute();
    return [...results, ...sums.dk.present(), ...sums.dv.present()];
  });
  return results!;
}
