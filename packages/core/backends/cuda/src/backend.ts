/**
 * The TensorFlow.js backend for NVIDIA GPUs: tensors live in device memory, kernels are launched on one stream, and the
 * host runs ahead, waiting only when a value is read.
 */
import {
  type BackendValues,
  type DataId,
  DataStorage,
  type DataType,
  engine,
  KernelBackend,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import koffi from 'koffi';
import { architecture, compileKernels } from './compiler.js';
import { CublasLt, type Product } from './cublaslt.js';
import { type Argument, CudaDriver, type CudaFunction, i32, i64, type LaunchShape, pointer } from './driver.js';
import { CudaError } from './errors.js';
import { THREADS, VECTOR } from './kernel_interface.js';
import { BYTES, type Entry, type StorageType, storageFor, TYPE_CODE } from './storage.js';

const STAGING_BYTES = 16 * 2 ** 20;
const KEPT_ON_HOST = 2 ** 20;

export class CudaBackend extends KernelBackend {
  readonly data: DataStorage<Entry>;
  readonly driver: CudaDriver;
  readonly cublas: CublasLt;
  /** Whether kernels may use Hopper's own instructions; `STICKBREAKING_CUDA_PORTABLE=1` tries the others there. */
  get hopper(): boolean {
    return this.driver.computeCapability === 90 && process.env.STICKBREAKING_CUDA_PORTABLE !== '1';
  }
  /** Whether stick-breaking attention skips tiles of keys for which every row's stick is exhausted. */
  blockSkipping = process.env.STICKBREAKING_BLOCK_SKIPPING !== '0';
  private readonly functions = new Map<string, CudaFunction>();
  private readonly modules = new Map<string, number>();
  private staging?: { bytes: Uint8Array; used: number };

  constructor(driver = new CudaDriver(), options: { autotune?: boolean } = {}) {
    super();
    this.driver = driver;
    this.cublas = new CublasLt(driver, options.autotune ?? process.env.STICKBREAKING_AUTOTUNE === '1');
    this.data = new DataStorage(this, engine());
  }

  override numDataIds(): number {
    return this.data.numDataIds();
  }
  override floatPrecision(): 32 {
    return 32;
  }
  override epsilon(): number {
    return 1e-7;
  }
  override refCount(dataId: DataId): number {
    return this.data.has(dataId) ? this.data.get(dataId).refCount : 0;
  }
  override incRef(dataId: DataId): void {
    this.data.get(dataId).refCount++;
  }
  override timerAvailable(): boolean {
    return true;
  }

  override async time(f: () => void): Promise<{ kernelMs: number }> {
    const [start, end] = [this.driver.createEvent(true), this.driver.createEvent(true)];
    this.driver.recordEvent(start);
    f();
    this.driver.recordEvent(end);
    return { kernelMs: this.driver.elapsed(start, end) };
  }

  override memory(): { unreliable: boolean; numBytesInGpu: number; peakBytesInGpu: number; reasons?: string[] } {
    const { used, peak } = this.driver.memory();
    return { unreliable: false, numBytesInGpu: used, peakBytesInGpu: peak };
  }

  override disposeData(dataId: DataId, force = false): boolean {
    if (!this.data.has(dataId)) return true;
    const entry = this.data.get(dataId);
    entry.refCount--;
    if (!force && entry.refCount > 0) return false;
    this.driver.release(entry.address);
    if (entry.copy !== undefined) this.driver.release(entry.copy);
    this.data.delete(dataId);
    return true;
  }

  override write(values: BackendValues, shape: number[], dtype: DataType): DataId {
    const dataId = {};
    this.move(dataId, values, shape, dtype, 1);
    return dataId;
  }

  override move(dataId: DataId, values: BackendValues, shape: number[], dtype: DataType, refCount: number): void {
    const type = storageFor(dtype);
    const size = util.sizeFromShape(shape);
    const entry: Entry = { address: this.driver.allocate(size * BYTES[type]), size, type, dtype, refCount };
    this.data.set(dataId, entry);
    if (!values || values.length === 0) return;
    const array = type === 'f32' ? Float32Array : type === 'i32' ? Int32Array : Uint8Array;
    const typed = values instanceof array ? values : array.from(values as ArrayLike<number>);
    this.upload(entry.address, typed);
    if (typed instanceof Int32Array && typed.byteLength <= KEPT_ON_HOST) entry.host = typed.slice();
  }

  /** Copies host values to the device in stream order; the caller may change `values` at once. */
  upload(address: number, values: ArrayBufferView): void {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const { driver } = this;
    if (bytes.length === 0) return;
    if (bytes.length > STAGING_BYTES / 4) {
      driver.call('cuMemcpyHtoDAsync_v2', address, bytes, bytes.length, driver.stream);
      driver.synchronize();
      return;
    }
    this.staging ??= { bytes: new Uint8Array(this.pinned(STAGING_BYTES)), used: 0 };
    const size = Math.ceil(bytes.length / 256) * 256;
    if (this.staging.used + size > STAGING_BYTES) {
      driver.synchronize();
      this.staging.used = 0;
    }
    const part = this.staging.bytes.subarray(this.staging.used, this.staging.used + bytes.length);
    part.set(bytes);
    this.staging.used += size;
    driver.call('cuMemcpyHtoDAsync_v2', address, part, bytes.length, driver.stream);
  }

  private pinned(bytes: number): ArrayBuffer {
    const out = new BigUint64Array(1);
    this.driver.call('cuMemHostAlloc', out, bytes, 0);
    return viewMemory(out[0]!, bytes);
  }

  override readSync(dataId: DataId): Float32Array | Int32Array | Uint8Array {
    const entry = this.data.get(dataId);
    if (entry.host) return entry.host.slice();
    const { driver } = this;
    let { address } = entry;
    if (entry.type === 'bf16') {
      address = driver.allocate(entry.size * 4);
      this.castInto(address, 'f32', entry.address, 'bf16', entry.size);
    }
    const array = entry.type === 'i32' ? Int32Array : entry.type === 'u8' ? Uint8Array : Float32Array;
    const values = new array(entry.size);
    if (entry.size > 0) driver.call('cuMemcpyDtoHAsync_v2', values, address, values.byteLength, driver.stream);
    driver.synchronize();
    if (address !== entry.address) driver.release(address);
    return values;
  }

  /** Waits for the GPU without blocking the event loop, then downloads. */
  override async read(dataId: DataId): Promise<Float32Array | Int32Array | Uint8Array> {
    const event = this.driver.createEvent();
    this.driver.recordEvent(event);
    while (!this.driver.eventDone(event)) await new Promise((resolve) => setImmediate(resolve));
    this.driver.call('cuEventDestroy_v2', event);
    return this.readSync(dataId);
  }

  /** A new tensor whose memory holds nothing yet. */
  make(
    shape: number[],
    type: StorageType,
    dtype: DataType = type === 'i32' ? 'int32' : type === 'u8' ? 'bool' : 'float32',
  ): TensorInfo {
    const dataId = {};
    const size = util.sizeFromShape(shape);
    const entry: Entry = { address: this.driver.allocate(size * BYTES[type]), size, type, dtype, refCount: 1 };
    this.data.set(dataId, entry);
    return { dataId, shape, dtype };
  }

  /** Memory that a kernel keeps for its own backward, in a tensor that is empty to everything else. */
  makeOpaque(bytes: number): TensorInfo {
    const dataId = {};
    const address = this.driver.allocate(bytes);
    this.data.set(dataId, { address, size: 0, type: 'f32', dtype: 'float32', refCount: 1 });
    return { dataId, shape: [0], dtype: 'float32' };
  }

  entry(tensor: TensorInfo): Entry {
    return this.data.get(tensor.dataId);
  }
  address(tensor: TensorInfo): number {
    return this.entry(tensor).address;
  }

  /** Device address of the tensor as bfloat16, through a copy kept with the tensor where it is stored otherwise. */
  bf16(tensor: TensorInfo): number {
    const entry = this.entry(tensor);
    if (entry.type === 'bf16') return entry.address;
    if (entry.copy === undefined) {
      entry.copy = this.driver.allocate(entry.size * 2);
      this.castInto(entry.copy, 'bf16', entry.address, entry.type, entry.size);
    }
    return entry.copy;
  }

  /** Must be called before the tensor's values are changed in place. */
  forgetCopy(tensor: TensorInfo): void {
    const entry = this.entry(tensor);
    if (entry.copy !== undefined) this.driver.release(entry.copy);
    entry.copy = undefined;
  }

  /** Device address as float32; `release` frees the conversion, if one was made. */
  f32(tensor: TensorInfo, scratch: Scratch): number {
    const entry = this.entry(tensor);
    if (entry.type === 'f32') return entry.address;
    const address = scratch.allocate(entry.size * 4);
    this.castInto(address, 'f32', entry.address, entry.type, entry.size);
    return address;
  }

  private castInto(to: number, toType: StorageType, from: number, fromType: StorageType, size: number): void {
    if (fromType === 'f32' && toType === 'bf16')
      this.launch('elementwise.cu', 'cast_to_bf16', { grid: [vectorBlocks(size)], block: THREADS }, [
        pointer(to),
        pointer(from),
        i64(size),
      ]);
    else
      this.launch('elementwise.cu', 'copy_cast', { grid: [spread(size)], block: THREADS }, [
        pointer(to),
        i32(TYPE_CODE[toType]),
        pointer(from),
        i32(TYPE_CODE[fromType]),
        i64(size),
      ]);
  }

  cast(tensor: TensorInfo, type: StorageType, dtype: DataType): TensorInfo {
    const entry = this.entry(tensor);
    const out = this.make(tensor.shape, type, dtype);
    this.castInto(this.address(out), type, entry.address, entry.type, entry.size);
    return out;
  }

  matmul(a: number, b: number, c: number, product: Product): void {
    this.cublas.multiply(a, b, c, product);
  }

  /** Launches a kernel of a `.cu` file, compiled on first use. */
  launch(file: string, name: string, shape: LaunchShape, args: readonly Argument[]): void {
    this.driver.launch(this.function(file, name), shape, args);
  }

  function(file: string, name: string, defines: readonly string[] = []): CudaFunction {
    const unit = [file, ...defines].join('|');
    const key = `${unit}:${name}`;
    let found = this.functions.get(key);
    if (!found) {
      let module = this.modules.get(unit);
      if (module === undefined) {
        module = this.driver.loadModule(
          compileKernels(file, architecture(this.driver.computeCapability, this.hopper), defines),
        );
        this.modules.set(unit, module);
      }
      found = this.driver.getFunction(module, name);
      this.functions.set(key, found);
    }
    return found;
  }

  /** Runs `body` with temporary device memory that is given back, in stream order, when it returns. */
  withScratch<T>(body: (scratch: Scratch) => T): T {
    const scratch = new Scratch(this);
    try {
      return body(scratch);
    } finally {
      scratch.release();
    }
  }
}

export class Scratch {
  private readonly addresses: number[] = [];
  constructor(private readonly backend: CudaBackend) {}

  allocate(bytes: number): number {
    const address = this.backend.driver.allocate(bytes);
    this.addresses.push(address);
    return address;
  }
  upload(values: ArrayBufferView): number {
    const address = this.allocate(values.byteLength);
    this.backend.upload(address, values);
    return address;
  }
  release(): void {
    for (const address of this.addresses) this.backend.driver.release(address);
  }
}

/** Blocks of THREADS threads, each of which moves VECTOR elements. */
export function vectorBlocks(size: number): number {
  return Math.ceil(size / (THREADS * VECTOR));
}
/** Blocks of THREADS threads for a kernel that gives each row to a warp. */
export function warpBlocks(rows: number): number {
  return Math.ceil(rows / (THREADS / 32));
}
/** Blocks of THREADS threads for a kernel that strides over its elements. */
export function spread(size: number): number {
  return Math.min(Math.ceil(size / THREADS), 132 * 16);
}

function viewMemory(address: bigint, bytes: number): ArrayBuffer {
  if (address === 0n) throw new CudaError('the driver gave no pinned host memory');
  return koffi.view(address, bytes);
}
