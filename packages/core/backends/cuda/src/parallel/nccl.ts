/**
 * NCCL through koffi: sums and copies between the GPUs of a run. Calls are put on a stream and return at once; every
 * process makes the same calls in the same order. https://docs.nvidia.com/deeplearning/nccl/
 */
import { OutOfMemoryError } from '@stickbreaking/base';
import koffi, { type KoffiFunc } from 'koffi';
import { CudaError } from '../errors.js';
import { loadLibrary } from '../libraries.js';
import type { StorageType } from '../storage.js';

/** The oldest whose configuration has the layout below. */
const LEAST = 21_800;
/** The first in which copy engines can gather, and a configuration asks for it. */
const COPY_ENGINES = 22_800;
const ID_BYTES = 128;
const UNSET = -(2 ** 31);
/** ncclDataType_t */
const TYPES = { u8: 1, i32: 2, f32: 7, f64: 8, bf16: 9 } as const satisfies Record<StorageType | 'f64', number>;
const SUM = 0;
const SUCCESS = 0;
const CUDA_ERROR = 1;
const IN_PROGRESS = 7;
/** NCCL_CTA_POLICY_ZERO: no multiprocessors, where that is possible. */
const NO_BLOCKS = 2;
/** NCCL_WIN_COLL_SYMMETRIC: every process has such memory, in which all collectives use the same places. */
const SYMMETRIC = 1;

type Call = (...args: unknown[]) => number;

interface Library {
  version: number;
  call(name: string, ...args: unknown[]): void;
}

let opened: Library | undefined;

function open(): Library {
  if (opened) return opened;
  const { handle, path } = loadLibrary('libnccl', ['libnccl.so.2']);
  koffi.struct('ncclUniqueId', { internal: koffi.array('uint8', ID_BYTES, 'Typed') });
  const buffers = ['uint64', 'uint64', 'size_t'];
  const signatures: Record<string, string[]> = {
    ncclGetUniqueId: ['void*'],
    ncclCommInitRankConfig: ['void*', 'int', 'ncclUniqueId', 'int', 'void*'],
    ncclCommGetAsyncError: ['uint64', 'void*'],
    ncclCommDestroy: ['uint64'],
    ncclReduceScatter: [...buffers, 'int', 'int', 'uint64', 'uint64'],
    ncclAllReduce: [...buffers, 'int', 'int', 'uint64', 'uint64'],
    ncclAllGather: [...buffers, 'int', 'uint64', 'uint64'],
    ncclSend: ['uint64', 'size_t', 'int', 'int', 'uint64', 'uint64'],
    ncclRecv: ['uint64', 'size_t', 'int', 'int', 'uint64', 'uint64'],
    ncclGroupStart: [],
    ncclGroupEnd: [],
    ncclCommSplit: ['uint64', 'int', 'int', 'void*', 'void*'],
  };
  const getVersion = handle.func('ncclGetVersion', 'int', ['void*']) as unknown as Call;
  const version = new Int32Array(1);
  getVersion(version);
  if (version[0]! >= COPY_ENGINES) {
    signatures.ncclMemAlloc = ['void*', 'size_t'];
    signatures.ncclAlltoAll = [...buffers, 'int', 'uint64', 'uint64'];
    signatures.ncclCommWindowRegister = ['uint64', 'uint64', 'size_t', 'void*', 'int'];
  }
  const f = Object.fromEntries(
    Object.entries(signatures).map(([name, types]) => [name, handle.func(name, 'int', types) as unknown as Call]),
  );
  const errorString = handle.func('ncclGetErrorString', 'str', ['int']) as KoffiFunc<(status: number) => string>;
  const lastError = handle.func('ncclGetLastError', 'str', ['uint64']) as KoffiFunc<(comm: number) => string | null>;
  const call = (name: string, ...args: unknown[]) => {
    const status = f[name]!(...args);
    if (status === SUCCESS || status === IN_PROGRESS) return;
    throw failure(name, status, errorString(status), lastError(0)?.trim().split('\n').at(-1), args);
  };
  const found = `${Math.floor(version[0]! / 10_000)}.${Math.floor(version[0]! / 100) % 100}.${version[0]! % 100}`;
  if (version[0]! < LEAST) throw new CudaError(`NCCL ${found} found (${path}), 2.18 or newer needed`);
  opened = { version: version[0]!, call };
  return opened;
}

/**
 * What a call that failed is told as.
 *
 * @param status a ncclResult_t, in words `said`
 * @param more the last line of ncclGetLastError
 */
export function failure(
  name: string,
  status: number,
  said: string,
  more: string | undefined,
  args: readonly unknown[],
): Error {
  const asked = name === 'ncclMemAlloc' ? `${Math.ceil(Number(args[1]) / 2 ** 20)} MiB asked of NCCL` : undefined;
  if (status === CUDA_ERROR && asked) return new OutOfMemoryError(`out of GPU memory: ${asked}`);
  if (status === CUDA_ERROR && more?.includes('out of memory'))
    return new OutOfMemoryError(`out of GPU memory: none was left for NCCL's own buffers, in ${name}`);
  return new CudaError(`${name} failed: ${said}${more ? ` (${more})` : ''}; set NCCL_DEBUG=WARN for more`);
}

/** What rank 0 makes and all others need to find it, as text. */
export function ncclId(): string {
  const id = new Uint8Array(ID_BYTES);
  open().call('ncclGetUniqueId', id);
  return Buffer.from(id).toString('base64');
}

/**
 * ncclConfig_t, as of 2.18 or, for a library that has it, as of 2.28: newer libraries take either by its size and version.
 *
 * @param version of the library
 */
export function configBytes(version = LEAST): Uint8Array {
  const isNew = version >= COPY_ENGINES;
  const size = isNew ? 80 : 48;
  const view = new DataView(new ArrayBuffer(size));
  view.setBigUint64(0, BigInt(size), true);
  view.setUint32(8, 0xcafebeef, true);
  view.setUint32(12, isNew ? COPY_ENGINES : LEAST, true);
  // blocking, cgaClusterSize, minCTAs, maxCTAs; netName is a pointer; splitShare
  const fields = [
    [16, 1],
    [20, UNSET],
    [24, UNSET],
    [28, UNSET],
    [40, UNSET],
  ];
  // trafficClass; commName is a pointer; collnetEnable, CTAPolicy, shrinkShare, nvlsCTAs, nChannelsPerNetPeer,
  // nvlinkCentricSched
  if (isNew) fields.push([44, UNSET], [56, UNSET], [60, NO_BLOCKS]);
  if (isNew) fields.push([64, UNSET], [68, UNSET], [72, UNSET], [76, UNSET]);
  for (const [at, value] of fields) view.setInt32(at!, value!, true);
  return new Uint8Array(view.buffer);
}

/** One process's end of a communicator over all GPUs of a run. Addresses are of device memory. */
export class Communicator {
  readonly version: string;
  private readonly library = open();
  private readonly comm: number;

  private constructor(
    readonly rank: number,
    readonly size: number,
    private readonly isOneHost: boolean,
    make: (library: Library, out: BigUint64Array) => void,
  ) {
    const { version } = this.library;
    this.version = `NCCL ${Math.floor(version / 10_000)}.${Math.floor(version / 100) % 100}.${version % 100}`;
    const out = new BigUint64Array(1);
    make(this.library, out);
    this.comm = Number(out[0]);
  }

  /**
   * Finds the others; every process must call it.
   *
   * @param id what rank 0's `ncclId` gave
   * @param isOneHost whether all GPUs are in one machine
   */
  static join(rank: number, size: number, id: string, isOneHost: boolean): Communicator {
    const internal = new Uint8Array(Buffer.from(id, 'base64'));
    return new Communicator(rank, size, isOneHost, (library, out) => {
      const config = configBytes(isOneHost ? library.version : LEAST);
      library.call('ncclCommInitRankConfig', out, size, { internal }, rank, config);
    });
  }

  /** Over this process and those that follow one another with it, so many of them; every process must ask for the same. */
  part(size: number): Communicator {
    return new Communicator(this.rank % size, size, this.isOneHost, (library, out) =>
      library.call('ncclCommSplit', this.comm, Math.floor(this.rank / size), this.rank, out, configBytes()),
    );
  }

  /**
   * Device memory in which copy engines gather and exchange, so that no multiprocessor is taken, where the GPUs are one host's and the
   * library can do it; undefined where it cannot, or NCCL_CTA_POLICY asks for something else. Every process must ask for
   * as much at the same time. It stays until the process ends.
   */
  memory(bytes: number): number | undefined {
    const { library, comm, isOneHost } = this;
    const policy = process.env.NCCL_CTA_POLICY ?? String(NO_BLOCKS);
    if (!isOneHost || library.version < COPY_ENGINES || policy !== String(NO_BLOCKS)) return undefined;
    const out = new BigUint64Array(1);
    library.call('ncclMemAlloc', out, bytes);
    const address = Number(out[0]);
    library.call('ncclCommWindowRegister', comm, address, bytes, out, SYMMETRIC);
    return address;
  }

  /**
   * Gives `bytes` to every process, in order, and takes as many from each; `to` is other memory than `from`.
   *
   * @param engines whether both are memory that `memory` gave: then copy engines do it
   */
  allToAll(from: number, to: number, bytes: number, stream: number, engines = false): void {
    const { library, comm, size } = this;
    if (engines) {
      library.call('ncclAlltoAll', from, to, bytes, TYPES.u8, comm, stream);
      return;
    }
    library.call('ncclGroupStart');
    for (let peer = 0; peer < size; peer++) {
      library.call('ncclSend', from + peer * bytes, bytes, TYPES.u8, peer, comm, stream);
      library.call('ncclRecv', to + peer * bytes, bytes, TYPES.u8, peer, comm, stream);
    }
    library.call('ncclGroupEnd');
  }

  /** Gives memory to the process `by` places further on, round, and takes as much from as many places behind. */
  shift(moves: readonly { from: number; to: number; bytes: number }[], by: number, stream: number): void {
    const { library, comm, rank, size } = this;
    const away = (places: number) => (((rank + places) % size) + size) % size;
    library.call('ncclGroupStart');
    for (const { from, to, bytes } of moves) {
      library.call('ncclSend', from, bytes, TYPES.u8, away(by), comm, stream);
      library.call('ncclRecv', to, bytes, TYPES.u8, away(-by), comm, stream);
    }
    library.call('ncclGroupEnd');
  }

  /**
   * Of `size` parts of `count` elements, this process is left with the sum of all processes' part `rank`.
   *
   * @param part where to; default: where that part is
   */
  reduceScatter(address: number, count: number, type: 'f32' | 'bf16', stream: number, part?: number): void {
    const to = part ?? address + this.rank * count * BYTES_OF[type];
    this.library.call('ncclReduceScatter', address, to, count, TYPES[type], SUM, this.comm, stream);
  }

  /**
   * Every process gets the `size` parts of all, of `count` elements each.
   *
   * @param part where this process's is; default: in its place among them
   */
  allGather(address: number, count: number, type: 'f32' | 'bf16' | 'f64', stream: number, part?: number): void {
    const from = part ?? address + this.rank * count * BYTES_OF[type];
    this.library.call('ncclAllGather', from, address, count, TYPES[type], this.comm, stream);
  }

  /** In place: the sum over all processes. */
  allReduce(address: number, count: number, type: 'f32', stream: number): void {
    this.library.call('ncclAllReduce', address, address, count, TYPES[type], SUM, this.comm, stream);
  }

  /** @throws CudaError if a collective has failed since */
  check(): void {
    const status = new Int32Array(1);
    this.library.call('ncclCommGetAsyncError', this.comm, status);
    if (status[0] !== SUCCESS && status[0] !== IN_PROGRESS)
      throw new CudaError(`NCCL: a collective failed (${status[0]}); set NCCL_DEBUG=WARN for more`);
  }

  /** Ends the communicator. What was put on a stream must be done: synchronize first. */
  close(): void {
    this.library.call('ncclCommDestroy', this.comm);
  }
}

const BYTES_OF = { f32: 4, bf16: 2, f64: 8 } as const;
