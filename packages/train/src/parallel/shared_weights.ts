// What the training loop needs of processes that share the optimizer's state (ZeRO-1) instead of each having all of it.
import type { Tensor, Variable } from '@tensorflow/tfjs-core';

/** A whole tensor; its values are there on the first process alone. */
export interface WholeTensor {
  name: string;
  shape: number[];
  values?: Float32Array;
}

/** The weights of a model as one of several processes has them. */
export interface SharedWeights {
  /** What this process updates: parts of the parameters, by their names. */
  readonly owned: ReadonlyMap<string, Variable>;
  /** Zeros to which a step's gradients are added. */
  zeroSums(): Map<string, Tensor>;
  /** Takes a gradient that is complete for a micro-batch; in the last one the sum over all processes may begin. */
  settle(name: string, gradient: Tensor, isLast: boolean): Tensor;
  /** Ends the sums. All gradients are consumed; the result belongs to `owned`. */
  finishSums(gradients: ReadonlyMap<string, Tensor>): Map<string, Tensor>;
  /** Those of the sums that count once over all processes. */
  countedOnce(sums: ReadonlyMap<string, Tensor>): Tensor[];
  /** Brings what each process has updated to all others. */
  gatherWeights(): void;
  /** Whole tensors of parts like those of `owned`, in the order of the parameters: every process must take all of them. */
  whole(parts: ReadonlyMap<string, Tensor>): Iterable<WholeTensor>;
  /** This process's part of a whole tensor's values. */
  partOf(name: string, values: Float32Array): Float32Array;
  /** The shape of the whole tensor that `owned` has a part of. */
  shapeOf(name: string): number[];
}
