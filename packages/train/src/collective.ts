// What a run needs of the other processes that work on it. Every process runs the same loop over the same data and keeps
// its own share of the micro-batches; gradients and a few numbers are summed, and then each makes the same update. All
// processes make the same calls in the same order.
import { type LlamaModel, ownTokens, type SequenceGroup, type TokenBatch } from '@stickbreaking/model';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs-core';
import type { SharedWeights } from './parallel/shared_weights.js';

/**
 * Of what each process keeps only its part: of the optimizer's state (ZeRO-1), of the gradients too (ZeRO-2), and of
 * the weights between passes (ZeRO-3).
 */
export const SHARDS = ['optimizer', 'gradients', 'weights'] as const;
export type Shard = (typeof SHARDS)[number];

/**
 * In what form gradients of matrices travel between processes. In bfloat16 each process rounds its own once, to the nearest,
 * and they are added in float32; those of vectors are summed in float32 either way.
 */
export const REDUCE_TYPES = ['float32', 'bfloat16'] as const;
export type ReduceType = (typeof REDUCE_TYPES)[number];

/** What the training loop needs of the other processes of a run. */
export interface Collective {
  /** The number of this process, from 0. The first one alone writes files. */
  readonly rank: number;
  /** How many processes there are. */
  readonly size: number;
  /**
   * Starts summing tensors over all processes, whose lists have the same shapes. The tensors are given up for the sums,
   * which have the same bits everywhere and may be read once the promise resolves; several sums may be under way.
   *
   * @param isMatrix whether one of them, by its place, may travel in fewer bits where the run asks for that; default: none
   */
  sumTensors(tensors: readonly Tensor[], isMatrix?: (index: number) => boolean): Promise<readonly Tensor[]>;
  /** The sums of a few numbers over all processes, in the order of the ranks: the same bits everywhere. */
  sumNumbers(numbers: readonly number[]): Promise<readonly number[]>;
  /**
   * The same few numbers of every process, where they are on a device and what comes next is launched there before the
   * host knows them: [size, n], to be disposed of by the caller once `values` are there.
   */
  gather?(numbers: Tensor1D): { rows: Tensor2D; values: Promise<readonly (readonly number[])[]> };
  /** Whether all processes must make as many passes through the model, since a pass gathers its weights. */
  readonly passesTogether?: boolean;
  /** Those that share this process's sequences: `parallel.context` of them. */
  readonly sequence?: SequenceGroup;
  /** Takes over a model's weights where the processes share the optimizer's state. */
  share?(model: LlamaModel): SharedWeights;
}

/** A run in one process. */
export const oneProcess: Collective = {
  rank: 0,
  size: 1,
  sumTensors: (tensors) => Promise.resolve(tensors),
  sumNumbers: (numbers) => Promise.resolve(numbers),
};

/** Groups of processes, each of which works on a micro-batch: single ones, or those that share its sequence. */
export function groupsOf({ rank, size, sequence }: Pick<Collective, 'rank' | 'size' | 'sequence'>): {
  own: number;
  count: number;
} {
  const each = sequence?.size ?? 1;
  return { own: Math.floor(rank / each), count: size / each };
}

/** Of a micro-batch that a process's group works on, what is its own. */
export const partOf = (batch: TokenBatch, { sequence }: Pick<Collective, 'sequence'>): TokenBatch =>
  sequence ? ownTokens(batch, sequence) : batch;

/** The micro-batches of a step that a process works on: of every `count`-th its part. */
export function shareOf(batches: readonly TokenBatch[], collective: Collective): TokenBatch[] {
  const { own, count } = groupsOf(collective);
  return batches.filter((_, i) => i % count === own).map((batch) => partOf(batch, collective));
}
