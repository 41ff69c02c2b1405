/**
 * The TensorFlow.js backend for NVIDIA GPUs: tensors live in device memory, kernels are launched on one stream, and the
 * host runs ahead, waiting only when a value is read.
 */
import type { DecodeStep, SampledTokens, SamplingRow } from '@stickbreaking/core/backend';
import {
  type BackendValues,
  type DataId,
  DataStorage,
  type DataType,
  engine,
  KernelBackend,
  type Tensor,
  type Tensor1D,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import { castInto, copyRows, widen } from './casts.js';
import { CublasLt, type Product } from './cublaslt.js';
import { recordedDecodeStep } from './decode_step.js';
import { Downloads, type HostValues, roomFor } from './downloads.js';
import { CudaDriver } from './driver.js';
import { releaseCopies, releaseMemory } from './entry_memory.js';
import { Graphs } from './graphs.js';
import { KernelModules } from './kernel_modules.js';
import type { Argument, CudaFunction, LaunchShape } from './launch.js';
import { type BlockSkipping, blockSkippingBy } from './ops/block_skipping.js';
import type { FarSettings } from './ops/flash_far.js';
import type { LevelSettings } from './ops/flash_levels.js';
import { Residents } from './residents.js';
import { paddedRows, type Rows } from './rows.js';
import { Scratch } from './scratch.js';
import type { SharedMemory } from './shared_memory.js';
import { BYTES, type Entry, elementsOf, type StorageType, storageFor } from './storage.js';
import { Uploads } from './uploads.js';

const KEPT_ON_HOST = 2 ** 20;

export class CudaBackend extends KernelBackend implements BlockSkipping {
  readonly data: DataStorage<Entry>;
  readonly driver: CudaDriver;
  readonly cublas: Pick<CublasLt, 'multiply' | 'version'>;
  /** Whether kernels may use Hopper's own instructions; `STICKBREAKING_CUDA_PORTABLE=1` tries the others there. */
  readonly hopper: boolean;
  /** Whether stick-breaking attention skips tiles of keys for which every row's stick is exhausted. */
  blockSkipping: boolean;
  /** Tiles of a grouped matmul that a block makes at most; without, blocks last and share them (ops/grouped.ts). `Gpus` sets it. */
  groupedTiles: number | undefined;
  /** How block skipping goes by levels, forward, if it does: docs/cuda.md. */
  levels: LevelSettings | undefined;
  /** How far rows are gathered in the backward of block skipping, if they are: docs/cuda.md. */
  farRows: FarSettings | undefined;
  private work = { address: 0, bytes: 0 };
  readonly graphs: Graphs;
  /** What stays on the GPU from one step of generation to the next. */
  readonly residents: Residents;
  private readonly modules: KernelModules;
  private readonly uploads: Uploads;
  private readonly downloads: Downloads;

  constructor(
    driver = new CudaDriver(),
    options: { autotune?: boolean; cublas?: Pick<CublasLt, 'multiply' | 'version'> } = {},
  ) {
    super();
    this.driver = driver;
    ({ blockSkipping: this.blockSkipping, levels: this.levels, farRows: this.farRows } = blockSkippingBy());
    this.hopper = driver.computeCapability === 90 && process.env.STICKBREAKING_CUDA_PORTABLE !== '1';
    const autotune = options.autotune ?? process.env.STICKBREAKING_AUTOTUNE === '1';
    this.cublas = options.cublas ?? new CublasLt(driver, autotune);
    this.modules = new KernelModules(driver, this.hopper);
    this.data = new DataStorage(this, engine());
    this.uploads = new Uploads(driver);
    this.downloads = new Downloads(driver);
    this.graphs = new Graphs(this);
    this.residents = new Residents(this);
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
    releaseMemory(this.driver, entry);
    releaseCopies(this.driver, entry);
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
    const rows = values && values.length > 0 && type === 'f32' ? paddedRows(shape) : undefined;
    const entry: Entry = { address: 0, size, type, dtype, refCount, rows };
    entry.address = this.driver.allocate(elementsOf(entry) * BYTES[type]);
    this.data.set(dataId, entry);
    if (!values || values.length === 0) return;
    const array = type === 'f32' ? Float32Array : type === 'i32' ? Int32Array : Uint8Array;
    const typed = values instanceof array ? values : array.from(values as ArrayLike<number>);
    if (rows) this.uploadRows(entry, rows, typed);
    else this.uploads.upload(entry.address, typed);
    if (typed instanceof Int32Array && typed.byteLength <= KEPT_ON_HOST) entry.host = typed.slice();
  }

  /** Copies host values to the device in stream order; the caller may change `values` at once. */
  upload(address: number, values: ArrayBufferView): void {
    this.uploads.upload(address, values);
  }

  private uploadRows({ address, size, type }: Entry, { columns, width, count }: Rows, values: ArrayBufferView): void {
    this.withScratch((scratch) =>
      copyRows(
        this,
        { address, columns: width, rows: count },
        { address: scratch.upload(values), columns, rows: size / columns, stride: columns },
        type,
      ),
    );
  }

  override readSync(dataId: DataId): HostValues {
    const entry = this.stored({ dataId });
    if (entry.host) return entry.host.slice();
    const { size, type } = entry;
    const values = roomFor(entry);
    this.withScratch((scratch) => {
      let { address } = entry;
      if (isBent(entry)) {
        address = scratch.allocate(size * BYTES[type]);
        this.copyStraight(entry, address);
      }
      if (type === 'bf16') {
        const wide = scratch.allocate(size * BYTES.f32);
        widen(this, wide, { ...entry, address });
        address = wide;
      }
      this.downloads.inOrder(values, address);
    });
    return values;
  }

  /** Waits for what has been launched without blocking the event loop, then downloads beside what has been since. */
  override async read(dataId: DataId): Promise<HostValues> {
    await this.downloads.launched();
    const entry = this.data.get(dataId);
    const isPlain = entry.type !== 'bf16' && !entry.before && !entry.blank && !isBent(entry);
    if (entry.host || !isPlain) return this.readSync(dataId);
    const values = roomFor(entry);
    this.downloads.asideOf(values, entry.address);
    return values;
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

  /**
   * Memory between the launches of one call, the same for all of them: it is kept as long as the backend, as large as the largest that
   * was asked for. A pool whose blocks have other sizes may take milliseconds to make room for so much.
   */
  workspace(bytes: number): number {
    if (this.driver.arena) return this.driver.allocate(bytes);
    if (bytes > this.work.bytes) {
      this.releaseWorkspace();
      this.work = { address: this.driver.allocate(bytes), bytes };
    }
    return this.work.address;
  }

  /** Gives that memory back until it is asked for again. */
  releaseWorkspace(): void {
    const { address, bytes } = this.work;
    this.work = { address: 0, bytes: 0 };
    if (bytes > 0) this.driver.release(address);
  }

  /** Memory that a kernel keeps for its own backward, in a tensor that is empty to everything else. */
  makeOpaque(bytes: number): TensorInfo {
    const dataId = {};
    const address = this.driver.allocate(bytes);
    this.data.set(dataId, { address, size: 0, type: 'f32', dtype: 'float32', refCount: 1 });
    return { dataId, shape: [0], dtype: 'float32' };
  }

  /** A new tensor where the caller has put its memory. */
  place(placed: {
    shape: number[];
    type: StorageType;
    address: number;
    rows?: Rows;
    memory?: SharedMemory;
    borrowed?: boolean;
  }): TensorInfo {
    const { shape, ...rest } = placed;
    const dataId = {};
    const dtype = placed.type === 'i32' ? 'int32' : 'float32';
    this.data.set(dataId, { ...rest, size: util.sizeFromShape(shape), dtype, refCount: 1 });
    return { dataId, shape, dtype };
  }

  /** The tensor as it is stored: for kernels that know of `rows`. */
  stored(tensor: Pick<TensorInfo, 'dataId'>): Entry {
    const entry = this.present(tensor);
    if (entry.blank) this.writeZeros(entry);
    this.graphs.noteRead(entry);
    return entry;
  }

  /** The tensor as it is stored; the memory of one that is `blank` is for the caller to write. */
  present(tensor: Pick<TensorInfo, 'dataId'>): Entry {
    const entry = this.data.get(tensor.dataId);
    const { before } = entry;
    if (before) {
      entry.before = undefined;
      before();
    }
    return entry;
  }

  /** All of its memory, padding included. */
  writeZeros(entry: Entry): void {
    const { driver } = this;
    driver.call('cuMemsetD8Async', entry.address, 0, elementsOf(entry) * BYTES[entry.type], driver.stream);
    entry.blank = undefined;
  }

  /** core's `sampleTokens`. */
  sampleTokens?: (logits: TensorInfo, rows: readonly SamplingRow[]) => Promise<SampledTokens> | undefined;

  /** core's `decodeStep`: recorded as a graph. */
  recordDecodeStep(step: DecodeStep, run: (tokens: Tensor1D, step: DecodeStep) => Tensor): Tensor {
    return recordedDecodeStep(this, step, run);
  }

  /** The tensor with its elements one after another. */
  entry(tensor: TensorInfo): Entry {
    const entry = this.stored(tensor);
    if (!isBent(entry)) return entry;
    const address = this.driver.allocate(entry.size * BYTES[entry.type]);
    this.copyStraight(entry, address);
    releaseMemory(this.driver, entry);
    releaseCopies(this.driver, entry);
    entry.address = address;
    entry.rows = undefined;
    return entry;
  }

  private copyStraight({ address, size, type, rows }: Entry, to: number): void {
    const { columns, stride } = rows!;
    const matrix = { columns, rows: size / columns };
    copyRows(this, { address: to, ...matrix }, { address, stride, ...matrix }, type);
  }

  address(tensor: TensorInfo): number {
    return this.entry(tensor).address;
  }

  /** Device address of the tensor as bfloat16, through a copy kept with the tensor where it is stored otherwise. */
  bf16(tensor: TensorInfo): number {
    return this.bf16Of(this.entry(tensor));
  }

  /** The same of a tensor as it is stored. */
  bf16Of(entry: Entry): number {
    if (entry.type === 'bf16') return entry.address;
    if (entry.copy === undefined) this.copyTo(entry, this.driver.allocate(elementsOf(entry) * BYTES.bf16));
    return entry.copy!;
  }

  /** Makes the tensor's bfloat16 copy at an address. */
  copyTo(entry: Entry, address: number): void {
    entry.copy = address;
    castInto(this, address, 'bf16', entry.address, entry.type, elementsOf(entry));
  }

  /** Before the tensor's values change in place. */
  forgetCopy(tensor: TensorInfo): void {
    releaseCopies(this.driver, this.stored(tensor));
  }

  /** Device address as float32; `release` frees the conversion, if one was made. */
  f32(tensor: TensorInfo, scratch: Scratch): number {
    const entry = this.entry(tensor);
    if (entry.type === 'f32') return entry.address;
    const address = scratch.allocate(entry.size * 4);
    widen(this, address, entry);
    return address;
  }

  cast(tensor: TensorInfo, type: StorageType, dtype: DataType): TensorInfo {
    const entry = this.entry(tensor);
    const out = this.make(tensor.shape, type, dtype);
    castInto(this, this.address(out), type, entry.address, entry.type, entry.size);
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
    return this.modules.function(file, name, defines);
  }

  /** Runs `body` with temporary device memory that is given back, in stream order, when it returns. */
  withScratch<T>(body: (scratch: Scratch) => T): T {
    const scratch = new Scratch(this.driver, this.uploads);
    try {
      return body(scratch);
    } finally {
      scratch.release();
    }
  }
}

/** Whether its rows do not simply follow one another. */
function isBent({ rows }: Entry): boolean {
  return rows !== undefined && rows.stride !== rows.columns;
}
