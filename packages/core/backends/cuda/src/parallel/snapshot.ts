/**
 * A copy of what a process has its part of, on the GPU, from which it is read piece by piece while the run goes on.
 * Where there is no memory for a copy, the tensors themselves are read, and must stay as they are meanwhile.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { OutOfMemoryError } from '@stickbreaking/base';
import type { Tensor } from '@tensorflow/tfjs-core';
import { castTo } from '../casts.js';
import { BYTES, type Entry } from '../storage.js';
import type { Gpus } from './gpus.js';
import { type Matrix, rangeWithoutPadding, type Sharing } from './layout.js';

/** Numbers of a whole tensor that follow one another. */
export interface Piece {
  /** Which of the lists it is from. */
  list: number;
  name: string;
  /** The first number's index in the whole tensor. */
  from: number;
  /** Valid until the next piece is asked for. */
  values: Float32Array;
}

/** Numbers that are read at once. */
const PIECE = 2 ** 23;

interface Part {
  list: number;
  name: string;
  matrix: Matrix | undefined;
  /** From the start of the matrix, with its padding. */
  offset: number;
  length: number;
  source: Pick<Entry, 'address' | 'type'>;
}

export class Snapshot {
  /** Whether the tensors may change while it is read. */
  readonly isCopy: boolean;
  private readonly parts: Part[] = [];
  private readonly memory: number;

  /** @param lists tensors named and shaped like a process's own; of vectors the first process has those that are read */
  constructor(
    private readonly gpus: Gpus,
    { matrices, slices }: Sharing,
    lists: readonly ReadonlyMap<string, Tensor>[],
  ) {
    const { backend, communicator } = gpus;
    const sliceOf = new Map(slices.map((slice) => [slice.name, slice]));
    for (const [list, tensors] of lists.entries())
      for (const [name, tensor] of tensors) {
        const matrix = matrices.get(name);
        if (!matrix && communicator.rank > 0) continue;
        const { offset, length } = matrix ? sliceOf.get(name)! : { offset: 0, length: tensor.size };
        this.parts.push({ list, name, matrix, offset, length, source: backend.entry(tensor) });
      }
    const total = this.parts.reduce((sum, { length }) => sum + length, 0);
    const copy = this.allocate(total * BYTES.f32);
    this.isCopy = copy !== undefined;
    this.memory = copy ?? backend.driver.allocate(PIECE * BYTES.f32);
    if (copy === undefined) return;
    let address = copy;
    for (const part of this.parts) {
      castTo(backend, { address, type: 'f32' }, part.source, part.length);
      part.source = { address, type: 'f32' };
      address += part.length * BYTES.f32;
    }
  }

  private allocate(bytes: number): number | undefined {
    try {
      return this.gpus.backend.driver.allocate(bytes);
    } catch (error) {
      if (error instanceof OutOfMemoryError) return undefined;
      throw error;
    }
  }

  async *pieces(): AsyncGenerator<Piece> {
    const { backend } = this.gpus;
    const { driver } = backend;
    const event = driver.createEvent();
    const stream = this.gpus.copyStream();
    const pinned = this.gpus.pinned(PIECE * BYTES.f32);
    driver.recordEvent(event);
    driver.waitEvent(event, stream);
    for (const { list, name, matrix, offset, length, source } of this.parts)
      for (let start = 0; start < length; start += PIECE) {
        const count = Math.min(PIECE, length - start);
        let address = source.address + start * BYTES[source.type];
        if (!this.isCopy) {
          castTo(backend, { address: this.memory, type: 'f32' }, { address, type: source.type }, count);
          address = this.memory;
          driver.recordEvent(event);
          driver.waitEvent(event, stream);
        }
        const numbers = new Float32Array(pinned, 0, count);
        driver.call('cuMemcpyDtoHAsync_v2', numbers, address, numbers.byteLength, stream);
        driver.recordEvent(event, stream);
        while (!driver.eventDone(event)) await sleep(1);
        const at = offset + start;
        yield { list, name, ...(matrix ? rangeWithoutPadding(matrix, at, numbers) : { from: at, values: numbers }) };
      }
    driver.call('cuEventDestroy_v2', event);
  }

  /** Gives its memory back. */
  dispose(): void {
    this.gpus.backend.driver.release(this.memory);
  }
}
