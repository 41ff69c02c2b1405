/** The backward of softmax attention in plain tfjs ops: weights recomputed block by block from the saved log-sum-exp. */
import {
  exp,
  matMul,
  mul,
  sum,
  type Tensor,
  type Tensor2D,
  type Tensor3D,
  tidy,
  transpose,
  zeros,
  zerosLike,
} from '@tensorflow/tfjs-core';
import { fireInputsOf } from '../fire_inputs.js';
import type { FireInputs, ReferenceKernel, SoftmaxAttributes } from '../kernels.js';
import { assemble, type Block, BlockSums, grouped, type PackedDocument, rows, ungrouped } from './blocks.js';
import { fireBiasGrad } from './fire.js';
import { blockLogits, forEachQueryBlock, keyBlocks, maskOf } from './softmax.js';

type Inputs = Parameters<ReferenceKernel<'SoftmaxAttentionGrad'>>[0];

/** Everything that sums over blocks of queries: per key block of one document dk, dv and dKeyBias, and FIRE's gradients. */
interface Sums {
  dk: BlockSums;
  dv: BlockSums;
  dBias: BlockSums;
  fire: Tensor[];
}

export const softmaxAttentionGrad: ReferenceKernel<'SoftmaxAttentionGrad'> = (inputs, attrs) => {
  const { q, k, v } = inputs;
  const [, numHeads, headDim] = q.shape as [number, number, number];
  const numKvHeads = k.shape[1]!;
  const dq: Tensor3D[] = [];
  const dk: Tensor3D[] = [];
  const dv: Tensor3D[] = [];
  const dBias: Tensor3D[] = [];
  let fire = attrs.bias === 'fire' ? fireInputsOf(inputs).map((tensor) => zerosLike(tensor)) : [];
  let sums: Sums | undefined;
  let current: PackedDocument | undefined;
  let covered = 0;
  const pad = (upTo: number) => {
    if (upTo === covered) return;
    for (const list of [dk, dv]) list.push(zeros([numKvHeads, upTo - covered, headDim]));
    dBias.push(zeros([numKvHeads, upTo - covered, 1]));
  };
  const finish = () => {
    if (!sums) return;
    dk.push(...sums.dk.all());
    dv.push(...sums.dv.all());
    dBias.push(...sums.dBias.all());
    fire = sums.fire;
  };
  forEachQueryBlock(q, attrs, (document, queries, all) => {
    if (document !== current) {
      finish();
      pad(document.keys.begin);
      covered = document.keys.end;
      const sumsOf = (dim: number) => new BlockSums(all, numKvHeads, dim);
      sums = { dk: sumsOf(headDim), dv: sumsOf(headDim), dBias: sumsOf(1), fire };
      current = document;
    }
    const kept = sums!;
    const [dqBlock] = tidy(() => {
      const result = backwardBlock(inputs, document, queries, all, attrs, kept);
      return [result, ...kept.dk.present(), ...kept.dv.present(), ...kept.dBias.present(), ...kept.fire];
    });
    dq.push(dqBlock as Tensor3D);
  });
  finish();
  pad(k.shape[0]!);
  return [
    assemble(dq, numHeads, headDim),
    assemble(dk, numKvHeads, headDim),
    assemble(dv, numKvHeads, v.shape[2]!),
    ...fire,
    ...(attrs.bias === 'keys' ? [assemble(dBias, numKvHeads, 1).reshape([k.shape[0]!, numKvHeads])] : []),
  ];
};

function backwardBlock(
  inputs: Inputs,
  document: PackedDocument,
  queries: Block,
  all: Block[],
  attrs: SoftmaxAttributes,
  sums: Sums,
): Tensor3D {
  const begin = document.queries.begin + queries.begin;
  const end = document.queries.begin + queries.end;
  const qBlock = rows(inputs.q, begin, end);
  const dOutput = rows(inputs.dOutput, begin, end);
  const [numHeads, length, headDim] = qBlock.shape;
  // Σ_c weight·dWeight of a row, which the softmax's derivative subtracts.
  const rowSum = sum(mul(dOutput, rows(inputs.output, begin, end)), 2, true);
  const logSumExp = transpose((inputs.logSumExp as Tensor2D).slice([begin, 0], [end - begin, numHeads])).reshape([
    numHeads,
    length,
    1,
  ]);
  let dq = zeros([numHeads, length, headDim]) as Tensor3D;
  for (const keys of keyBlocks(queries, document, attrs, all)) {
    const kBlock = rows(inputs.k, document.keys.begin + keys.begin, document.keys.begin + keys.end);
    const vBlock = rows(inputs.v, document.keys.begin + keys.begin, document.keys.begin + keys.end);
    const kvHeads = kBlock.shape[0];
    const mask = maskOf(queries, keys, document, attrs);
    const logits = blockLogits(qBlock, kBlock, inputs, document, queries, keys, mask, attrs);
    const weights = exp(logits.sub(logSumExp)) as Tensor3D;
    const dWeights = ungrouped(matMul(grouped(dOutput, kvHeads), vBlock, false, true), numHeads);
    const dLogits = weights.mul(dWeights.sub(rowSum)) as Tensor3D;
    const dScores = mul(dLogits, attrs.scale) as Tensor3D;
    const index = all.indexOf(keys);
    dq = dq.add(ungrouped(matMul(grouped(dScores, kvHeads), kBlock), numHeads));
    sums.dk.add(index, matMul(grouped(dScores, kvHeads), grouped(qBlock, kvHeads), true, false));
    sums.dv.add(index, matMul(grouped(weights, kvHeads), grouped(dOutput, kvHeads), true, false));
    if (attrs.bias === 'keys') sums.dBias.add(index, sum(grouped(dLogits, kvHeads), 1).expandDims(2) as Tensor3D);
    if (attrs.bias === 'fire') {
      const added = fireBiasGrad(inputs as FireInputs, document, queries, keys, attrs, dLogits);
      sums.fire = sums.fire.map((total, i) => total.add(added[i]!));
    }
  }
  return dq;
}
