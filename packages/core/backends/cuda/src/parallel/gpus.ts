/** The GPUs of a run, as one of them sees them: collectives on a stream beside the one that computes. */
import type { AttentionRing } from '@stickbreaking/core';
import { engine, type Tensor, type TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { TILES_BESIDE_COLLECTIVES } from '../ops/grouped.js';
import { BYTES, elementsOf } from '../storage.js';
import type { Communicator } from './nccl.js';

/** This process's GPU among those of a run. All of them make the same calls in the same order. */
export class Gpus {
  /** Its collectives go before what the other stream computes: others wait for them. */
  private readonly stream: number;
  /** Collectives are left out, all but of single numbers: for measuring what they cost. Results are wrong. */
  silent = false;
  private readonly computed: number;
  private readonly communicated: number;
  private copies: number | undefined;
  private readonly parts: Communicator[] = [];
  private staging: ArrayBuffer | undefined;

  constructor(
    readonly backend: CudaBackend,
    readonly communicator: Communicator,
  ) {
    this.stream = backend.driver.createUrgentStream();
    backend.groupedTiles = communicator.size > 1 ? TILES_BESIDE_COLLECTIVES : undefined;
    [this.computed, this.communicated] = [backend.driver.createEvent(), backend.driver.createEvent()];
  }

  /**
   * Has NCCL take its buffers: it would at the first collective of a kind, which comes in the middle of a backward. By then the pool
   * may have all memory, and gives back what it has to spare to its own tensors alone. All processes must call it.
   *
   * @param exchanges whether parts of gradients will be given to one another too
   */
  connect(exchanges: boolean): void {
    const { driver } = this.backend;
    const { size } = this.communicator;
    const address = driver.allocate(2 * size * BYTES.f32);
    driver.call('cuMemsetD8Async', address, 0, 2 * size * BYTES.f32, driver.stream);
    this.begin((communicator, stream) => {
      communicator.reduceScatter(address, 1, 'f32', stream);
      communicator.allGather(address, 1, 'f32', stream);
      if (exchanges) communicator.allToAll(address, address + size * BYTES.f32, BYTES.f32, stream);
    });
    this.await();
    driver.release(address);
  }

  /** Puts collectives on their stream, behind all that has been computed so far. */
  begin(calls: (communicator: Communicator, stream: number) => void): void {
    this.afterComputed();
    if (!this.silent) calls(this.communicator, this.stream);
  }

  /** The collectives that follow wait for all that has been computed so far. */
  private afterComputed(): void {
    const { driver } = this.backend;
    driver.recordEvent(this.computed);
    driver.waitEvent(this.computed, this.stream);
  }

  /** Records an event behind all collectives so far. */
  record(event: number): void {
    this.backend.driver.recordEvent(event, this.stream);
  }

  /** What is computed from here on waits for all collectives so far. */
  await(): void {
    const { driver } = this.backend;
    driver.recordEvent(this.communicated, this.stream);
    driver.waitEvent(this.communicated);
  }

  /** Sums float32 tensors over all processes, in place. */
  sum(tensors: readonly TensorInfo[]): void {
    this.begin((communicator, stream) => {
      for (const tensor of tensors) {
        const entry = this.backend.stored(tensor);
        if (entry.type !== 'f32') throw new Error(`a tensor to be summed is stored as ${entry.type}`);
        communicator.allReduce(entry.address, elementsOf(entry), 'f32', stream);
      }
    });
    this.await();
  }

  /** A few float32 numbers of every process, [size, n], without the host. */
  gather(numbers: TensorInfo): TensorInfo {
    const { backend, communicator, stream } = this;
    const from = backend.entry(numbers);
    if (from.type !== 'f32') throw new Error(`numbers to be gathered are stored as ${from.type}`);
    const rows = backend.make([communicator.size, from.size], 'f32');
    this.afterComputed();
    communicator.allGather(backend.address(rows), from.size, 'f32', stream, from.address);
    this.await();
    return rows;
  }

  /** @throws CudaError if a collective has failed since */
  check(): void {
    this.communicator.check();
  }

  /**
   * Those of the processes that share this one's sequences, so many that follow one another. Their exchanges are part of
   * what is computed: there is nothing to do beside them.
   */
  sequence(processes: number): AttentionRing & {
    /** Gives the r-th of `size` equal parts along the first axis to process r; returns those given to this one, in order. */
    exchange(parts: Tensor): Tensor;
  } {
    const { backend } = this;
    const part = this.communicator.part(processes);
    this.parts.push(part);
    const exchange = (parts: Tensor) => {
      const from = backend.entry(parts);
      const result = backend.make(parts.shape, from.type, parts.dtype);
      const bytes = (from.size * BYTES[from.type]) / part.size;
      if (!this.silent) part.allToAll(from.address, backend.address(result), bytes, backend.driver.stream);
      return engine().makeTensorFromTensorInfo(result, backend);
    };
    const shift = (tensors: readonly Tensor[], by: number) => {
      const moves = tensors.map((one) => {
        const { address, type, size } = backend.entry(one);
        const result = backend.make(one.shape, type, one.dtype);
        return { from: address, to: backend.address(result), bytes: size * BYTES[type], result };
      });
      if (!this.silent) part.shift(moves, by, backend.driver.stream);
      return moves.map(({ result }) => engine().makeTensorFromTensorInfo(result, backend));
    };
    const most = (x: Tensor) => {
      if (!backend.blockSkipping) return Infinity;
      const all = backend.make([part.size], 'f32');
      backend.withScratch((scratch) =>
        part.allGather(backend.address(all), 1, 'f32', backend.driver.stream, backend.f32(x, scratch)),
      );
      const values = backend.readSync(all.dataId) as Float32Array;
      backend.disposeData(all.dataId);
      return Math.max(...values);
    };
    return { rank: part.rank, size: part.size, exchange, shift, most };
  }

  /** Float64 numbers of every process, one process after another. */
  async exchange(numbers: readonly number[]): Promise<number[][]> {
    const { driver } = this.backend;
    const { rank, size } = this.communicator;
    const count = numbers.length;
    const all = new Float64Array(count * size);
    all.set(numbers, rank * count);
    const address = driver.allocate(all.byteLength);
    this.backend.upload(address, all);
    this.afterComputed();
    this.communicator.allGather(address, count, 'f64', this.stream);
    this.await();
    // The event loop goes on meanwhile: signals are heard, whoever is late.
    const done = driver.createEvent();
    driver.recordEvent(done);
    while (!driver.eventDone(done)) await new Promise((resolve) => setImmediate(resolve));
    driver.call('cuEventDestroy_v2', done);
    driver.call('cuMemcpyDtoHAsync_v2', all, address, all.byteLength, driver.stream);
    driver.synchronize();
    driver.release(address);
    this.communicator.check();
    return Array.from({ length: size }, (_, i) => Array.from(all.subarray(i * count, (i + 1) * count)));
  }

  /** A stream for copies to the host, which nothing waits for. */
  copyStream(): number {
    this.copies ??= this.backend.driver.createStream();
    return this.copies;
  }

  /** The host's end of such copies. */
  pinned(bytes: number): ArrayBuffer {
    if (!this.staging || this.staging.byteLength < bytes) this.staging = this.backend.driver.allocatePinned(bytes);
    return this.staging;
  }

  /** Waits for what is computed, and ends the communicators, this one's own among them. */
  close(): void {
    this.backend.driver.synchronize();
    for (const one of [...this.parts, this.communicator]) one.close();
    this.backend.groupedTiles = undefined;
  }
}
