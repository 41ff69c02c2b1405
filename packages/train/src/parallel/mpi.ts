// MPI through koffi: what a run on several CPU processes needs of it.
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '@stickbreaking/base';
import koffi from 'koffi';
import { type Abi, abiOf, bind, type Handle, load } from './mpi_library.js';
import { exchangeByPairs, gatherByPairs, PIECE, piecesOf, type Swap } from './mpi_pieces.js';

/** A block of memory has at most so many: koffi allocates no more. */
const MOST_BYTES = 2 ** 31 - 4;

/** Some of the processes, as one of them sees them. */
export interface MpiGroup {
  rank: number;
  size: number;
  /** Gives `each` numbers of float32 memory to every process, in order, and takes as many from each; waits for it. */
  exchange(from: bigint, to: bigint, each: number): void;
  /** Gives so many numbers of float32 memory to the process `by` places further on, round, and takes as many from behind. */
  shift(from: bigint, to: bigint, count: number, by: number): void;
  /** The largest of all processes' numbers. */
  most(own: number): number;
}

/** An initialised MPI library and its world. */
export class Mpi {
  readonly rank: number;
  readonly size: number;
  /** The library and its version. */
  readonly version: string;
  private readonly request = koffi.alloc('uint64', 1) as bigint;
  private readonly requestBytes = new Uint8Array(koffi.view(this.request, 8));
  private readonly flag = new Int32Array(1);
  private readonly buffers: { address: bigint; bytes: number; which: number }[] = [];

  private constructor(
    private readonly abi: Abi,
    private readonly f: (name: string, ...args: unknown[]) => void,
    version: string,
    private readonly piece: number,
  ) {
    this.version = version;
    this.f('MPI_Comm_set_errhandler', abi.world, abi.returnErrors);
    const number = new Int32Array(1);
    this.f('MPI_Comm_rank', abi.world, number);
    this.rank = number[0]!;
    this.f('MPI_Comm_size', abi.world, number);
    this.size = number[0]!;
  }

  /**
   * Loads the library that the process's launcher belongs to, and joins its world.
   *
   * @param piece how many elements a single call moves at most
   * @throws UserError where there is none, or where it does not find the other processes
   */
  static open(expectedSize: number, environment: NodeJS.ProcessEnv = process.env, piece = PIECE): Mpi {
    // UCX, on which an MPICH may stand, moves the end of the heap up and back to try its memory hooks, and so takes a page
    // from under another thread that grows the heap just then: Node's have crashed of it. The hooks serve InfiniBand alone.
    process.env.UCX_MEM_EVENTS ??= 'n';
    const { library, family } = load(environment);
    const abi = abiOf(library, family);
    const f = bind(library, abi);
    const provided = new Int32Array(1);
    f('MPI_Init_thread', 0n, 0n, abi.funneled, provided);
    const text = Buffer.alloc(8192);
    f('MPI_Get_library_version', text, new Int32Array(1));
    const version = text.toString('latin1').replace(/\0.*$/s, '').split(/[\n,]/)[0]!.replace(/\s+/g, ' ').trim();
    const mpi = new Mpi(abi, f, version, piece);
    if (mpi.size !== expectedSize) {
      throw new UserError(
        `${version} finds ${mpi.size} ${mpi.size === 1 ? 'process' : 'processes'} where its launcher started ` +
          `${expectedSize}: start with the mpirun of the same library (under Slurm: srun --mpi=pmi2 or pmix).`,
      );
    }
    return mpi;
  }

  /**
   * Float32 memory outside JavaScript's heap, which stays where it is during a call; kept for the next call of the size.
   *
   * @param which where a call needs several
   * @throws UserError where it is more than can be had at once
   */
  floats(length: number, which = 0): { address: bigint; values: Float32Array } {
    const bytes = Math.max(4, length * 4);
    if (bytes > MOST_BYTES) {
      throw new UserError(
        `${length} float32 numbers are to go between processes at once, and ${MOST_BYTES / 4} can: gradients go one matrix ` +
          'after another with parallel.shard=optimizer.',
      );
    }
    let buffer = this.buffers.find((one) => one.bytes === bytes && one.which === which);
    if (!buffer) {
      buffer = { address: koffi.alloc('uint8', bytes) as bigint, bytes, which };
      this.buffers.push(buffer);
    }
    return { address: buffer.address, values: new Float32Array(koffi.view(buffer.address, bytes), 0, length) };
  }

  /** The same of numbers of 16 bits. */
  halves(length: number, which = 0): { address: bigint; values: Uint16Array } {
    const { address, values } = this.floats(Math.ceil(length / 2), which);
    return { address, values: new Uint16Array(values.buffer, values.byteOffset, length) };
  }

  /** Gives so many bytes to every process, in order, and takes as many from each. */
  exchangeNow(from: bigint, to: bigint, bytes: number): void {
    const { byte, world } = this.abi;
    this.exchangeIn(world, this, from, to, bytes, byte, 1);
  }

  /** Gives so many float32 numbers to every process, and takes as many from each, in order. */
  gatherNow(from: bigint, to: bigint, count: number): void {
    const { float32, world } = this.abi;
    if (count * this.size <= this.piece) this.f('MPI_Allgather', from, count, float32, to, count, float32, world);
    else gatherByPairs(this, from, to, count, 4, this.swapIn(world, float32, 4));
  }

  /** Sums the memory over all processes, in place. */
  async sum(address: bigint, length: number): Promise<void> {
    const { inPlace, float32, sum, world } = this.abi;
    for (const { at, count } of piecesOf(length, this.piece)) {
      this.f('MPI_Iallreduce', inPlace, address + BigInt(4 * at), count, float32, sum, world, this.request);
      await this.done();
    }
  }

  /** The same, waiting without turns of the event loop. */
  sumNow(address: bigint, length: number): void {
    const { inPlace, float32, sum, world } = this.abi;
    for (const { at, count } of piecesOf(length, this.piece))
      this.f('MPI_Allreduce', inPlace, address + BigInt(4 * at), count, float32, sum, world);
  }

  /** The numbers of every process, one process after another. */
  async gather(numbers: readonly number[]): Promise<number[][]> {
    const { float64, world } = this.abi;
    const count = numbers.length;
    const own = koffi.alloc('double', Math.max(1, count)) as bigint;
    const all = koffi.alloc('double', Math.max(1, count * this.size)) as bigint;
    try {
      new Float64Array(koffi.view(own, 8 * count)).set(numbers);
      this.f('MPI_Iallgather', own, count, float64, all, count, float64, world, this.request);
      await this.done();
      const values = Array.from(new Float64Array(koffi.view(all, 8 * count * this.size)));
      return Array.from({ length: this.size }, (_, rank) => values.slice(rank * count, (rank + 1) * count));
    } finally {
      koffi.free(own);
      koffi.free(all);
    }
  }

  /** This process and those that follow one another with it, so many: every process must ask for the same. */
  group(processes: number): MpiGroup {
    const { handle, world } = this.abi;
    const made = handle === 'int' ? new Int32Array(1) : new BigUint64Array(1);
    this.f('MPI_Comm_split', world, Math.floor(this.rank / processes), this.rank, made);
    const communicator = made[0]!;
    const { float32, float64 } = this.abi;
    const swap = this.swapIn(communicator, float32, 4);
    const rank = this.rank % processes;
    const away = (places: number) => (((rank + places) % processes) + processes) % processes;
    return {
      rank,
      size: processes,
      exchange: (from, to, each) =>
        this.exchangeIn(communicator, { rank, size: processes }, from, to, each, float32, 4),
      shift: (from, to, count, by) => swap(from, to, count, away(by), away(-by)),
      most: (own) => {
        const [one, all] = [1, processes].map((length) => koffi.alloc('double', length) as bigint) as [bigint, bigint];
        try {
          new Float64Array(koffi.view(one, 8))[0] = own;
          this.f('MPI_Allgather', one, 1, float64, all, 1, float64, communicator);
          return Math.max(...new Float64Array(koffi.view(all, 8 * processes)));
        } finally {
          koffi.free(one);
          koffi.free(all);
        }
      },
    };
  }

  /** Rank 0's text, on every process. At most 4,000 bytes. */
  async broadcast(text: string): Promise<string> {
    const bytes = koffi.alloc('uint8', 4096) as bigint;
    try {
      const view = Buffer.from(koffi.view(bytes, 4096));
      view.fill(0);
      if (this.rank === 0) view.write(text);
      this.f('MPI_Ibcast', bytes, 4096, this.abi.byte, 0, this.abi.world, this.request);
      await this.done();
      return view.toString('utf8').replace(/\0.*$/s, '');
    } finally {
      koffi.free(bytes);
    }
  }

  /** Leaves the world; every process must. */
  close(): void {
    this.f('MPI_Finalize');
  }

  /** Gives so many elements of memory to every process of a communicator, in order, and takes as many from each. */
  private exchangeIn(
    communicator: Handle,
    place: { rank: number; size: number },
    from: bigint,
    to: bigint,
    each: number,
    type: Handle,
    bytes: number,
  ): void {
    if (each * place.size <= this.piece) this.f('MPI_Alltoall', from, each, type, to, each, type, communicator);
    else exchangeByPairs(place, from, to, each, bytes, this.swapIn(communicator, type, bytes));
  }

  /** Gives elements to a process and takes as many from another, in pieces. */
  private swapIn(communicator: Handle, type: Handle, bytes: number): Swap {
    return (from, to, length, target, source) => {
      for (const { at, count } of piecesOf(length, this.piece)) {
        const offset = BigInt(bytes * at);
        const given = [from + offset, count, type, target, 0];
        this.f('MPI_Sendrecv', ...given, to + offset, count, type, source, 0, communicator, this.abi.ignoreStatus);
      }
    };
  }

  /** Waits between turns of the event loop: MPI moves on only inside its calls. */
  private async done(): Promise<void> {
    for (let turn = 0; ; turn++) {
      this.f('MPI_Test', this.request, this.flag, this.abi.ignoreStatus);
      if (this.flag[0]) break;
      // A process that waits for long leaves the cores to the others.
      if (turn < 200) await nextTurn();
      else await sleep(1);
    }
    this.requestBytes.fill(0);
  }
}
