/**
 * The CUDA driver API through koffi: one GPU, its primary context, one stream on which everything happens in order,
 * memory from the driver's stream-ordered pool. Calls are asynchronous: the host runs ahead of the GPU, and only a read
 * waits. Device addresses are plain numbers (they stay below 2^53).
 */

import { OutOfMemoryError } from '@stickbreaking/base';
import koffi, { type KoffiFunc, type LibraryHandle } from 'koffi';
import type { Arena } from './arena.js';
import { type DriverFunction, SIGNATURES } from './driver_functions.js';
import { openDriverLibrary, SUCCESS } from './driver_library.js';
import { CudaError } from './errors.js';
import { type Argument, type CudaFunction, LaunchMemory, type LaunchShape } from './launch.js';
import { TensorMaps } from './tensor_map.js';

const OUT_OF_MEMORY = 2;
const NOT_READY = 600;
const POOL_RELEASE_THRESHOLD = 4;
const POOL_USED_HIGH = 8;
const POOL_USED_CURRENT = 7;
const DYNAMIC_SHARED_LIMIT = 8;

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
  private lastKernel = 'none yet';
  private lastWasEarly = false;
  private readonly launchMemory = new LaunchMemory();
  private readonly tensorMaps = new TensorMaps(this);

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
      const params = this.launchMemory.writeArguments(args);
      this.lastKernel = f.name;
      this.launches++;
      if (early) {
        const config = this.launchMemory.writeEarly([gx, gy, gz, bx, by, bz, shared], this.stream);
        this.call('cuLaunchKernelEx', config, f.handle, params, 0);
      } else {
        this.call('cuLaunchKernel', f.handle, gx, gy, gz, bx, by, bz, shared, this.stream, params, 0);
      }
      if (LAUNCH_BLOCKING) this.synchronize();
    };
    if (this.onLaunch) this.onLaunch(f.name, run);
    else run();
  }

  /** A tensor as the copy engine reads and writes it. */
  tensorMap(...how: Parameters<TensorMaps['encode']>): Argument {
    return this.tensorMaps.encode(...how);
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

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
