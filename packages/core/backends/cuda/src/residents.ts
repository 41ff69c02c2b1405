/** Memory that stays on the GPU from one step of generation to the next, under names. */
import { engine, type Tensor1D, type TensorInfo } from '@tensorflow/tfjs-core';
import { NotRecordable } from './arena.js';
import type { CudaDriver } from './driver.js';
import type { Graphs } from './graphs.js';

/** What this asks of the backend. */
interface Host {
  readonly driver: CudaDriver;
  readonly graphs: Graphs;
  upload(address: number, values: ArrayBufferView): void;
  place(placed: { shape: number[]; type: 'i32'; address: number; borrowed: true }): TensorInfo;
}

interface Block {
  address: number;
  bytes: number;
  /** The host's array that it holds. */
  holds?: ArrayBufferView | undefined;
}

export class Residents {
  private readonly blocks = new Map<string, Block>();

  constructor(private readonly backend: Host) {}

  /** Memory of its own for a name, zeroed when it is new. */
  block(name: string, bytes: number): Block {
    let block = this.blocks.get(name);
    if (!block || block.bytes < bytes) {
      if (this.backend.graphs.isRecording) throw new NotRecordable('memory that stays');
      const { driver } = this.backend;
      if (block) driver.release(block.address);
      const size = Math.max(16, Math.ceil(bytes * 1.25));
      block = { address: driver.allocate(size), bytes: size };
      driver.call('cuMemsetD8Async', block.address, 0, size, driver.stream);
      this.blocks.set(name, block);
    }
    this.backend.graphs.noteResident(name, block.address, () => this.blocks.get(name)?.address);
    return block;
  }

  /** The array on the GPU; the one that is there already is not uploaded again. */
  array(name: string, values: Int32Array | Float32Array): number {
    const block = this.block(name, values.byteLength);
    if (block.holds !== values) this.backend.upload(block.address, values);
    block.holds = values;
    return block.address;
  }

  /** The same as a tensor, valid until the name gets another array. */
  tensor(name: string, values: Int32Array): Tensor1D {
    const address = this.array(name, values);
    const info = this.backend.place({ shape: [values.length], type: 'i32', address, borrowed: true });
    return engine().makeTensorFromTensorInfo(info) as Tensor1D;
  }
}
