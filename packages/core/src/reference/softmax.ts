/** Softmax attention in plain tfjs ops: blocks of queries over blocks of keys with a running maximum and sum. */
import {
  exp,
  log,
  matMul,
  max,
  maximum,
  mul,
  scalar,
  sum,
  type Tensor,
  type Tensor2D,
  type Tensor3D,
  tensor1d,
  tidy,
  tile,
  transpose,
  zeros,
} from '@tensorflow/tfjs-core';
import type { FireInputs, KeyBiasInput, ReferenceKernel, SoftmaxAttributes } from '../kernels.js';
import {
  assemble,
  type Block,
  blockSize,
  blocksOf,
  grouped,
  type PackedDocument,
  packedDocuments,
  rows,
  ungrouped,
  visible,
} from './blocks.js';
import { fireBias } from './fire.js';

/** The logit of a masked key: low enough that its weight is 0, finite so that no NaN arises. */
const HIDDEN = -1e30;

export type AttentionInputs = { q: Tensor; k: Tensor; v: Tensor } & Partial<FireInputs & KeyBiasInput>;

export function forEachQueryBlock(
  q: Tensor,
  attrs: SoftmaxAttributes,
  visit: (document: PackedDocument, queries: Block, keyBlocks: Block[]) => void,
): void {
  const size = blockSize(q.shape[1]!);
  for (const document of packedDocuments(attrs)) {
    const all = blocksOf(document.keys.end - document.keys.begin, size);
    for (const queries of blocksOf(document.queries.end - document.queries.begin, size)) visit(document, queries, all);
  }
}

/** The key blocks that a block of queries sees. */
export function keyBlocks(
  queries: Block,
  document: PackedDocument,
  { window }: SoftmaxAttributes,
  all: Block[],
): Block[] {
  const firstPosition = document.firstPosition + queries.begin;
  const lastPosition = document.firstPosition + queries.end - 1;
  return all.filter(({ begin, end }) => begin <= lastPosition && (window === 0 || end > firstPosition - window + 1));
}

/** 1 where a key is seen, [1, B, C]; undefined where all are. */
export function maskOf(
  queries: Block,
  keys: Block,
  document: PackedDocument,
  { window }: SoftmaxAttributes,
): Tensor3D | undefined {
  const first = window === 0 ? () => 0 : (position: number) => position - window + 1;
  return visible(queries, keys, document.firstPosition, (position) => position, first);
}

/** Scaled, biased and masked logits of a block, [H, B, C]. */
export function blockLogits(
  qBlock: Tensor3D,
  kBlock: Tensor3D,
  inputs: AttentionInputs,
  document: PackedDocument,
  queries: Block,
  keys: Block,
  mask: Tensor3D | undefined,
  attrs: SoftmaxAttributes,
): Tensor3D {
  const numHeads = qBlock.shape[0];
  const scores = ungrouped(matMul(grouped(qBlock, kBlock.shape[0]), kBlock, false, true), numHeads);
  let logits = mul(scores, attrs.scale) as Tensor3D;
  if (attrs.bias === 'alibi') {
    const slopes = tensor1d(attrs.alibiSlopes!).reshape([numHeads, 1, 1]);
    logits = logits.sub(slopes.mul(distances(queries, keys, document)));
  }
  if (attrs.bias === 'fire') logits = logits.add(fireBias(inputs as FireInputs, document, queries, keys, attrs));
  if (attrs.bias === 'keys') logits = logits.add(keyBiasOf(inputs.keyBias!, document, keys, numHeads));
  return mask ? (logits.mul(mask).add(scalar(1).sub(mask).mul(HIDDEN)) as Tensor3D) : logits;
}

/** What is added to the logits of each key, [H, 1, C]: the same for the heads that share it. */
function keyBiasOf(keyBias: Tensor, document: PackedDocument, keys: Block, numHeads: number): Tensor3D {
  const [, kvHeads] = keyBias.shape as [number, number];
  const length = keys.end - keys.begin;
  const own = transpose(keyBias.slice([document.keys.begin + keys.begin, 0], [length, kvHeads]));
  const shared = tile(own.reshape([kvHeads, 1, length]), [1, numHeads / kvHeads, 1]);
  return shared.reshape([numHeads, 1, length]) as Tensor3D;
}

/** position − key, [1, B, C]. */
function distances(queries: Block, keys: Block, { firstPosition }: PackedDocument): Tensor3D {
  const column = Float32Array.from(
    { length: queries.end - queries.begin },
    (_, r) => firstPosition + queries.begin + r,
  );
  const row = Float32Array.from({ length: keys.end - keys.begin }, (_, c) => keys.begin + c);
  return tensor1d(column)
    .reshape([1, -1, 1])
    .sub(tensor1d(row).reshape([1, 1, -1])) as Tensor3D;
}

export const softmaxAttention: ReferenceKernel<'SoftmaxAttention'> = (inputs, attrs) => {
  const { q, v } = inputs;
  const [numQueries, numHeads] = q.shape as [number, number];
  const outputs: Tensor3D[] = [];
  const logSumExps: Tensor3D[] = [];
  forEachQueryBlock(q, attrs, (document, queries, all) => {
    const [output, logSumExp] = tidy(() => attendBlock(inputs, document, queries, all, attrs));
    outputs.push(output);
    logSumExps.push(logSumExp);
  });
  return [
    assemble(outputs, numHeads, v.shape[2]!),
    assemble(logSumExps, numHeads, 1).reshape([numQueries, numHeads]) as Tensor2D,
  ];
};

function attendBlock(
  inputs: AttentionInputs,
  document: PackedDocument,
  queries: Block,
  all: Block[],
  attrs: SoftmaxAttributes,
): [Tensor3D, Tensor3D] {
  const { q, k, v } = inputs;
  const qBlock = rows(q, document.queries.begin + queries.begin, document.queries.begin + queries.end);
  const [numHeads, length] = qBlock.shape;
  let highest = zeros([numHeads, length, 1]).add(HIDDEN) as Tensor3D;
  let total = zeros([numHeads, length, 1]) as Tensor3D;
  let output = zeros([numHeads, length, v.shape[2]!]) as Tensor3D;
  for (const keys of keyBlocks(queries, document, attrs, all)) {
    const before = [highest, total, output];
    [highest, total, output] = tidy((): [Tensor3D, Tensor3D, Tensor3D] => {
      const kBlock = rows(k, document.keys.begin + keys.begin, document.keys.begin + keys.end);
      const vBlock = rows(v, document.keys.begin + keys.begin, document.keys.begin + keys.end);
      const mask = maskOf(queries, keys, document, attrs);
      const logits = blockLogits(qBlock, kBlock, inputs, document, queries, keys, mask, attrs);
      const peak = maximum(highest, max(logits, 2, true)) as Tensor3D;
      // While a row has seen no key, its maximum is that of masked keys and exp(0) would count them: the mask removes
      // them.
      const shifted = exp(logits.sub(peak));
      const weights = (mask ? shifted.mul(mask) : shifted) as Tensor3D;
      const shrink = exp(highest.sub(peak));
      const added = ungrouped(matMul(grouped(weights, vBlock.shape[0]), vBlock), numHeads);
      return [
        peak,
        total.mul(shrink).add(sum(weights, 2, true)) as Tensor3D,
        output.mul(shrink).add(added) as Tensor3D,
      ];
    });
    for (const tensor of before) tensor.dispose();
  }
  return [output.div(total), highest.add(log(total))];
}
