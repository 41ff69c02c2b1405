// The processes of a run on CPUs: gradients are summed by MPI as one array, or as two where those of matrices are rounded.

import type { LlamaModel, SequenceGroup, SharedBy } from '@stickbreaking/model';
import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import type { Collective, ReduceType, Shard } from '../collective.js';
import { decays } from '../optimizer.js';
import type { Mpi, MpiGroup } from './mpi.js';
import { type Exchanges, MpiSharedWeights } from './mpi_shared_weights.js';
import { sumRounded } from './rounded_sums.js';
import type { SharedWeights } from './shared_weights.js';

type Floats = ReturnType<Mpi['floats']>;

export class MpiCollective implements Collective {
  readonly share?: (model: LlamaModel) => SharedWeights;
  readonly sequence?: SequenceGroup;
  private readonly rounds: boolean;

  /**
   * @param how `shard`: what the processes share, by default nothing: each has all of everything; `context`: how many share a
   *   sequence, and how
   */
  constructor(
    private readonly mpi: Mpi,
    private readonly exchanges: Exchanges,
    {
      shard,
      context = 1,
      contextBy = 'heads',
      reduceType = 'float32',
    }: {
      shard?: Exclude<Shard, 'weights'> | undefined;
      context?: number | undefined;
      contextBy?: SharedBy | undefined;
      reduceType?: ReduceType | undefined;
    } = {},
  ) {
    this.rounds = reduceType === 'bfloat16';
    if (context > 1) this.sequence = this.sequenceOf(mpi.group(context), contextBy);
    if (!shard) return;
    const isMatrix = (name: string, { rank }: { rank: number }) => decays(name, rank);
    const settings = { apart: shard === 'gradients', rounds: this.rounds };
    this.share = ({ parameters }) => new MpiSharedWeights(mpi, exchanges, parameters, isMatrix, settings);
  }

  get rank(): number {
    return this.mpi.rank;
  }
  get size(): number {
    return this.mpi.size;
  }

  async sumTensors(tensors: readonly Tensor[], isMatrix = (_: number) => false): Promise<readonly Tensor[]> {
    const sums: Tensor[] = [];
    for (const rounds of this.rounds ? [false, true] : [false]) {
      const chosen = tensors.flatMap((one, i) => (!this.rounds || isMatrix(i) === rounds ? [{ one, i }] : []));
      if (chosen.length === 0) continue;
      const { address, values } = this.mpi.floats(chosen.reduce((length, { one }) => length + one.size, 0));
      let at = 0;
      for (const { one } of chosen) {
        values.set((await one.data()) as Float32Array, at);
        at += one.size;
      }
      await this.told('sum', async () => {
        if (rounds) sumRounded(this.mpi, values);
        else await this.mpi.sum(address, values.length);
      });
      at = 0;
      for (const { one, i } of chosen) {
        sums[i] = tensor(values.slice(at, at + one.size), one.shape);
        at += one.size;
        one.dispose();
      }
    }
    return sums;
  }

  async sumNumbers(numbers: readonly number[]): Promise<readonly number[]> {
    const all = await this.told('numbers', () => this.mpi.gather(numbers));
    return numbers.map((_, i) => all.reduce((sum, one) => sum + one[i]!, 0));
  }

  private sequenceOf({ rank, size, exchange, shift, most }: MpiGroup, by: SharedBy): SequenceGroup {
    const told = <T>(run: () => T): T => {
      this.exchanges.begin('exchange');
      const result = run();
      this.exchanges.end();
      return result;
    };
    const moved = (given: Tensor, move: (from: bigint, to: bigint) => void): Tensor => {
      const [from, to] = [0, 1].map((which) => this.mpi.floats(given.size, which)) as [Floats, Floats];
      from.values.set(given.dataSync() as Float32Array);
      told(() => move(from.address, to.address));
      return tensor(to.values.slice(), given.shape);
    };
    return {
      ...{ rank, size, by },
      exchange: (parts) => moved(parts, (from, to) => exchange(from, to, parts.size / size)),
      shift: (tensors, places) => tensors.map((one) => moved(one, (from, to) => shift(from, to, one.size, places))),
      most: (x) => told(() => most(x.dataSync()[0]!)),
    };
  }

  private async told<T>(what: 'sum' | 'numbers', run: () => Promise<T>): Promise<T> {
    this.exchanges.begin(what);
    const result = await run();
    this.exchanges.end();
    return result;
  }
}
