/**
 * The weights of a model on several GPUs that take its batches in turns (ZeRO-1, https://arxiv.org/abs/1910.02054): every
 * GPU has all weights in bfloat16 and all gradients, and of the float32 weights and of what the optimizer keeps only its
 * part. Gradients are summed a bucket at a time while the backward goes on, and the weights that each GPU has updated are
 * brought to the others while the next forward begins. Norms, biases and other vectors are the same everywhere.
 */
import { engine, keep, type Tensor, type Variable, variable } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import type { Rows } from '../rows.js';
import { SharedMemory } from '../shared_memory.js';
import { BYTES, elementsOf } from '../storage.js';
import type { Gpus } from './gpus.js';
import { type Bucket, bucketsOf, type Slice, slicesOf } from './layout.js';

interface Matrix {
  shape: number[];
  rows: Rows | undefined;
  elements: number;
  bucket: number;
  offset: number;
}

/** A bucket in memory. */
interface Memory {
  /** bfloat16 */
  weights: SharedMemory;
  /** float32 */
  gradients: SharedMemory;
  /** Recorded when its weights have come from all others. */
  gathered: number;
  /** Matrices whose gradients are still to come in this step's last backward. */
  missing: Set<string>;
}

export class ShardedWeights {
  /** What this process updates: its parts of matrices, in float32 and named like these, and all vectors. */
  readonly owned = new Map<string, Variable>();
  readonly buckets: readonly Bucket[];
  private readonly slices: readonly Slice[];
  private readonly memory: Memory[];
  private readonly matrices = new Map<string, Matrix>();
  /** Where each vector's gradient begins in `vectorGradients`, in elements. */
  private readonly vectors = new Map<string, { shape: number[]; offset: number; elements: number }>();
  private readonly vectorGradients: SharedMemory;
  private readonly vectorElements: number;
  /** Buckets whose sums were begun in this step: from the last to the first. */
  private begun = 0;

  /**
   * Takes over the memory of the model's parameters.
   *
   * @param isMatrix whether a parameter is read by matmuls alone, in bfloat16
   */
  constructor(
    private readonly gpus: Gpus,
    private readonly parameters: ReadonlyMap<string, Variable>,
    isMatrix: (name: string, parameter: Variable) => boolean,
  ) {
    const { backend } = gpus;
    const { rank, size } = gpus.communicator;
    const items: { name: string; elements: number }[] = [];
    let vectorEnd = 0;
    for (const [name, parameter] of parameters) {
      if (isMatrix(name, parameter)) {
        items.push({ name, elements: elementsOf(backend.stored(parameter)) });
        continue;
      }
      this.vectors.set(name, { shape: parameter.shape, offset: vectorEnd, elements: parameter.size });
      vectorEnd += Math.ceil(parameter.size / 8) * 8;
      this.owned.set(name, parameter);
    }
    this.buckets = bucketsOf(items, size);
    this.slices = slicesOf(this.buckets, rank, size);
    this.vectorElements = vectorEnd;
    this.vectorGradients = SharedMemory.lasting(backend.driver, vectorEnd * BYTES.f32);
    this.memory = this.buckets.map((bucket, index) => this.takeOver(bucket, index));
  }

  /** Moves a bucket's weights to memory of its own, and this process's part of them in float32 to memory of its own. */
  private takeOver({ slots, size }: Bucket, index: number): Memory {
    const { parameters } = this;
    const { backend } = this.gpus;
    const { driver } = backend;
    const weights = SharedMemory.lasting(driver, size * BYTES.bf16);
    const gradients = SharedMemory.lasting(driver, size * BYTES.f32);
    driver.call('cuMemsetD8Async', weights.address, 0, size * BYTES.bf16, driver.stream);
    for (const { name, offset, elements } of slots) {
      const parameter = parameters.get(name)!;
      const entry = backend.stored(parameter);
      const own = this.slices.find((slice) => slice.name === name);
      const address = weights.address + offset * BYTES.bf16;
      this.matrices.set(name, { shape: parameter.shape, rows: entry.rows, elements, bucket: index, offset });
      backend.castTo({ address, type: 'bf16' }, entry, elements);
      if (own) this.owned.set(name, this.part(own, entry.address, entry.type === 'f32', weights));
      backend.releaseCopy(entry);
      backend.releaseMemory(entry);
      Object.assign(entry, { address, type: 'bf16', memory: weights });
    }
    return { weights, gradients, gathered: driver.createEvent(), missing: new Set() };
  }

  /** This process's part of a matrix in float32, whose bfloat16 copy is the matrix's own memory. */
  private part({ from, offset, length }: Slice, matrix: number, isFloat32: boolean, weights: SharedMemory): Variable {
    const { backend } = this.gpus;
    if (!isFloat32) throw new Error('a matrix is to be shared out before anything has changed how it is stored');
    const info = backend.make([1, length], 'f32');
    const entry = backend.stored(info);
    const bytes = length * BYTES.f32;
    backend.driver.call(
      'cuMemcpyDtoDAsync_v2',
      entry.address,
      matrix + offset * BYTES.f32,
      bytes,
      backend.driver.stream,
    );
    entry.copy = weights.address + from * BYTES.bf16;
    entry.copyMemory = weights;
    const tensor = this.asTensor(info);
    const made = variable(tensor);
    tensor.dispose();
    return made;
  }

  private asTensor(info: ReturnType<CudaBackend['make']>): Tensor {
    return keep(engine().makeTensorFromTensorInfo(info, this.gpus.backend));
  }

  /** Zeros to which a step's gradients are added, by the matrices' names: they lie in the buckets. */
  zeroSums(): Map<string, Tensor> {
    const { driver } = this.gpus.backend;
    this.begun = 0;
    this.memory.forEach(({ gradients, missing }, index) => {
      const { size, slots } = this.buckets[index]!;
      driver.call('cuMemsetD8Async', gradients.address, 0, size * BYTES.f32, driver.stream);
      missing.clear();
      for (const { name } of slots) missing.add(name);
    });
    return new Map([...this.matrices.keys()].map((name) => [name, this.sumOf(name)]));
  }

  private gradientAddress({ bucket, offset }: Matrix): number {
    return this.memory[bucket]!.gradients.address + offset * BYTES.f32;
  }

  private sumOf(name: string): Tensor {
    const matrix = this.matrices.get(name)!;
    const { shape, rows, bucket } = matrix;
    const { gradients } = this.memory[bucket]!;
    const placed = { shape, type: 'f32' as const, address: this.gradientAddress(matrix), memory: gradients };
    return this.asTensor(this.gpus.backend.place(rows ? { ...placed, rows } : placed));
  }

  /**
   * Takes a gradient that is complete for a micro-batch and gives it back as it lies in its bucket. In a step's last
   * micro-batch that begins the sum over all processes, once a bucket's gradients are all there.
   */
  settle(name: string, gradient: Tensor, isLast: boolean): Tensor {
    const matrix = this.matrices.get(name);
    if (!matrix) return gradient;
    const { backend } = this.gpus;
    const address = this.gradientAddress(matrix);
    let settled = gradient;
    if (backend.stored(gradient).address !== address) {
      const { shape } = matrix;
      const columns = shape[shape.length - 1]!;
      const { stride, width, count } = matrix.rows ?? { stride: columns, width: columns, count: 0 };
      const entry = backend.entry(gradient);
      const rows = entry.size / columns;
      backend.copyRows(
        { address, columns: Math.max(stride, width), rows: Math.max(rows, count) },
        { address: entry.address, columns, rows, stride: columns },
        'f32',
      );
      settled = this.sumOf(name);
      gradient.dispose();
    }
    if (isLast) {
      this.memory[matrix.bucket]!.missing.delete(name);
      this.beginSums(false);
    }
    return settled;
  }

  /** Begins the sums of the buckets that are complete, in one order on all processes: the last layer's first. */
  private beginSums(all: boolean): void {
    for (; this.begun < this.buckets.length; this.begun++) {
      const index = this.buckets.length - 1 - this.begun;
      const { gradients, missing } = this.memory[index]!;
      if (missing.size > 0 && !all) return;
      const count = this.buckets[index]!.size / this.gpus.communicator.size;
      this.gpus.begin((communicator, stream) => communicator.reduceScatter(gradients.address, count, 'f32', stream));
    }
  }

  /**
   * Ends a step's sums.
   *
   * @param gradients all gradients of this process, which are consumed; undefined where it had no micro-batch
   * @returns the sums that belong to `owned`
   */
  finishSums(gradients: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
    const { gpus } = this;
    const { backend } = gpus;
    const { driver } = backend;
    this.beginSums(true);
    driver.call('cuMemsetD8Async', this.vectorGradients.address, 0, this.vectorElements * BYTES.f32, driver.stream);
    for (const [name, { offset, elements }] of this.vectors) {
      const gradient = gradients.get(name);
      if (!gradient) continue;
      const to = this.vectorGradients.address + offset * BYTES.f32;
      backend.castTo({ address: to, type: 'f32' }, backend.entry(gradient), elements);
    }
    for (const gradient of gradients.values()) gradient.dispose();
    const { address: vectors } = this.vectorGradients;
    gpus.begin((communicator, stream) => communicator.allReduce(vectors, this.vectorElements, 'f32', stream));
    gpus.await();
    const sums = new Map<string, Tensor>();
    for (const [name, { shape, offset }] of this.vectors) {
      const address = this.vectorGradients.address + offset * BYTES.f32;
      sums.set(name, this.asTensor(backend.place({ shape, type: 'f32', address, memory: this.vectorGradients })));
    }
    for (const { name, bucket, from, length } of this.slices) {
      const { gradients: memory } = this.memory[bucket]!;
      const address = memory.address + from * BYTES.f32;
      sums.set(name, this.asTensor(backend.place({ shape: [1, length], type: 'f32', address, memory })));
    }
    return new Map([...this.owned.keys()].map((name) => [name, sums.get(name)!]));
  }

  /** Those of a step's sums that count once over all processes. */
  countedOnce(sums: ReadonlyMap<string, Tensor>): Tensor[] {
    const isFirst = this.gpus.communicator.rank === 0;
    return [...sums].flatMap(([name, sum]) => (isFirst || this.matrices.has(name) ? [sum] : []));
  }

  /** Brings the weights that each process has updated to all others; a layer's forward waits for its own alone. */
  gatherWeights(): void {
    const { gpus } = this;
    this.memory.forEach(({ weights, gathered }, index) => {
      const { size, slots } = this.buckets[index]!;
      gpus.begin((communicator, stream) => {
        communicator.allGather(weights.address, size / communicator.size, 'bf16', stream);
      });
      gpus.record(gathered);
      for (const { name } of slots) {
        const entry = gpus.backend.data.get(this.parameters.get(name)!.dataId);
        entry.ready = gathered;
        entry.updates = (entry.updates ?? 0) + 1;
      }
    });
  }

  /**
   * Whole tensors of what every process has its part of, one after the other in the order of the parameters: every
   * process must take all of them.
   *
   * @param parts tensors named and shaped like those of `owned`
   * @returns values on the first process, undefined on the others
   */
  *whole(parts: ReadonlyMap<string, Tensor>): Generator<{ name: string; shape: number[]; values?: Float32Array }> {
    const { rank } = this.gpus.communicator;
    let loaded: { bucket: number; values: Float32Array | undefined } | undefined;
    for (const name of this.parameters.keys()) {
      const matrix = this.matrices.get(name);
      if (!matrix) {
        const part = parts.get(name)!;
        yield { name, shape: part.shape, ...(rank === 0 ? { values: part.dataSync() as Float32Array } : {}) };
        continue;
      }
      const { bucket, offset, elements, shape, rows } = matrix;
      if (loaded?.bucket !== bucket) loaded = { bucket, values: this.gathered(bucket, parts) };
      const stored = loaded.values?.subarray(offset, offset + elements);
      yield { name, shape, ...(stored ? { values: withoutPadding(stored, shape, rows) } : {}) };
    }
  }

  /** All processes' parts of a bucket, in float32, on the first. */
  private gathered(index: number, parts: ReadonlyMap<string, Tensor>): Float32Array | undefined {
    const { gpus } = this;
    const { backend } = gpus;
    const { driver } = backend;
    const { size } = this.buckets[index]!;
    return backend.withScratch((scratch) => {
      const address = scratch.allocate(size * BYTES.f32);
      for (const { name, bucket, from, length } of this.slices) {
        if (bucket !== index) continue;
        backend.castTo({ address: address + from * BYTES.f32, type: 'f32' }, backend.entry(parts.get(name)!), length);
      }
      gpus.begin((communicator, stream) => communicator.allGather(address, size / communicator.size, 'f32', stream));
      gpus.await();
      const values = gpus.communicator.rank === 0 ? new Float32Array(size) : undefined;
      if (values) driver.call('cuMemcpyDtoHAsync_v2', values, address, values.byteLength, driver.stream);
      driver.synchronize();
      return values;
    });
  }

  /** This process's part of a whole tensor, as `owned` has it. */
  partOf(name: string, values: Float32Array): Float32Array {
    const matrix = this.matrices.get(name);
    if (!matrix) return values;
    const { offset, length } = this.slices.find((slice) => slice.name === name)!;
    return withPadding(values, matrix.shape, matrix.rows).subarray(offset, offset + length);
  }

  /** The shape of the whole tensor of which `owned` has a part. */
  shapeOf(name: string): number[] {
    return this.matrices.get(name)?.shape ?? this.vectors.get(name)!.shape;
  }
}

/** A matrix as it lies in memory, without what its rows are filled up with. */
function withoutPadding(stored: Float32Array, shape: readonly number[], rows: Rows | undefined): Float32Array {
  if (!rows) return stored;
  const count = shape.slice(0, -1).reduce((product, length) => product * length, 1);
  const values = new Float32Array(count * rows.columns);
  for (let r = 0; r < count; r++)
    values.set(stored.subarray(r * rows.stride, r * rows.stride + rows.columns), r * rows.columns);
  return values;
}

function withPadding(values: Float32Array, shape: readonly number[], rows: Rows | undefined): Float32Array {
  if (!rows) return values;
  const count = shape.slice(0, -1).reduce((product, length) => product * length, 1);
  const stored = new Float32Array(rows.count * rows.stride);
  for (let r = 0; r < count; r++)
    stored.set(values.subarray(r * rows.columns, (r + 1) * rows.columns), r * rows.stride);
  return stored;
}
