/**
 * The gradients of a step as several GPUs share them: flat float32 memory, a bucket a layer, taken when the backward
 * comes to the layer, in which the matmuls write. The sum of a bucket over all GPUs goes on while the backward does;
 * each GPU is left with its part. Where they travel in bfloat16, each process rounds its own once: the matmuls write
 * bfloat16 where nothing is added to what they wrote, else what was added up in float32 is converted before it is sent.
 */
import { engine, keep, type Tensor } from '@tensorflow/tfjs-core';
import { castTo } from '../casts.js';
import { SharedMemory } from '../shared_memory.js';
import { BYTES, type Entry } from '../storage.js';
import type { Gpus } from './gpus.js';
import { copyTo, once } from './gradient_places.js';
import { type Matrix, type Sharing, slicesOf } from './layout.js';
import { addInOrder, OrderedSums, SHARES, type SumType } from './ordered_sums.js';
import { sumPlaces, wantsEngines } from './sum_places.js';
import { type Vector, VectorSums } from './vector_sums.js';

/** How gradients are summed. */
export interface Summing {
  /**
   * Whether every micro-batch's gradients are summed for themselves, so that only this process's part of them stays
   * (ZeRO-2). Default: no.
   */
  apart?: boolean;
  /** Whether they are added in the order of the micro-batches, which are `apart` then. Default: no. */
  ordered?: boolean;
  /** How those of matrices travel. Default: 'f32'. */
  type?: SumType;
}

interface Bucket {
  /** In float32. */
  memory: SharedMemory;
  /** Where they are sent from: the same, or in bfloat16. */
  sent: SharedMemory;
  /** Whether matmuls alone write its gradients, each once in a micro-batch. */
  isWrittenOnce: boolean;
  /** Its tensors, which were placed before it had memory, by their matrices. */
  entries: Map<string, Entry>;
  hasAppeared: boolean;
  /** Matrices whose gradients are still to come in this backward. */
  missing: Set<string>;
  /** Where the sum is kept, if that is not in its place among them. */
  part: SharedMemory | undefined;
  /** What adds here what all processes sent, where NCCL does not add. */
  sums: OrderedSums | undefined;
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
  private readonly apart: boolean;
  private readonly ordered: boolean;
  private readonly type: SumType;
  private readonly vectors: VectorSums;
  /** Buckets whose gradients are complete and whose sums have begun, from the last to the first. */
  private complete = 0;
  private begun = 0;
  private batches = 0;
  private isLast = false;

  constructor(
    private readonly gpus: Gpus,
    private readonly sharing: Sharing,
    vectors: ReadonlyMap<string, Vector>,
    vectorElements: number,
    { apart = false, ordered = false, type = 'f32' }: Summing = {},
  ) {
    const { driver } = gpus.backend;
    [this.apart, this.ordered, this.type] = [apart, ordered, type];
    [this.othersSummed, this.allSummed] = [driver.createEvent(), driver.createEvent()];
    this.vectors = new VectorSums(gpus, vectors, vectorElements, ordered);
    const isAddedHere = ordered || type === 'bf16';
    // Of bfloat16 they took longer than NCCL's kernels when it was measured.
    const places = ordered && type === 'f32' && wantsEngines() ? sumPlaces(gpus, sharing.buckets) : undefined;
    this.all = sharing.buckets.map(({ size, slots, isLayer }, index) => {
      const count = size / gpus.communicator.size;
      const part = apart || isAddedHere ? SharedMemory.lasting(driver, count * BYTES.f32) : undefined;
      const { sending, received } = places?.[index] ?? {};
      const sent = sending ?? SharedMemory.lasting(driver, size * BYTES[type]);
      return {
        memory: type === 'f32' ? sent : SharedMemory.lasting(driver, size * BYTES.f32),
        sent,
        isWrittenOnce: isLayer && slots.every(({ name }) => sharing.matrices.get(name)!.shape.length === 2),
        entries: new Map(),
        hasAppeared: false,
        missing: new Set(),
        part,
        sums: part && isAddedHere ? new OrderedSums(gpus, part, count, { type, received }) : undefined,
        summed: driver.createEvent(),
      };
    });
  }

  /** Forgets the sums of the step before. */
  beginStep(): void {
    this.all.forEach((bucket, index) => {
      this.leave(index); // which nobody may have read
      bucket.memory.free();
      if (!this.apart) bucket.part?.free(); // a step's sums come late in it, when what the forward saved has gone
      bucket.hasAppeared = false;
      bucket.sums?.clear();
    });
    this.vectors.beginStep();
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
    this.vectors.beginBatch(sums);
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

  /** Where a bucket's gradients of this micro-batch are made, and how. */
  private made({ memory, sent, isWrittenOnce }: Bucket): { memory: SharedMemory; type: SumType } {
    const isAdded = !this.apart && (this.batches > 1 || !this.isLast);
    return isWrittenOnce && !isAdded ? { memory: sent, type: this.type } : { memory, type: 'f32' };
  }

  private placed({ shape, rows, bucket }: Matrix, address: number): Tensor {
    const { backend } = this.gpus;
    const where = { shape, address, ...this.made(this.all[bucket]!) };
    return keep(engine().makeTensorFromTensorInfo(backend.place(rows ? { ...where, rows } : where), backend));
  }

  /** Gives a bucket's tensors their memory. */
  private appear(index: number): void {
    this.leave(index);
    const bucket = this.all[index]!;
    bucket.hasAppeared = true;
    const { memory, type } = this.made(bucket);
    const { address } = memory;
    for (const [name, entry] of bucket.entries) {
      entry.address = address + this.sharing.matrices.get(name)!.offset * BYTES[type];
      entry.before = undefined;
    }
  }

  /** Takes a gradient that is complete for a micro-batch and gives it back as it lies in its bucket. */
  settle(name: string, gradient: Tensor): Tensor {
    const matrix = this.sharing.matrices.get(name);
    if (!matrix) {
      this.vectors.settle(name, gradient);
      return gradient;
    }
    const { backend } = this.gpus;
    const bucket = this.all[matrix.bucket]!;
    if (!bucket.hasAppeared) this.appear(matrix.bucket);
    const { memory, type } = this.made(bucket);
    const address = memory.address + matrix.offset * BYTES[type];
    let settled = gradient;
    if (backend.present(gradient).address !== address) {
      copyTo(backend, { address, type }, gradient, matrix);
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
    this.vectors.endBatch();
  }

  /** Begins the sums of so many buckets, in one order on all processes: the last layer's first. */
  private beginSums(until: number): void {
    const { gpus } = this;
    const { backend, communicator } = gpus;
    for (; this.begun < until; this.begun++) {
      const index = this.all.length - 1 - this.begun;
      const bucket = this.all[index]!;
      const { memory, sent, entries, part, sums, summed } = bucket;
      if (!bucket.hasAppeared) this.appear(index);
      for (const entry of entries.values()) if (entry.blank) backend.writeZeros(entry);
      entries.clear();
      const { size } = this.sharing.buckets[index]!;
      const { address } = sent;
      if (this.made(bucket).memory !== sent) {
        castTo(backend, { address, type: this.type }, { address: memory.address, type: 'f32' }, size);
        memory.free();
      }
      const count = size / communicator.size;
      // What is kept of the micro-batches before takes part in the sum: a quarter's memory is read, of four GPUs, where matmuls
      // that add to what is there would read all of it.
      if (part && !sums && this.batches > 1)
        addInOrder(backend, address + communicator.rank * count * BYTES.f32, part.address, count, 1, true);
      if (index === 0) gpus.record(this.othersSummed);
      const to = part?.address;
      if (sums) sums.send(address);
      else gpus.begin((collectives, stream) => collectives.reduceScatter(address, count, 'f32', stream, to));
      if (!part) continue;
      gpus.record(summed);
      this.leave(index + 1);
    }
  }

  /** Gives back a bucket whose sum has been made, where that is kept elsewhere. */
  private leave(index: number): void {
    const bucket = this.all[index];
    if (!bucket?.part || !bucket.sent.isThere) return;
    this.gpus.backend.driver.waitEvent(bucket.summed);
    bucket.sums?.add();
    bucket.sent.free();
  }

  /**
   * Ends a step's sums. The device waits for one when it is first read: the norm of the others is taken meanwhile.
   *
   * @param gradients all gradients of this process, which are consumed
   * @returns the sums: of matrices this process's slices, of vectors all
   */
  finish(gradients: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
    const { gpus, vectors } = this;
    const { backend, communicator } = gpus;
    const { driver } = backend;
    vectors.finish(gradients);
    for (const gradient of gradients.values()) gradient.dispose();
    gpus.record(this.allSummed);
    this.all.forEach((_, index) => {
      if (index > 0 || this.ordered) this.leave(index);
    });
    const sums = new Map<string, Tensor>();
    const others = once(() => driver.waitEvent(this.othersSummed));
    const last = once(() => {
      driver.waitEvent(this.allSummed);
      this.leave(0);
    });
    const place = (name: string, shape: number[], memory: SharedMemory, offset: number) => {
      const info = backend.place({ shape, type: 'f32', address: memory.address + offset * BYTES.f32, memory });
      const isLast = isLastSummed(this.sharing.matrices.get(name));
      backend.data.get(info.dataId).before = isLast ? last : others;
      sums.set(name, keep(engine().makeTensorFromTensorInfo(info, backend)));
    };
    for (const [name, { shape, offset }] of vectors.vectors) place(name, shape, vectors.memory, offset);
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
