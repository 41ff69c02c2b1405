// MPI through koffi: the few calls that a run on several CPU processes needs. One binding serves three ABIs, told apart by
// their symbols: Open MPI, the MPICH family (MPICH, Intel MPI, MVAPICH, Cray), and MPI-5's standard ABI.
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '@stickbreaking/base';
import koffi, { type LibraryHandle } from 'koffi';

/** A handle of the library's: a pointer or an int. */
type Handle = bigint | number;

interface Abi {
  name: string;
  /** How handles and requests are passed. */
  handle: 'uint64' | 'int';
  world: Handle;
  float32: Handle;
  float64: Handle;
  byte: Handle;
  sum: Handle;
  returnErrors: Handle;
  inPlace: bigint;
  ignoreStatus: bigint;
  funneled: number;
}

const LIBRARIES = {
  'Open MPI': ['libmpi.so.40', 'libmpi.40.dylib'],
  MPICH: ['libmpi.so.12', 'libmpich.so.12', 'libmpi.12.dylib'],
  'MPI ABI': ['libmpi_abi.so.0', 'libmpi_abi.so'],
} as const;
type Family = keyof typeof LIBRARIES;

/** A single call moves at most so many elements: counts are 32-bit. */
const PIECE = 2 ** 26;

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
   * @throws UserError where there is none, or where it does not find the other processes
   */
  static open(expectedSize: number, environment: NodeJS.ProcessEnv = process.env): Mpi {
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
    const mpi = new Mpi(abi, f, version);
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
   */
  floats(length: number, which = 0): { address: bigint; values: Float32Array } {
    const bytes = Math.max(4, length * 4);
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
    this.f('MPI_Alltoall', from, bytes, byte, to, bytes, byte, world);
  }

  /** Gives so many float32 numbers to every process, and takes as many from each, in order. */
  gatherNow(from: bigint, to: bigint, count: number): void {
    const { float32, world } = this.abi;
    this.f('MPI_Allgather', from, count, float32, to, count, float32, world);
  }

  /** Sums the memory over all processes, in place. */
  async sum(address: bigint, length: number): Promise<void> {
    const { inPlace, float32, sum, world } = this.abi;
    for (let at = 0; at < length; at += PIECE) {
      const count = Math.min(PIECE, length - at);
      this.f('MPI_Iallreduce', inPlace, address + BigInt(4 * at), count, float32, sum, world, this.request);
      await this.done();
    }
  }

  /** The same, waiting without turns of the event loop. */
  sumNow(address: bigint, length: number): void {
    const { inPlace, float32, sum, world } = this.abi;
    for (let at = 0; at < length; at += PIECE)
      this.f('MPI_Allreduce', inPlace, address + BigInt(4 * at), Math.min(PIECE, length - at), float32, sum, world);
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
    const { float32, float64, ignoreStatus } = this.abi;
    const rank = this.rank % processes;
    const away = (places: number) => (((rank + places) % processes) + processes) % processes;
    return {
      rank,
      size: processes,
      exchange: (from, to, each) => this.f('MPI_Alltoall', from, each, float32, to, each, float32, communicator),
      shift: (from, to, count, by) => {
        const [given, taken] = [
          [from, count, float32, away(by), 0],
          [to, count, float32, away(-by), 0],
        ];
        this.f('MPI_Sendrecv', ...given, ...taken, communicator, ignoreStatus);
      },
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

function load(environment: NodeJS.ProcessEnv): { library: LibraryHandle; family: Family } {
  const openMpi = environment.OMPI_COMM_WORLD_SIZE !== undefined || environment.PMIX_RANK !== undefined;
  const families: Family[] = openMpi ? ['Open MPI', 'MPI ABI'] : ['MPICH', 'MPI ABI', 'Open MPI'];
  const tried: string[] = [];
  for (const family of families) {
    for (const name of LIBRARIES[family]) {
      try {
        return { library: koffi.load(name, { global: true }), family };
      } catch {
        tried.push(name);
      }
    }
  }
  throw new UserError(
    `No MPI library was found (tried ${tried.join(', ')}): install Open MPI or MPICH (Debian: openmpi-bin or mpich), ` +
      'or name its folder in LD_LIBRARY_PATH.',
  );
}

function abiOf(library: LibraryHandle, family: Family): Abi {
  if (family === 'MPI ABI') {
    return {
      ...{ name: family, handle: 'uint64', world: 0x101n, float32: 0x210n, float64: 0x214n, byte: 0x247n, sum: 0x21n },
      ...{ returnErrors: 0x143n, inPlace: 1n, ignoreStatus: 0n, funneled: 1024 },
    };
  }
  if (family === 'MPICH') {
    return {
      ...{ name: family, handle: 'int', world: 0x44000000, float32: 0x4c00040a, float64: 0x4c00080b },
      ...{ byte: 0x4c00010d, sum: 0x58000003, returnErrors: 0x54000001, inPlace: 2n ** 64n - 1n, ignoreStatus: 1n },
      funneled: 1,
    };
  }
  const address = (symbol: string) => BigInt(koffi.address(library.symbol(symbol, 'void')));
  return {
    ...{ name: family, handle: 'uint64', world: address('ompi_mpi_comm_world'), float32: address('ompi_mpi_float') },
    ...{ float64: address('ompi_mpi_double'), byte: address('ompi_mpi_byte'), sum: address('ompi_mpi_op_sum') },
    ...{ returnErrors: address('ompi_mpi_errors_return'), inPlace: 1n, ignoreStatus: 0n, funneled: 1 },
  };
}

/** The library's calls by name; each throws where the library answers with an error. */
function bind(library: LibraryHandle, { handle: h }: Abi): (name: string, ...args: unknown[]) => void {
  const signatures: Record<string, string[]> = {
    MPI_Init_thread: ['uint64', 'uint64', 'int', 'void*'],
    MPI_Get_library_version: ['void*', 'void*'],
    MPI_Comm_set_errhandler: [h, h],
    MPI_Comm_rank: [h, 'void*'],
    MPI_Comm_size: [h, 'void*'],
    MPI_Iallreduce: ['uint64', 'uint64', 'int', h, h, h, 'uint64'],
    MPI_Allreduce: ['uint64', 'uint64', 'int', h, h, h],
    MPI_Iallgather: ['uint64', 'int', h, 'uint64', 'int', h, h, 'uint64'],
    MPI_Comm_split: [h, 'int', 'int', 'void*'],
    MPI_Alltoall: ['uint64', 'int', h, 'uint64', 'int', h, h],
    MPI_Allgather: ['uint64', 'int', h, 'uint64', 'int', h, h],
    MPI_Sendrecv: ['uint64', 'int', h, 'int', 'int', 'uint64', 'int', h, 'int', 'int', h, 'uint64'],
    MPI_Ibcast: ['uint64', 'int', h, 'int', h, 'uint64'],
    MPI_Test: ['uint64', 'void*', 'uint64'],
    MPI_Finalize: [],
  };
  const functions = new Map(
    Object.entries(signatures).map(([name, types]) => [name, library.func(name, 'int', types)] as const),
  );
  const errorString = library.func('MPI_Error_string', 'int', ['int', 'void*', 'void*']);
  return (name, ...args) => {
    const status = functions.get(name)!(...args) as number;
    if (status === 0) return;
    const text = Buffer.alloc(8192);
    errorString(status, text, new Int32Array(1));
    throw new UserError(`${name} failed: ${text.toString('latin1').replace(/\0.*$/s, '')}.`);
  };
}
