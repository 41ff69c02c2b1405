// The processes of a run on CPUs: gradients are summed by MPI as one array.
import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import type { Collective } from '../collective.js';
import type { Mpi } from './mpi.js';

/** What is told of each exchange, so that a process that hangs can be named. */
export interface Exchanges {
  begin(what: 'sum' | 'numbers'): void;
  end(): void;
}

export class MpiCollective implements Collective {
  constructor(
    private readonly mpi: Mpi,
    private readonly exchanges: Exchanges = { begin: () => {}, end: () => {} },
  ) {}

  get rank(): number {
    return this.mpi.rank;
  }
  get size(): number {
    return this.mpi.size;
  }

  async sumTensors(tensors: readonly Tensor[]): Promise<readonly Tensor[]> {
    const { address, values } = this.mpi.floats(tensors.reduce((length, { size }) => length + size, 0));
    let at = 0;
    for (const one of tensors) {
      values.set((await one.data()) as Float32Array, at);
      at += one.size;
    }
    await this.told('sum', () => this.mpi.sum(address, values.length));
    at = 0;
    return tensors.map((one) => {
      const sum = tensor(values.slice(at, at + one.size), one.shape);
      at += one.size;
      one.dispose();
      return sum;
    });
  }

  async sumNumbers(numbers: readonly number[]): Promise<readonly number[]> {
    const all = await this.told('numbers', () => this.mpi.gather(numbers));
    return numbers.map((_, i) => all.reduce((sum, one) => sum + one[i]!, 0));
  }

  private async told<T>(what: 'sum' | 'numbers', run: () => Promise<T>): Promise<T> {
    this.exchanges.begin(what);
    const result = await run();
    this.exchanges.end();
    return result;
  }
}
