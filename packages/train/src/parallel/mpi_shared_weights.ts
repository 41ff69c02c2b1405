// Weights shared by processes on CPUs: each keeps its part of the optimizer's state, and of the gradients if that is
// wished. Sums are made one after the other when they are asked for: MPI moves on only inside its calls, so that nothing
// would go on beside them.
import { type Tensor, tensor, type Variable, variable } from '@tensorflow/tfjs-core';
import type { Mpi } from './mpi.js';
import { borderOf, ownRoundedSum } from './rounded_sums.js';
import type { Piece, SharedWeights, Snapshot } from './shared_weights.js';

/** What is told of each exchange, so that a process that hangs can be named. */
export interface Exchanges {
  begin(what: 'sum' | 'numbers' | 'exchange'): void;
  end(): void;
}

/** What a process has of a matrix: numbers that follow one another. */
interface Slice {
  from: number;
  to: number;
}

export class MpiSharedWeights implements SharedWeights {
  readonly owned = new Map<string, Variable>();
  private readonly slices = new Map<string, Slice>();
  /** Own parts of the sums of the micro-batches so far, where each is summed for itself. */
  private readonly parts = new Map<string, Float32Array>();
  private readonly settled = new Map<string, Tensor>();

  /**
   * @param isMatrix what is shared; every process has the rest
   * @param how `apart`: whether only parts of the gradients stay from one micro-batch to the next; `rounds`: whether gradients of
   *   matrices travel in bfloat16
   */
  constructor(
    private readonly mpi: Mpi,
    private readonly exchanges: Exchanges,
    private readonly parameters: ReadonlyMap<string, Variable>,
    isMatrix: (name: string, parameter: Variable) => boolean,
    private readonly how: { apart: boolean; rounds: boolean },
  ) {
    const { rank, size } = mpi;
    for (const [name, parameter] of parameters) {
      if (!isMatrix(name, parameter)) {
        this.owned.set(name, parameter);
        continue;
      }
      const slice = { from: borderOf(parameter.size, rank, size), to: borderOf(parameter.size, rank + 1, size) };
      this.slices.set(name, slice);
      if (slice.from === slice.to) continue;
      const own = this.part(name, parameter.dataSync() as Float32Array);
      this.owned.set(name, variable(own));
      own.dispose();
    }
  }

  private part(name: string, whole: Float32Array): Tensor {
    const { from, to } = this.slices.get(name)!;
    return tensor(whole.slice(from, to), [1, to - from]);
  }

  beginStep(): void {
    this.parts.clear();
  }

  beginBatch(before: Map<string, Tensor> | undefined): Map<string, Tensor> {
    const sums = new Map(before);
    this.settled.clear();
    if (!this.how.apart) return sums;
    for (const name of this.slices.keys()) {
      sums.get(name)?.dispose();
      sums.delete(name);
    }
    return sums;
  }

  settle(name: string, gradient: Tensor): Tensor {
    this.settled.set(name, gradient);
    return gradient;
  }

  endBatch(): void {
    if (!this.how.apart) return;
    for (const name of this.slices.keys()) {
      const sum = this.ownSum(name, this.settled.get(name));
      const before = this.parts.get(name);
      this.parts.set(name, before ? before.map((x, i) => x + sum[i]!) : sum.slice());
    }
  }

  /** This process's part of the sums over all processes; valid until the next. */
  private ownSum(name: string, gradient: Tensor | undefined): Float32Array {
    const { from, to } = this.slices.get(name)!;
    if (!this.how.rounds) return this.summed(name, gradient).subarray(from, to);
    const values = gradient?.dataSync() as Float32Array | undefined;
    this.exchanges.begin('sum');
    const sum = ownRoundedSum(this.mpi, values, this.parameters.get(name)!.size);
    this.exchanges.end();
    return sum;
  }

  /** Sums over all processes; valid until the next. Where there is no gradient, this process adds nothing. */
  private summed(name: string, gradient: Tensor | undefined): Float32Array {
    const { address, values } = this.mpi.floats(this.parameters.get(name)!.size);
    if (gradient) values.set(gradient.dataSync() as Float32Array);
    else values.fill(0);
    this.sum(address, values.length);
    return values;
  }

  private sum(address: bigint, length: number): void {
    this.exchanges.begin('sum');
    this.mpi.sumNow(address, length);
    this.exchanges.end();
  }

  finishSums(gradients: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
    const sums = new Map<string, Tensor>();
    for (const [name, { shape }] of this.parameters) {
      const own = this.slices.get(name);
      const part = this.parts.get(name);
      if (own) {
        const sum = part ?? this.ownSum(name, gradients.get(name)).slice();
        sums.set(name, tensor(sum, [1, sum.length]));
      } else sums.set(name, tensor(this.summed(name, gradients.get(name)).slice(), shape));
    }
    for (const gradient of gradients.values()) gradient.dispose();
    for (const [name, sum] of sums) if (!this.owned.has(name)) sum.dispose();
    return new Map([...this.owned.keys()].map((name) => [name, sums.get(name)!]));
  }

  countedOnce(sums: ReadonlyMap<string, Tensor>): Tensor[][] {
    return [[...sums].flatMap(([name, sum]) => (this.mpi.rank === 0 || this.slices.has(name) ? [sum] : []))];
  }

  renewWeights(inLayers: boolean): void {
    for (const [name, { from }] of this.slices) {
      if (name.startsWith('model.layers.') !== inLayers) continue;
      const parameter = this.parameters.get(name)!;
      const { address, values } = this.mpi.floats(parameter.size);
      values.fill(0);
      const own = this.owned.get(name);
      if (own) values.set(own.dataSync() as Float32Array, from);
      this.sum(address, values.length);
      const whole = tensor(values.slice(), parameter.shape);
      parameter.assign(whole);
      whole.dispose();
    }
  }

  snapshot(lists: readonly ReadonlyMap<string, Tensor>[]): Snapshot {
    const own = lists.flatMap((tensors, list) =>
      [...tensors].flatMap(([name, one]): Piece[] => {
        const slice = this.slices.get(name);
        if (!slice && this.mpi.rank > 0) return [];
        return [{ list, name, from: slice?.from ?? 0, values: (one.dataSync() as Float32Array).slice() }];
      }),
    );
    const pieces = async function* () {
      yield* own;
    };
    return { isCopy: true, pieces, dispose: () => {} };
  }

  /** A copy, even of what every process has whole: what is loaded shares memory with the rest of its file, which would stay for it. */
  partOf(name: string, values: Float32Array): Float32Array {
    const { from, to } = this.slices.get(name) ?? { from: 0, to: values.length };
    return values.slice(from, to);
  }

  shapeOf(name: string): number[] {
    return this.parameters.get(name)!.shape;
  }
}
