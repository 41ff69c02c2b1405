/**
 * The gradients of a step as several GPUs share them: flat float32 memory, a bucket a layer, taken when the backward
 * comes to the layer, in which the matmuls write. The sum of a bucket over all GPUs goes on while the backward does;
 * each GPU is left with its part. Gradients of norms, biases and other vectors are summed at the end, and every GPU has
 * all of them.
 */
import { engine, keep, type Tensor } from '@tensorflow/tfjs-core';
import { castTo, copyRows } from '../casts.js';
import { SharedMemory } from '../shared_memory.js';
import { BYTES, type Entry } from '../storage.js';
import type { Gpus } from './gpus.js';
import { type Matrix, type Sharing, slicesOf } from './layout.js';
import { addInOrder, OrderedSums, SHARES } from './ordered_sums.js';
import { sumPlaces, wantsEngines } from './sum_places.js';

/** Where a vector's gradient begins, in elements. */
export interface Vector {
  shape: number[];
  offset: number;
  elements: number;
}

interface Bucket {
  memory: SharedMemory;
  /** Its tensors, which were placed before it had memory, by their matrices. */
  entries: Map<string, Entry>;
  hasAppeared: boolean;
  /** Matrices whose gradients are still to come in this backward. */
  missing: Set<string>;
  /** Where the sum is kept from one micro-batch to the next, if each is summed for itself. */
  part: SharedMemory | undefined;
  /** Where micro-batches are added in their order. */
  ordered: OrderedSums | undefined;
  summed: number;
}

/**
 * After this gradient the attention's backward is next. NCCL takes some multiprocessors for as long as a sum lasts, and
 * a matmul whose blocks are just as many as multiprocessors then takes twice its time; the attention's blocks are many
 * and short.
 */
const CALM = /\.self_attn\.o_proj\.weight$/;

/** Whether the sum of what lies there is among the last of a step: the first bucket's, and that of vectors. */
export function isLastSummed(matrix: Matrix | undefined): boolean {
  return matrix === undefined || matrix.bucket === 0;
}

export class GradientBuckets {
  private readonly all: Bucket[];
  /** Recorded behind the sums of all buckets but the first, and behind all sums of a step. */
  private readonly othersSummed: number;
  private readonly allSummed: number;
  private readonly vectorSums: SharedMemory;
  /** Of vectors, where micro-batches are added in their order: this process's, and what is made of them. */
  private readonly ownVectors: SharedMemory;
  private readonly orderedVectors: OrderedSums | undefined;
  private readonly vectorGradients = new Map<string, Tensor>();
  /** Buckets whose gradients are complete and whose sums have begun, from the last to the first. */
  private complete = 0;
  private begun = 0;
  private batches = 0;
  private isLast = false;

  /**
   * @param apart whether every micro-batch's gradients are summed for themselves, so that only this process's part of them
   *   stays (ZeRO-2)
   * @param ordered whether they are added in the order of the micro-batches, which are `apart` then
   */
  constructor(
    private readonly gpus: Gpus,
    private readonly sharing: Sharing,
    private readonly vectors: ReadonlyMap<string, Vector>,
    private readonly vectorElements: number,
    private readonly apart: boolean,
    private readonly ordered = false,
  ) {
    const { driver } = gpus.backend;
    [this.othersSummed, this.allSummed] = [driver.createEvent(), driver.createEvent()];
    this.vectorSums = SharedMemory.lasting(driver, vectorElements * BYTES.f32);
    this.ownVectors = SharedMemory.lasting(driver, vectorElements * BYTES.f32);
    if (ordered) this.orderedVectors = new OrderedSums(gpus, this.vectorSums, vectorElements);
    const places = ordered && wantsEngines() ? sumPlaces(gpus, sharing.buckets) : undefined;
    this.all = sharing.buckets.map(({ size }, index) => {
      const count = size / gpus.communicator.size;
      const part = apart ? SharedMemory.lasting(driver, count * BYTES.f32) : undefined;
      return {
        memory: places?.[index]?.sending ?? SharedMemory.lasting(driver, size * BYTES.f32),
        entries: new Map(),
        hasAppeared: false,
        missing: new Set(),
        part,
        ordered: part && ordered ? new OrderedSums(gpus, part, count, places?.[index]?.received) : undefined,
        summed: driver.createEvent(),
      };
    });
  }

  /** Forgets the sums of the step before. */
  beginStep(): void {
    for (const bucket of this.all) {
      bucket.memory.free();
      bucket.hasAppeared = false;
      bucket.ordered?.clear();
    }
    this.orderedVectors?.clear();
    this.batches = 0;
  }

  /**
   * What a micro-batch's gradients are added to, by the parameters' names.
   *
   * @param before the gradients after the micro-batch before it, which are consumed
   * @param isLast whether it is the step's last: then a bucket's sum begins once its gradients are there
   */
  beginBatch(before: Map<string, Tensor> | undefined, isLast: boolean): Map<string, Tensor> {
    this.isLast = isLast;
    this.complete = 0;
    this.begun = 0;
    this.all.forEach((bucket, index) => {
      for (const { name } of this.sharing.buckets[index]!.slots) bucket.missing.add(name);
      if (this.apart) bucket.hasAppeared = false;
    });
    this.batches++;
    if (before && !this.apart) return before;
    const sums = new Map(before);
    this.vectorGradients.clear();
    if (this.ordered)
      for (const name of this.vectors.keys()) {
        sums.get(name)?.dispose();
        sums.delete(name);
      }
    for (const [name, matrix] of this.sharing.matrices) {
      sums.get(name)?.dispose();
      sums.set(name, this.blank(name, matrix));
    }
    return sums;
  }

  private blank(name: string, matrix: Matrix): Tensor {
    const { backend } = this.gpus;
    const bucket = this.all[matrix.bucket]!;
    const tensor = this.placed(matrix, 0);
    const entry = backend.data.get(tensor.dataId);
    entry.blank = true;
    entry.before = () => this.appear(matrix.bucket);
    bucket.entries.set(name, entry);
    return tensor;
  }

  private placed({ shape, rows, bucket }: Matrix, address: number): Tensor {
    const { backend } = this.gpus;
    const { memory } = this.all[bucket]!;
    const where = { shape, type: 'f32' as const, address, memory };
    return keep(engine().makeTensorFromTensorInfo(backend.place(rows ? { ...where, rows } : where), backend));
  }

  /** Gives a bucket's tensors their memory. */
  private appear(index: number): void {
    this.leave(index);
    const bucket = this.all[index]!;
    bucket.hasAppeared = true;
    const { address } = bucket.memory;
    for (const [name, entry] of bucket.entries) {
      entry.address = address + this.sharing.matrices.get(name)!.offset * BYTES.f32;
      entry.before = undefined;
    }
  }

  /** Takes a gradient that is complete for a micro-batch and gives it back as it lies in its bucket. */
  settle(name: string, gradient: Tensor): Tensor {
    const matrix = this.sharing.matrices.get(name);
    if (!matrix) {
      if (this.ordered) this.vectorGradients.set(name, gradient);
      return gradient;
    }
    const { backend } = this.gpus;
    const bucket = this.all[matrix.bucket]!;
    if (!bucket.hasAppeared) this.appear(matrix.bucket);
    const address = bucket.memory.address + matrix.offset * BYTES.f32;
    let settled = gradient;
    if (backend.present(gradient).address !== address) {
      const columns = matrix.shape[matrix.shape.length - 1]!;
      const { stride, width, count } = matrix.rows ?? { stride: columns, width: columns, count: 0 };
      const entry = backend.entry(gradient);
      const rows = entry.size / columns;
      copyRows(
        backend,
        { address, columns: Math.max(stride, width), rows: Math.max(rows, count) },
        { address: entry.address, columns, rows, stride: columns },
        'f32',
      );
      settled = this.placed(matrix, address);
      gradient.dispose();
      bucket.entries.delete(name);
    }
    if (this.isLast || this.apart) {
      bucket.missing.delete(name);
      while (this.missingOf(this.complete)?.size === 0) this.complete++;
      this.beginSums(CALM.test(name) ? this.complete : this.complete - 1);
    }
    return settled;
  }

  private missingOf(place: number): Set<string> | undefined {
    return this.all[this.all.length - 1 - place]?.missing;
  }

  /** Ends a micro-batch, in which this process may have had nothing to do. */
  endBatch(): void {
    if (this.isLast || this.apart) this.beginSums(this.all.length);
    if (!this.orderedVectors) return;
    this.orderedVectors.add();
    this.collectVectors(this.ownVectors.address, this.vectorGradients);
    this.orderedVectors.sendToAll(this.ownVectors.address);
  }

  /** Puts the vectors' gradients where they lie together; zeros where there is none. */
  private collectVectors(address: number, gradients: ReadonlyMap<string, Tensor>): void {
    const { backend } = this.gpus;
    const { driver } = backend;
    driver.call('cuMemsetD8Async', address, 0, this.vectorElements * BYTES.f32, driver.stream);
    for (const [name, { offset, elements }] of this.vectors) {
      const gradient = gradients.get(name);
      const to = address + offset * BYTES.f32;
      if (gradient) castTo(backend, { address: to, type: 'f32' }, backend.entry(gradient), elements);
    }
  }

  /** Begins the sums of so many buckets, in one order on all processes: the last layer's first. */
  private beginSums(until: number): void {
    const { gpus } = this;
    const { backend, communicator } = gpus;
    for (; this.begun < until; this.begun++) {
      const index = this.all.length - 1 - this.begun;
      const { memory, entries, part, ordered, summed, hasAppeared } = this.all[index]!;
      if (!hasAppeared) this.appear(index);
      for (const entry of entries.values()) if (entry.blank) backend.writeZeros(entry);
      entries.clear();
      const { address } = memory;
      const to = part?.address;
      const count = this.sharing.buckets[index]!.size / communicator.size;
      // What is kept of the micro-batches before takes part in the sum: a quarter's memory is read, of four GPUs, where matmuls
      // that add to what is there would read all of it.
      if (part && !ordered && this.batches > 1)
        addInOrder(backend, address + communicator.rank * count * BYTES.f32, part.address, count, 1, true);
      if (index === 0) gpus.record(this.othersSummed);
      if (ordered) ordered.send(address);
      else gpus.begin((collectives, stream) => collectives.reduceScatter(address, count, 'f32', stream, to));
      if (!part) continue;
      gpus.record(summed);
      this.leave(index + 1);
    }
  }

  /** Gives back a bucket whose sum has been made, where that is kept elsewhere. */
  private leave(index: number): void {
    const bucket = this.all[index];
    if (!bucket?.part || !bucket.memory.isThere) return;
    this.gpus.backend.driver.waitEvent(bucket.summed);
    bucket.ordered?.add();
    bucket.memory.free();
  }

  /**
   * Ends a step's sums. The device waits for one when it is first read: the norm of the others is taken meanwhile.
   *
   * @param gradients all gradients of this process, which are consumed
   * @returns the sums: of matrices this process's slices, of vectors all
   */
  finish(gradients: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
    const { gpus, vectorElements } = this;
    const { backend, communicator } = gpus;
    const { driver } = backend;
    const { address: vectors } = this.vectorSums;
    if (this.orderedVectors) this.orderedVectors.add();
    else {
      this.collectVectors(vectors, gradients);
      gpus.begin((collectives, stream) => collectives.allReduce(vectors, vectorElements, 'f32', stream));
    }
    for (const gradient of gradients.values()) gradient.dispose();
    gpus.record(this.allSummed);
    this.all.forEach((_, index) => {
      if (index > 0 || this.ordered) this.leave(index);
    });
    const sums = new Map<string, Tensor>();
    const [others, last] = [this.othersSummed, this.allSummed].map((event) => once(() => driver.waitEvent(event)));
    const place = (name: string, shape: number[], memory: SharedMemory, offset: number) => {
      const info = backend.place({ shape, type: 'f32', address: memory.address + offset * BYTES.f32, memory });
      const isLast = isLastSummed(this.sharing.matrices.get(name));
      backend.data.get(info.dataId).before = isLast ? last : others;
      sums.set(name, keep(engine().makeTensorFromTensorInfo(info, backend)));
    };
    for (const [name, { shape, offset }] of this.vectors) place(name, shape, this.vectorSums, offset);
    for (const { name, bucket, from, length } of this.sharing.slices) {
      const { memory, part } = this.all[bucket]!;
      const own = (this.sharing.buckets[bucket]!.size / communicator.size) * communicator.rank;
      place(name, [1, length], part ?? memory, part ? from - own : from);
    }
    return sums;
  }

  /**
   * Of sums that were added in order, this process's matrices by parts that are the same however many processes there are.
   * The tensors are the caller's.
   */
  shares(): Tensor[][] {
    const { backend, communicator } = this.gpus;
    const each = SHARES / communicator.size;
    return Array.from({ length: each }, (_, i) =>
      slicesOf(this.sharing.buckets, communicator.rank * each + i, SHARES).map(({ bucket, from, length }) => {
        const memory = this.all[bucket]!.part!;
        const own = (this.sharing.buckets[bucket]!.size / communicator.size) * communicator.rank;
        const address = memory.address + (from - own) * BYTES.f32;
        const info = backend.place({ shape: [1, length], type: 'f32', address, memory });
        return engine().makeTensorFromTensorInfo(info, backend);
      }),
    );
  }
}

/** Does it the first time it is asked. */
function once(run: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) run();
    isDone = true;
  };
}
