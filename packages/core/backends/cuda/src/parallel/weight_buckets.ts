/**
 * The weights of a model on several GPUs in bfloat16, a bucket a layer. Either every GPU has all of them, and what each
 * has updated is brought to the others while the next forward begins; or it has its part, and a layer's are gathered as
 * a forward or a backward comes to it, one layer ahead, and given back behind it (ZeRO-3).
 */
import { engine, keep, type Variable, variable } from '@tensorflow/tfjs-core';
import { castTo } from '../casts.js';
import { releaseCopies, releaseMemory } from '../entry_memory.js';
import { SharedMemory } from '../shared_memory.js';
import { BYTES, type Entry } from '../storage.js';
import type { Gpus } from './gpus.js';
import type { Sharing, Slice } from './layout.js';

/** Bytes that a bucket begins at a multiple of. */
const ALIGNMENT = 4096;

interface Bucket {
  /** All of it. */
  memory: SharedMemory;
  /** This process's part, where that is all it has. */
  part: SharedMemory | undefined;
  /** Recorded when it has come from all others. */
  gathered: number;
}

export class WeightBuckets {
  private readonly all: Bucket[];
  /** The bucket that was read last, and the one before. */
  private reached = 0;
  private before = -1;

  constructor(
    private readonly gpus: Gpus,
    private readonly sharing: Sharing,
    private readonly parameters: ReadonlyMap<string, Variable>,
    inParts: boolean,
  ) {
    const { driver } = gpus.backend;
    const { size: processes } = gpus.communicator;
    const memories = inParts ? undefined : givenBy(gpus, sharing);
    this.all = sharing.buckets.map(({ size }, index) => ({
      memory: memories?.[index] ?? SharedMemory.lasting(driver, size * BYTES.bf16),
      part: inParts ? SharedMemory.lasting(driver, (size / processes) * BYTES.bf16) : undefined,
      gathered: driver.createEvent(),
    }));
  }

  /** Moves the weights to the buckets. Returns this process's slices in float32, whose bfloat16 copies lie there. */
  takeOver(): Map<string, Variable> {
    const { backend } = this.gpus;
    const { driver } = backend;
    const owned = new Map<string, Variable>();
    this.all.forEach(({ memory, part }, index) => {
      const { slots, size } = this.sharing.buckets[index]!;
      const bytes = size * BYTES.bf16;
      driver.call('cuMemsetD8Async', memory.address, 0, bytes, driver.stream);
      for (const { name, offset, elements } of slots) {
        const entry = backend.stored(this.parameters.get(name)!);
        const slice = this.sharing.slices.find((one) => one.name === name);
        const address = memory.address + offset * BYTES.bf16;
        castTo(backend, { address, type: 'bf16' }, entry, elements);
        if (slice) owned.set(name, this.slice(slice, entry));
        releaseCopies(backend.driver, entry);
        releaseMemory(backend.driver, entry);
        Object.assign(entry, { address, type: 'bf16', memory });
      }
      if (!part) return;
      const { rank, size: processes } = this.gpus.communicator;
      const length = size / processes;
      const own = memory.address + rank * length * BYTES.bf16;
      castTo(backend, { address: part.address, type: 'bf16' }, { address: own, type: 'bf16' }, length);
      this.leave(index);
    });
    return owned;
  }

  /** This process's part of a matrix in float32. */
  private slice({ bucket, from, offset, length }: Slice, matrix: Entry): Variable {
    const { backend, communicator } = this.gpus;
    if (matrix.type !== 'f32')
      throw new Error('a matrix is to be shared out before anything has changed how it is stored');
    const info = backend.make([1, length], 'f32');
    const entry = backend.stored(info);
    castTo(backend, entry, { address: matrix.address + offset * BYTES.f32, type: 'f32' }, length);
    const { memory, part } = this.all[bucket]!;
    const own = (this.sharing.buckets[bucket]!.size / communicator.size) * communicator.rank;
    entry.copyMemory = part ?? memory;
    entry.copy = entry.copyMemory.address + (part ? from - own : from) * BYTES.bf16;
    const tensor = keep(engine().makeTensorFromTensorInfo(info, backend));
    const made = variable(tensor);
    tensor.dispose();
    return made;
  }

  private entriesOf(index: number): { entry: Entry; offset: number }[] {
    const { data } = this.gpus.backend;
    return this.sharing.buckets[index]!.slots.map(({ name, offset }) => {
      return { entry: data.get(this.parameters.get(name)!.dataId), offset };
    });
  }

  /** After an update of what is in the layers, or is not: what is read of it from here on has every process's part. */
  renew(inLayers: boolean): void {
    const { driver } = this.gpus.backend;
    this.all.forEach(({ gathered, part }, index) => {
      if (this.sharing.buckets[index]!.isLayer !== inLayers) return;
      for (const { entry } of this.entriesOf(index)) {
        entry.updates = (entry.updates ?? 0) + 1;
        if (!part) entry.before = () => driver.waitEvent(gathered);
      }
      if (part) this.leave(index);
      else this.gather(index);
    });
  }

  private gather(index: number): void {
    const { memory, part, gathered } = this.all[index]!;
    const count = this.sharing.buckets[index]!.size / this.gpus.communicator.size;
    const { address } = memory; // taken before: its memory may be what a computation so far has used
    this.gpus.begin((communicator, stream) => communicator.allGather(address, count, 'bf16', stream, part?.address));
    this.gpus.record(gathered);
    if (!part) return;
    for (const { entry, offset } of this.entriesOf(index)) entry.address = address + offset * BYTES.bf16;
  }

  /** Weights in parts: gives a bucket's memory back until it is read again. */
  private leave(index: number): void {
    const { memory, gathered } = this.all[index]!;
    // It may be on its way though nothing has read it.
    if (memory.isThere) this.gpus.backend.driver.waitEvent(gathered);
    memory.free();
    for (const { entry } of this.entriesOf(index)) entry.before = () => this.reach(index);
  }

  /** Weights in parts: one of them is about to be read. The next in the same direction are gathered meanwhile. */
  private reach(index: number): void {
    const { driver } = this.gpus.backend;
    const isNeighbour = Math.abs(index - this.reached) === 1;
    const next = isNeighbour ? 2 * index - this.reached : index;
    [this.before, this.reached] = [this.reached, index];
    this.all.forEach(({ memory }, other) => {
      if (memory.isThere && ![index, next, this.before].includes(other)) this.leave(other);
    });
    for (const one of [index, next]) {
      const bucket = this.all[one];
      if (bucket && !bucket.memory.isThere) this.gather(one);
    }
    driver.waitEvent(this.all[index]!.gathered);
    for (const { entry } of this.entriesOf(index)) entry.before = undefined;
  }
}

/** Memory of all buckets, in which copy engines gather; undefined where there is none. */
function givenBy({ backend: { driver }, communicator }: Gpus, { buckets }: Sharing): SharedMemory[] | undefined {
  const bytes = buckets.map(({ size }) => Math.ceil((size * BYTES.bf16) / ALIGNMENT) * ALIGNMENT);
  const whole = bytes.reduce((sum, one) => sum + one, 0);
  driver.trim();
  let address = communicator.memory(whole);
  if (address === undefined) return undefined;
  driver.elsewhere += whole;
  return bytes.map((length) => {
    const memory = SharedMemory.at(driver, address!);
    address! += length;
    return memory;
  });
}
