// The MPI library: found, bound through koffi, and told what it can hold. One binding serves three ABIs, told apart by their
// symbols: Open MPI, the MPICH family (MPICH, Intel MPI, MVAPICH, Cray), and MPI-5's standard ABI.
import { UserError } from '@stickbreaking/base';
import koffi, { type LibraryHandle } from 'koffi';

/** A handle of the library's: a pointer or an int. */
export type Handle = bigint | number;

export interface Abi {
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

export function load(environment: NodeJS.ProcessEnv): { library: LibraryHandle; family: Family } {
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

export function abiOf(library: LibraryHandle, family: Family): Abi {
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

/** The parameter of a signature that says how many: an int to C. */
const COUNT = 'count';

/** What an int of C's holds. */
const LARGEST_INT = 2 ** 31 - 1;

/**
 * The border between JavaScript's numbers and C's: a number that an int cannot hold would arrive there as another one, and wrong
 * numbers would be moved, so it is refused here.
 *
 * @param types a signature's parameters
 * @throws UserError that names the call
 */
export function checkNumbers(name: string, types: readonly string[], args: readonly unknown[]): void {
  for (const [i, type] of types.entries()) {
    const value = args[i] as number;
    if (type === COUNT && !(Number.isInteger(value) && value >= 0 && value <= LARGEST_INT))
      throw new UserError(`${name}: a count is ${value}; MPI takes whole numbers from 0 to ${LARGEST_INT}.`);
    if (type === 'int' && value !== (value | 0))
      throw new UserError(`${name}: ${value} is no number that an int can hold.`);
  }
}

/** The library's calls by name; each throws where it is given a number that it cannot hold, or answers with an error. */
export function bind(library: LibraryHandle, { handle: h }: Abi): (name: string, ...args: unknown[]) => void {
  const n = COUNT;
  const signatures: Record<string, string[]> = {
    MPI_Init_thread: ['uint64', 'uint64', 'int', 'void*'],
    MPI_Get_library_version: ['void*', 'void*'],
    MPI_Comm_set_errhandler: [h, h],
    MPI_Comm_rank: [h, 'void*'],
    MPI_Comm_size: [h, 'void*'],
    MPI_Iallreduce: ['uint64', 'uint64', n, h, h, h, 'uint64'],
    MPI_Allreduce: ['uint64', 'uint64', n, h, h, h],
    MPI_Iallgather: ['uint64', n, h, 'uint64', n, h, h, 'uint64'],
    MPI_Comm_split: [h, 'int', 'int', 'void*'],
    MPI_Alltoall: ['uint64', n, h, 'uint64', n, h, h],
    MPI_Allgather: ['uint64', n, h, 'uint64', n, h, h],
    MPI_Sendrecv: ['uint64', n, h, 'int', 'int', 'uint64', n, h, 'int', 'int', h, 'uint64'],
    MPI_Ibcast: ['uint64', n, h, 'int', h, 'uint64'],
    MPI_Test: ['uint64', 'void*', 'uint64'],
    MPI_Finalize: [],
  };
  const toC = (type: string) => (type === COUNT ? 'int' : type);
  const functions = new Map(
    Object.entries(signatures).map(([name, types]) => {
      const call = library.func(name, 'int', types.map(toC));
      return [name, { call, types }] as const;
    }),
  );
  const errorString = library.func('MPI_Error_string', 'int', ['int', 'void*', 'void*']);
  return (name, ...args) => {
    const { call, types } = functions.get(name)!;
    checkNumbers(name, types, args);
    const status = call(...args) as number;
    if (status === 0) return;
    const text = Buffer.alloc(8192);
    errorString(status, text, new Int32Array(1));
    throw new UserError(`${name} failed: ${text.toString('latin1').replace(/\0.*$/s, '')}.`);
  };
}
