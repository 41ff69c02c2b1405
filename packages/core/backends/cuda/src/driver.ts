/**
 * The CUDA driver API through koffi: one GPU, its primary context, one stream on which everything happens in order,
 * memory from the driver's stream-ordered pool. Calls are asynchronous: the host runs ahead of the GPU, and only a read
 * waits. Device addresses are plain numbers (they stay below 2^53).
 */

import { OutOfMemoryError } from '@stickbreaking/base';
import koffi, { type KoffiFunc, type LibraryHandle } from 'koffi';
import type { Arena } from './arena.js';
import { type DriverFunction, SIGNATURES } from './driver_functions.js';
import { CudaError } from './errors.js';
import { loadLibrary } from './libraries.js';
import { float32, int32, int64 } from './numbers.js';

const SUCCESS = 0;
const OUT_OF_MEMORY = 2;
const NOT_READY = 600;
const POOL_RELEASE_THRESHOLD = 4;
const POOL_USED_HIGH = 8;
const POOL_USED_CURRENT = 7;
const DYNAMIC_SHARED_LIMIT = 8;
/** CUlaunchConfig, CUlaunchAttribute and the attribute that lets a kernel begin early, of cuda.h. */
const LAUNCH_CONFIG_BYTES = 56;
const LAUNCH_ATTRIBUTE_BYTES = 72;
const PROGRAMMATIC_STREAM_SERIALIZATION = 6;
/** CUtensorMap and what is said of it, of cuda.h. */
const TENSOR_MAP_BYTES = 128;
const TENSOR_MAP_ALIGNMENT = 64;
const TENSOR_MAP = {
  bfloat16: 9,
  float32: 7,
  noInterleave: 0,
  swizzle64: 2,
  swizzle128: 3,
  promote256: 3,
  zeroOutside: 0,
};
const MAX_ARGUMENTS = 64;
/** Bytes set aside for arguments passed as whole structs. */
const STRUCT_SPACE = 4096;

/** A kernel's argument: a pointer or 64-bit integer, a 32-bit integer, a float, or a struct's bytes. */
export type Argument =
  | { pointer: number }
  | { i64: number }
  | { i32: number }
  | { f32: number }
  | { bytes: Uint8Array };
export const pointer = (value: number): Argument => ({ pointer: value });
export const i64 = (value: number): Argument => ({ i64: int64(value) });
export const i32 = (value: number): Argument => ({ i32: int32(value) });
export const f32 = (value: number): Argument => ({ f32: float32(value) });

export interface LaunchShape {
  grid: readonly [number, number?, number?];
  block: number | readonly [number, number?, number?];
  /** Dynamic shared memory in bytes. */
  shared?: number;
  /**
   * Begin while the kernel before still runs, if that is such a one too: the kernel itself waits where it must (common.cuh).
   * So nothing that it reads before may be written by one that is not launched so.
   */
  early?: boolean;
}

export interface CudaFunction {
  readonly name: string;
  readonly handle: number;
  sharedLimit: number;
}

export class CudaDriver {
  readonly deviceName: string;
  /** The GPU's own number, the same in every process of a machine. */
  readonly uuid: string;
  /** 10 × major + minor, e.g. 90. */
  readonly computeCapability: number;
  readonly multiprocessors: number;
  /** Bytes of shared memory that a block may have at most. */
  readonly sharedPerBlock: number;
  readonly totalMemory: number;
  readonly driverVersion: number;
  readonly stream: number;
  /** Kernel launches so far. */
  launches = 0;
  /** Called around every launch while profiling is on. */
  onLaunch: ((name: string, run: () => void) => void) | undefined;
  /** Bytes of tensors in memory that another library gave. */
  elsewhere = 0;
  /** Where memory comes from while a step is recorded. */
  arena: Arena | undefined;
  private readonly arenas: Arena[] = [];
  /** What was given back while a step was recorded, of which it must know nothing. */
  private readonly deferred: number[] = [];
  private readonly functions = new Map<DriverFunction, KoffiFunc<(...args: unknown[]) => unknown>>();
  private readonly library: LibraryHandle;
  private readonly errorName: KoffiFunc<(...args: unknown[]) => unknown>;
  private readonly pool: number;
  private readonly out = new BigUint64Array(2);
  private readonly parameters = koffi.alloc('uint64', MAX_ARGUMENTS * 2 + STRUCT_SPACE / 8) as bigint;
  private readonly parameterBytes: Uint8Array;
  private readonly parameterView: DataView;
  private lastKernel = 'none yet';
  private lastWasEarly = false;
  private readonly launchConfig = koffi.alloc('uint8', LAUNCH_CONFIG_BYTES + LAUNCH_ATTRIBUTE_BYTES) as bigint;
  private readonly launchConfigView: DataView;
  private readonly tensorMapAt: bigint;
  private readonly tensorMapBytes: Uint8Array;

  constructor(ordinal = 0) {
    this.library = openDriverLibrary();
    this.errorName = this.library.func('cuGetErrorName', 'int', ['int', koffi.out(koffi.pointer('str'))]);
    const status = this.status('cuInit', 0);
    if (status !== SUCCESS)
      throw new CudaError(`no usable NVIDIA GPU: cuInit answered ${this.describe(status)}; check nvidia-smi`);
    this.driverVersion = this.int((out) => this.call('cuDriverGetVersion', out));
    const count = this.int((out) => this.call('cuDeviceGetCount', out));
    if (count <= ordinal) throw new CudaError(`no NVIDIA GPU: the driver is there but shows ${count} devices`);
    const device = this.int((out) => this.call('cuDeviceGet', out, ordinal));
    const name = Buffer.alloc(128);
    this.call('cuDeviceGetName', name, 128, device);
    this.deviceName = name.toString('latin1').replace(/\0.*$/s, '');
    const uuid = Buffer.alloc(16);
    this.call('cuDeviceGetUuid_v2', uuid, device);
    this.uuid = uuid.toString('hex');
    const attribute = (id: number) => this.int((out) => this.call('cuDeviceGetAttribute', out, id, device));
    this.computeCapability = attribute(75) * 10 + attribute(76);
    this.multiprocessors = attribute(16);
    this.sharedPerBlock = attribute(97);
    if (this.computeCapability < 80)
      throw new CudaError(
        `GPU too old: ${this.deviceName} has compute capability ${this.computeCapability / 10}, the cuda backend needs 8.0 or newer (Ampere)`,
      );
    this.totalMemory = this.long((out) => this.call('cuDeviceTotalMem_v2', out, device));
    this.call(
      'cuCtxSetCurrent',
      this.long((out) => this.call('cuDevicePrimaryCtxRetain', out, device)),
    );
    this.stream = this.createStream();
    this.pool = this.long((out) => this.call('cuDeviceGetDefaultMemPool', out, device));
    this.call('cuMemPoolSetAttribute', this.pool, POOL_RELEASE_THRESHOLD, new BigUint64Array([2n ** 64n - 1n]));
    const bytes = koffi.view(this.parameters, MAX_ARGUMENTS * 16 + STRUCT_SPACE);
    this.parameterBytes = new Uint8Array(bytes);
    this.parameterView = new DataView(bytes);
    for (let i = 0; i < MAX_ARGUMENTS; i++) this.pointParameter(i, i * 8);
    const room = koffi.alloc('uint8', TENSOR_MAP_BYTES + TENSOR_MAP_ALIGNMENT) as bigint;
    const alignment = BigInt(TENSOR_MAP_ALIGNMENT);
    this.tensorMapAt = ((room + alignment - 1n) / alignment) * alignment;
    this.tensorMapBytes = new Uint8Array(koffi.view(this.tensorMapAt, TENSOR_MAP_BYTES));
    this.launchConfigView = new DataView(koffi.view(this.launchConfig, LAUNCH_CONFIG_BYTES + LAUNCH_ATTRIBUTE_BYTES));
  }

  /** Calls the driver and throws when it answers with an error. */
  call(name: DriverFunction, ...args: unknown[]): void {
    const status = this.status(name, ...args);
    if (status !== SUCCESS) this.fail(status, name);
  }

  private status(name: DriverFunction, ...args: unknown[]): number {
    let f = this.functions.get(name);
    if (!f) {
      f = this.library.func(name, 'int', [...SIGNATURES[name]]);
      this.functions.set(name, f);
    }
    return f(...args) as number;
  }

  private fail(status: number, where: string): never {
    throw new CudaError(
      `CUDA error ${this.describe(status)} in ${where}; last kernel launched: ${this.lastKernel} (errors arrive late: set CUDA_LAUNCH_BLOCKING=1 to name the one at fault); the last checkpoint is safe, start again from it`,
    );
  }

  private describe(status: number): string {
    const name: [string | null] = [null];
    this.errorName(status, name);
    return `${name[0] ?? 'unknown'} (${status})`;
  }

  private int(read: (out: Int32Array) => void): number {
    const out = new Int32Array(1);
    read(out);
    return out[0]!;
  }

  private long(read: (out: BigUint64Array) => void): number {
    read(this.out);
    return Number(this.out[0]);
  }

  /** Device memory, ordered with the stream. Size 0 gets a small block, so that every address is valid. */
  allocate(bytes: number): number {
    if (this.arena) return this.arena.take(bytes);
    const size = Math.max(bytes, 16);
    let status = this.status('cuMemAllocAsync', this.out, size, this.stream);
    if (status === OUT_OF_MEMORY) {
      this.trim();
      status = this.status('cuMemAllocAsync', this.out, size, this.stream);
    }
    if (status === OUT_OF_MEMORY) {
      const { free, used } = this.memory();
      throw new OutOfMemoryError(
        `out of GPU memory: ${mib(size)} asked, ${mib(free)} free of ${mib(this.totalMemory)}, ${mib(used)} in use by this program`,
      );
    }
    if (status !== SUCCESS) this.fail(status, 'cuMemAllocAsync');
    return Number(this.out[0]);
  }

  /** Gives back to the GPU what was released and kept for the next that asks. */
  trim(): void {
    this.synchronize();
    this.call('cuMemPoolTrimTo', this.pool, 0);
  }

  release(address: number): void {
    const arena = this.arenas.find((one) => one.owns(address));
    if (arena) arena.give(address);
    else if (this.arena) this.deferred.push(address);
    else this.call('cuMemFreeAsync', address, this.stream);
  }

  /** Memory of the host that the GPU copies to and from by itself; it stays. */
  allocatePinned(bytes: number): ArrayBuffer {
    this.call('cuMemHostAlloc', this.out, bytes, 0);
    if (this.out[0] === 0n) throw new CudaError('the driver gave no pinned host memory');
    return koffi.view(this.out[0]!, bytes);
  }

  /** An arena, whose memory `release` knows from then on. */
  addArena(arena: Arena): Arena {
    this.arenas.push(arena);
    return arena;
  }

  releaseDeferred(): void {
    for (const address of this.deferred.splice(0)) this.release(address);
  }

  /** Ends the recording of the stream; undefined where it came to nothing. */
  endCapture(): number | undefined {
    const status = this.status('cuStreamEndCapture', this.stream, this.out);
    return status === SUCCESS && this.out[0] !== 0n ? Number(this.out[0]) : undefined;
  }

  instantiate(graph: number): number {
    return this.long((out) => this.call('cuGraphInstantiateWithFlags', out, graph, 0));
  }

  /** Bytes: free on the GPU, in use and most ever in use by this program's tensors. */
  memory(): { free: number; used: number; peak: number } {
    const total = new BigUint64Array(1);
    const free = this.long((out) => this.call('cuMemGetInfo_v2', out, total));
    const used = this.long((out) => this.call('cuMemPoolGetAttribute', this.pool, POOL_USED_CURRENT, out));
    const peak = this.long((out) => this.call('cuMemPoolGetAttribute', this.pool, POOL_USED_HIGH, out));
    return { free, used: used + this.elsewhere, peak: peak + this.elsewhere };
  }

  resetPeak(): void {
    this.call('cuMemPoolSetAttribute', this.pool, POOL_USED_HIGH, new BigUint64Array(1));
  }

  synchronize(stream = this.stream): void {
    this.call('cuStreamSynchronize', stream);
  }

  loadModule(cubin: Uint8Array): number {
    return this.long((out) => this.call('cuModuleLoadData', out, cubin));
  }

  getFunction(module: number, name: string): CudaFunction {
    return { name, handle: this.long((out) => this.call('cuModuleGetFunction', out, module, name)), sharedLimit: 0 };
  }

  /** Launches a kernel on the stream. Arguments are copied before this returns. */
  launch(f: CudaFunction, shape: LaunchShape, args: readonly Argument[]): void {
    const [gx, gy = 1, gz = 1] = shape.grid;
    if (gx === 0 || gy === 0 || gz === 0) return;
    const [bx, by = 1, bz = 1] = typeof shape.block === 'number' ? [shape.block] : shape.block;
    const shared = shape.shared ?? 0;
    if (shared > 48 * 1024 && shared > f.sharedLimit) {
      this.call('cuFuncSetAttribute', f.handle, DYNAMIC_SHARED_LIMIT, shared);
      f.sharedLimit = shared;
    }
    const early = shape.early === true && this.lastWasEarly && this.computeCapability >= 90;
    this.lastWasEarly = shape.early === true;
    const run = () => {
      this.writeArguments(args);
      this.lastKernel = f.name;
      this.launches++;
      const params = Number(this.parameters) + MAX_ARGUMENTS * 8;
      if (early) {
        this.writeLaunchConfig([gx, gy, gz, bx, by, bz, shared]);
        this.call('cuLaunchKernelEx', Number(this.launchConfig), f.handle, params, 0);
      } else {
        this.call('cuLaunchKernel', f.handle, gx, gy, gz, bx, by, bz, shared, this.stream, params, 0);
      }
      if (LAUNCH_BLOCKING) this.synchronize();
    };
    if (this.onLaunch) this.onLaunch(f.name, run);
    else run();
  }

  private writeLaunchConfig(sizes: readonly number[]): void {
    const view = this.launchConfigView;
    for (const [i, size] of sizes.entries()) view.setUint32(i * 4, size, true);
    view.setBigUint64(32, BigInt(this.stream), true);
    view.setBigUint64(40, this.launchConfig + BigInt(LAUNCH_CONFIG_BYTES), true);
    view.setUint32(48, 1, true);
    view.setUint32(LAUNCH_CONFIG_BYTES, PROGRAMMATIC_STREAM_SERIALIZATION, true);
    view.setInt32(LAUNCH_CONFIG_BYTES + 8, 1, true);
  }

  private writeArguments(args: readonly Argument[]): void {
    const view = this.parameterView;
    let structs = MAX_ARGUMENTS * 16;
    for (let i = 0; i < args.length; i++) {
      const a = args[i]!;
      if ('i32' in a) view.setInt32(i * 8, a.i32, true);
      else if ('f32' in a) view.setFloat32(i * 8, a.f32, true);
      else if ('bytes' in a) {
        this.parameterBytes.set(a.bytes, structs);
        this.pointParameter(i, structs);
        structs += Math.ceil(a.bytes.length / 64) * 64;
        continue;
      } else {
        const value = 'pointer' in a ? a.pointer : a.i64;
        view.setUint32(i * 8, value >>> 0, true);
        view.setInt32(i * 8 + 4, Math.floor(value / 2 ** 32), true);
      }
      if (this.moved.has(i)) this.pointParameter(i, i * 8);
    }
  }

  private readonly moved = new Set<number>();
  private pointParameter(i: number, offset: number): void {
    this.parameterView.setBigUint64((MAX_ARGUMENTS + i) * 8, this.parameters + BigInt(offset), true);
    if (offset === i * 8) this.moved.delete(i);
    else this.moved.add(i);
  }

  /**
   * A tensor as the copy engine reads and writes it: boxes of it, by rows of 128 or 64 bytes whose 16-byte pieces are exchanged
   * (128- or 64-byte swizzle), zero outside. Elements lie one after another.
   *
   * @param sizes innermost first, `box` likewise; the innermost size in whole 16 bytes, that of the box 128 or 64 bytes
   */
  tensorMap(
    address: number,
    sizes: readonly number[],
    box: readonly number[],
    type: 'bfloat16' | 'float32' = 'bfloat16',
  ): Argument {
    const dimensions = BigUint64Array.from(sizes, BigInt);
    const strides = new BigUint64Array(sizes.length - 1);
    const each = type === 'bfloat16' ? 2 : 4;
    let bytes = each;
    for (let i = 0; i + 1 < sizes.length; i++) {
      bytes *= sizes[i]!;
      strides[i] = BigInt(bytes);
    }
    const { noInterleave, swizzle64, swizzle128, promote256, zeroOutside } = TENSOR_MAP;
    const swizzle = box[0]! * each === 64 ? swizzle64 : swizzle128;
    const steps = new Uint32Array(sizes.length).fill(1);
    const at = [this.tensorMapAt, TENSOR_MAP[type], sizes.length, address] as const;
    const tiles = [dimensions, strides, Uint32Array.from(box), steps] as const;
    this.call('cuTensorMapEncodeTiled', ...at, ...tiles, noInterleave, swizzle, promote256, zeroOutside);
    return { bytes: this.tensorMapBytes.slice() };
  }

  createEvent(timing = false): number {
    return this.long((out) => this.call('cuEventCreate', out, timing ? 0 : 2));
  }

  recordEvent(event: number, stream = this.stream): void {
    this.call('cuEventRecord', event, stream);
  }

  /** A stream beside the one on which everything else happens. */
  createStream(): number {
    return this.long((out) => this.call('cuStreamCreate', out, 1));
  }

  /** Another, before which its kernels go. */
  createUrgentStream(): number {
    const [least, greatest] = [new Int32Array(1), new Int32Array(1)];
    this.call('cuCtxGetStreamPriorityRange', least, greatest);
    return this.long((out) => this.call('cuStreamCreateWithPriority', out, 1, greatest[0]!));
  }

  /** What comes on the stream from here on waits for the event. */
  waitEvent(event: number, stream = this.stream): void {
    this.call('cuStreamWaitEvent', stream, event, 0);
  }

  eventDone(event: number): boolean {
    const status = this.status('cuEventQuery', event);
    if (status !== SUCCESS && status !== NOT_READY) this.fail(status, 'cuEventQuery');
    return status === SUCCESS;
  }

  /** Milliseconds between two recorded events; waits for the second. */
  elapsed(start: number, end: number): number {
    this.call('cuEventSynchronize', end);
    const out = new Float32Array(1);
    this.call('cuEventElapsedTime', out, start, end);
    return out[0]!;
  }
}

const LAUNCH_BLOCKING = process.env.CUDA_LAUNCH_BLOCKING === '1';

/** How many GPUs this process may use; 0 where there is no driver. */
export function countGpus(): number {
  try {
    const library = openDriverLibrary();
    const count = new Int32Array(1);
    if (library.func('cuInit', 'int', ['uint'])(0) !== SUCCESS) return 0;
    return library.func('cuDeviceGetCount', 'int', ['void*'])(count) === SUCCESS ? count[0]! : 0;
  } catch {
    return 0;
  }
}

export function openDriverLibrary(): LibraryHandle {
  for (const name of ['libcuda.so.1', 'libcuda.so', 'nvcuda.dll'])
    try {
      return koffi.load(name);
    } catch {}
  try {
    return loadLibrary('libcuda', ['libcuda.so.1']).handle;
  } catch {
    throw new CudaError(
      'no NVIDIA driver: libcuda.so.1 is not on this machine; install the driver, or use the native backend',
    );
  }
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
