// What the training loop needs of processes that share the optimizer's state, and perhaps gradients and weights (ZeRO),
// instead of each having all of it.
import type { Tensor, Variable } from '@tensorflow/tfjs-core';

/** Numbers of a whole tensor that follow one another, and where the first stands in it. */
export interface Piece {
  /** Which of the lists it is from. */
  list: number;
  name: string;
  from: number;
  /** Valid until the next piece is asked for. */
  values: Float32Array;
}

/** What a process had its part of at some moment. */
export interface Snapshot {
  /** Whether the tensors may change while it is read. */
  readonly isCopy: boolean;
  /** This process's numbers, list after list, for one reader before `dispose`. */
  pieces(): AsyncIterable<Piece>;
  /** Gives back its memory. */
  dispose(): void;
}

/** The weights of a model as one of several processes has them. */
export interface SharedWeights {
  /** What this process updates: parts of the parameters, by their names. */
  readonly owned: ReadonlyMap<string, Variable>;
  /** Forgets the gradients of the step before. */
  beginStep(): void;
  /** What a micro-batch's gradients are added to, given those after the one before it, which are consumed. */
  beginBatch(before: Map<string, Tensor> | undefined, isLast: boolean): Map<string, Tensor>;
  /** Takes a gradient that is complete for a micro-batch, whose sum over all processes may begin. */
  settle(name: string, gradient: Tensor): Tensor;
  /** Ends a micro-batch, in which this process may have had nothing to do. */
  endBatch(): void;
  /** Ends the sums. All gradients are consumed; the result belongs to `owned`. */
  finishSums(gradients: ReadonlyMap<string, Tensor>): Map<string, Tensor>;
  /**
   * Those of the sums that count once over all processes, in groups, of which later ones may take longer to be there.
   * To be called in a tidy: it may make tensors.
   */
  countedOnce(sums: ReadonlyMap<string, Tensor>): Tensor[][];
  /**
   * After an update, first of what is outside the layers and then of these: what is read of it from here on has every
   * process's part.
   */
  renewWeights(inLayers: boolean): void;
  /** What this process has its part of, to be saved: lists of tensors named and shaped like those of `owned`. */
  snapshot(lists: readonly ReadonlyMap<string, Tensor>[]): Snapshot;
  /** This process's part of a whole tensor's values. */
  partOf(name: string, values: Float32Array): Float32Array;
  /** The shape of the whole tensor that `owned` has a part of. */
  shapeOf(name: string): number[];
}
