/**
 * The gradients of norms, biases and other vectors, which are few: summed at the end of a step in float32, or in order after
 * every micro-batch, and every process has all of them.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import { castTo } from '../casts.js';
import { SharedMemory } from '../shared_memory.js';
import { BYTES } from '../storage.js';
import type { Gpus } from './gpus.js';
import { OrderedSums } from './ordered_sums.js';

/** Where a vector's gradient begins, in elements. */
export interface Vector {
  shape: number[];
  offset: number;
  elements: number;
}

export class VectorSums {
  readonly memory: SharedMemory;
  /** Where micro-batches are added in their order: this process's, and what is made of them. */
  private readonly own: SharedMemory;
  private readonly ordered: OrderedSums | undefined;
  private readonly gradients = new Map<string, Tensor>();

  /** @param ordered whether micro-batches are added in their order */
  constructor(
    private readonly gpus: Gpus,
    readonly vectors: ReadonlyMap<string, Vector>,
    private readonly elements: number,
    ordered: boolean,
  ) {
    const { driver } = gpus.backend;
    this.memory = SharedMemory.lasting(driver, elements * BYTES.f32);
    this.own = SharedMemory.lasting(driver, elements * BYTES.f32);
    if (ordered) this.ordered = new OrderedSums(gpus, this.memory, elements);
  }

  /** Forgets the sums of the step before. */
  beginStep(): void {
    this.ordered?.clear();
  }

  /** @param sums gradients of the micro-batch before, of which those that have been sent go */
  beginBatch(sums: Map<string, Tensor>): void {
    this.gradients.clear();
    if (!this.ordered) return;
    for (const name of this.vectors.keys()) {
      sums.get(name)?.dispose();
      sums.delete(name);
    }
  }

  /** Takes a gradient that is complete for a micro-batch. */
  settle(name: string, gradient: Tensor): void {
    if (this.ordered) this.gradients.set(name, gradient);
  }

  endBatch(): void {
    if (!this.ordered) return;
    this.ordered.add();
    this.collect(this.own.address, this.gradients);
    this.ordered.sendToAll(this.own.address);
  }

  /** Ends a step's sums. */
  finish(gradients: ReadonlyMap<string, Tensor>): void {
    const { gpus, elements } = this;
    const { address } = this.memory;
    if (this.ordered) {
      this.ordered.add();
      return;
    }
    this.collect(address, gradients);
    gpus.begin((collectives, stream) => collectives.allReduce(address, elements, 'f32', stream));
  }

  /** Puts the gradients where they lie together; zeros where there is none. */
  private collect(address: number, gradients: ReadonlyMap<string, Tensor>): void {
    const { backend } = this.gpus;
    const { driver } = backend;
    driver.call('cuMemsetD8Async', address, 0, this.elements * BYTES.f32, driver.stream);
    for (const [name, { offset, elements }] of this.vectors) {
      const gradient = gradients.get(name);
      const to = address + offset * BYTES.f32;
      if (gradient) castTo(backend, { address: to, type: 'f32' }, backend.entry(gradient), elements);
    }
  }
}
