/**
 * Steps of generation as CUDA graphs: the launches of one step are recorded, and then launched as one. A recorded step reads and
 * writes the same addresses every time, so what it makes lies in an arena of its own, what changes from step to step is uploaded
 * to places that stay, and a step is recorded anew when a tensor that it read has moved.
 */
import { engine, type Tensor, type Tensor1D, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { ARENA_BYTES, Arena, NotRecordable } from './arena.js';
import type { CudaDriver } from './driver.js';
import type { Rows } from './rows.js';
import { BYTES, type Entry, elementsOf, type StorageType } from './storage.js';

/** What recording asks of the backend. */
interface Recorded {
  readonly driver: CudaDriver;
  stored(tensor: TensorInfo): Entry;
  place(result: Graph['result']): TensorInfo;
}

/** A tensor that a recorded step reads, where it was. */
interface Read {
  entry: Entry;
  address: number;
  copy: number | undefined;
}

interface Graph {
  executable: number;
  reads: Read[];
  /** Places that stay, by their names, where they were. */
  residents: Map<string, { where: () => number | undefined; address: number }>;
  result: { shape: number[]; type: StorageType; address: number; rows?: Rows };
}

/** What is known of a step: it has run once, it cannot be recorded, or it is. */
type Known = 'seen' | 'unrecordable' | Graph;

/** CU_STREAM_CAPTURE_MODE_THREAD_LOCAL */
const THREAD_LOCAL = 1;

export class Graphs {
  private arena: Arena | undefined;
  private readonly knownOf = new WeakMap<object, Map<string, Known>>();
  private recording: { reads: Map<Entry, Read>; residents: Graph['residents'] } | undefined;

  constructor(private readonly backend: Recorded) {}

  get isRecording(): boolean {
    return this.recording !== undefined;
  }

  /** Told of every tensor that a kernel asks for. */
  noteRead(entry: Entry): void {
    const { recording, arena } = this;
    if (!recording || entry.borrowed || arena!.owns(entry.address) || recording.reads.has(entry)) return;
    recording.reads.set(entry, { entry, address: entry.address, copy: entry.copy });
  }

  /** Told of every place that stays, as a kernel asks for it. */
  noteResident(name: string, address: number, where: () => number | undefined): void {
    this.recording?.residents.set(name, { address, where });
  }

  /** @param key tells an owner's steps apart that launch something else */
  run(owner: object, key: string, tokens: Tensor1D, step: (tokens: Tensor1D) => Tensor): Tensor {
    const all = this.knownOf.get(owner) ?? new Map<string, Known>();
    this.knownOf.set(owner, all);
    let known = all.get(key);
    if (typeof known === 'object' && !this.isValid(known)) {
      this.backend.driver.call('cuGraphExecDestroy', known.executable);
      known = 'seen';
    }
    if (known === undefined || known === 'unrecordable') {
      all.set(key, known ?? 'seen');
      return step(tokens);
    }
    if (known === 'seen') known = this.record(tokens, step) ?? 'unrecordable';
    all.set(key, known);
    if (known === 'unrecordable') return step(tokens);
    const { driver } = this.backend;
    driver.call('cuGraphLaunch', known.executable, driver.stream);
    // The next step writes over what this one made.
    const { result } = known;
    const bytes = elementsOf({ ...result, size: util.sizeFromShape(result.shape) }) * BYTES[result.type];
    const address = driver.allocate(bytes);
    driver.call('cuMemcpyDtoDAsync_v2', address, result.address, bytes, driver.stream);
    return engine().makeTensorFromTensorInfo(this.backend.place({ ...result, address }));
  }

  private isValid({ reads, residents }: Graph): boolean {
    for (const { entry, address, copy } of reads)
      if (entry.refCount <= 0 || entry.address !== address || entry.copy !== copy) return false;
    for (const { where, address } of residents.values()) if (where() !== address) return false;
    return true;
  }

  private record(tokens: Tensor1D, step: (tokens: Tensor1D) => Tensor): Graph | undefined {
    const { driver } = this.backend;
    this.arena ??= driver.addArena(new Arena(driver.allocate(ARENA_BYTES)));
    this.arena.reset();
    this.recording = { reads: new Map(), residents: new Map() };
    driver.call('cuStreamBeginCapture_v2', driver.stream, THREAD_LOCAL);
    driver.arena = this.arena;
    let result: Graph['result'] | undefined;
    let graph: number | undefined;
    const { reads, residents } = this.recording;
    try {
      const made = step(tokens);
      const { address, type, rows } = this.backend.stored(made);
      result = { shape: made.shape, type, address, ...(rows ? { rows } : {}) };
      made.dispose();
    } catch (error) {
      if (!(error instanceof NotRecordable)) throw error;
    } finally {
      driver.arena = undefined;
      this.recording = undefined;
      graph = driver.endCapture();
      driver.releaseDeferred();
    }
    if (graph === undefined) return undefined;
    try {
      return result && { executable: driver.instantiate(graph), reads: [...reads.values()], residents, result };
    } finally {
      driver.call('cuGraphDestroy', graph);
    }
  }
}
