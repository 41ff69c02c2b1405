/**
 * The weights of a model on several GPUs that take its batches in turns (ZeRO, https://arxiv.org/abs/1910.02054): of
 * the float32 weights and of what the optimizer keeps every GPU has only its part; of gradients and of the weights in
 * bfloat16 too, if that is wished. Norms, biases and other vectors are the same everywhere.
 */
import type { Tensor, Variable } from '@tensorflow/tfjs-core';
import { elementsOf } from '../storage.js';
import type { Gpus } from './gpus.js';
import { GradientBuckets, isLastSummed } from './gradient_buckets.js';
import { bucketsOf, type Matrix, type Sharing, slicesOf, withPadding } from './layout.js';
import { SHARES } from './ordered_sums.js';
import { Snapshot } from './snapshot.js';
import type { Vector } from './vector_sums.js';
import { WeightBuckets } from './weight_buckets.js';

/** Of what every GPU has only a part between steps; each includes those before it. */
export type Shard = 'optimizer' | 'gradients' | 'weights';

/** How processes share weights and sum gradients. */
export interface SharingOptions {
  /** Default: 'optimizer'. */
  shard?: Shard | undefined;
  /**
   * Whether gradients are added in the order of the micro-batches, so that any number of processes that divides 8 gives the
   * same bits. Default: no.
   */
  orderedSums?: boolean | undefined;
  /** In what form gradients of matrices travel: in bfloat16 each process rounds its own once, and sums are float32. Default: 'float32'. */
  reduceType?: 'float32' | 'bfloat16' | undefined;
}

/** The weights of a model as one of several GPUs has them: its parts of matrices, and all vectors. */
export class ShardedWeights {
  /** What this process updates: its parts of matrices, in float32 and named like these, and all vectors. */
  readonly owned = new Map<string, Variable>();
  private readonly sharing: Sharing;
  private readonly vectors = new Map<string, Vector>();
  private readonly gradients: GradientBuckets;
  private readonly ordered: boolean;
  private readonly weights: WeightBuckets;

  /**
   * Takes over the memory of the model's parameters.
   *
   * @param isMatrix whether a parameter is read by matmuls alone, in bfloat16
   */
  constructor(
    private readonly gpus: Gpus,
    parameters: ReadonlyMap<string, Variable>,
    isMatrix: (name: string, parameter: Variable) => boolean,
    { shard = 'optimizer', orderedSums: ordered = false, reduceType = 'float32' }: SharingOptions = {},
  ) {
    this.ordered = ordered;
    const { backend } = gpus;
    const { rank, size } = gpus.communicator;
    const items: { name: string; elements: number }[] = [];
    let vectorEnd = 0;
    for (const [name, parameter] of parameters) {
      if (isMatrix(name, parameter)) {
        items.push({ name, elements: elementsOf(backend.stored(parameter)) });
        continue;
      }
      this.vectors.set(name, { shape: parameter.shape, offset: vectorEnd, elements: parameter.size });
      vectorEnd += Math.ceil(parameter.size / 8) * 8;
    }
    if (ordered && SHARES % size > 0)
      throw new Error(`sums in order need a divisor of ${SHARES} processes, not ${size}`);
    const buckets = bucketsOf(items, ordered ? SHARES : size);
    const matrices = new Map<string, Matrix>();
    buckets.forEach(({ slots }, bucket) => {
      for (const { name, offset, elements } of slots) {
        const parameter = parameters.get(name)!;
        const { rows } = backend.stored(parameter);
        matrices.set(name, { shape: parameter.shape, rows, elements, bucket, offset });
      }
    });
    this.sharing = { buckets, slices: slicesOf(buckets, rank, size), matrices };
    this.gradients = new GradientBuckets(gpus, this.sharing, this.vectors, vectorEnd, {
      apart: shard !== 'optimizer' || ordered,
      ordered,
      type: reduceType === 'bfloat16' ? 'bf16' : 'f32',
    });
    this.weights = new WeightBuckets(gpus, this.sharing, parameters, shard === 'weights');
    const slices = this.weights.takeOver();
    for (const [name, parameter] of parameters) {
      const own = matrices.has(name) ? slices.get(name) : parameter;
      if (own) this.owned.set(name, own);
    }
  }

  /** Forgets the gradients of the step before. */
  beginStep(): void {
    this.gradients.beginStep();
  }

  /** What a micro-batch's gradients are added to, given those after the one before it, which are consumed. */
  beginBatch(before: Map<string, Tensor> | undefined, isLast: boolean): Map<string, Tensor> {
    return this.gradients.beginBatch(before, isLast);
  }

  /** Takes a gradient that is complete for a micro-batch and gives it back as it lies in its bucket. */
  settle(name: string, gradient: Tensor): Tensor {
    return this.gradients.settle(name, gradient);
  }

  /** Ends a micro-batch, in which this process may have had nothing to do. */
  endBatch(): void {
    this.gradients.endBatch();
  }

  /**
   * Ends a step's sums.
   *
   * @param gradients all gradients of this process, which are consumed
   * @returns the sums that belong to `owned`
   */
  finishSums(gradients: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
    const sums = this.gradients.finish(gradients);
    return new Map([...this.owned.keys()].map((name) => [name, sums.get(name)!]));
  }

  /** Those of a step's sums that count once over all processes, first those that are there while others still come. */
  countedOnce(sums: ReadonlyMap<string, Tensor>): Tensor[][] {
    const isFirst = this.gpus.communicator.rank === 0;
    if (this.ordered) {
      const vectors = [...this.vectors.keys()].map((name) => sums.get(name)!);
      return this.gradients.shares().map((share, i) => (isFirst && i === 0 ? [...vectors, ...share] : share));
    }
    const groups: Tensor[][] = [[], []];
    for (const [name, sum] of sums) {
      const matrix = this.sharing.matrices.get(name);
      if (matrix || isFirst) groups[isLastSummed(matrix) ? 1 : 0]!.push(sum);
    }
    return groups;
  }

  /** After an update of what is in the layers, or is not: brings what each process has changed to all others. */
  renewWeights(inLayers: boolean): void {
    this.weights.renew(inLayers);
  }

  /** A copy of this process's parts, for saving them: of tensors named and shaped like those of `owned`. */
  snapshot(lists: readonly ReadonlyMap<string, Tensor>[]): Snapshot {
    return new Snapshot(this.gpus, this.sharing, lists);
  }

  /** This process's part of a whole tensor, as `owned` has it. */
  partOf(name: string, values: Float32Array): Float32Array {
    const matrix = this.sharing.matrices.get(name);
    if (!matrix) return values;
    const { offset, length } = this.sharing.slices.find((slice) => slice.name === name)!;
    return withPadding(matrix, values).subarray(offset, offset + length);
  }

  /** The shape of the whole tensor of which `owned` has a part. */
  shapeOf(name: string): number[] {
    return this.sharing.matrices.get(name)?.shape ?? this.vectors.get(name)!.shape;
  }
}
