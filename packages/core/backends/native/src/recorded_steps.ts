/**
 * Steps of generation as lists of calls of the library: a step of a small model costs more in tensors and their bookkeeping than
 * in arithmetic. While a step runs, its calls are noted with their arguments; from then on they are called again, in the same
 * memory, with the new tokens, lengths and pages put where the first ones were. A step is recorded anew when a tensor that it
 * read is gone, such as pages that have grown.
 */
import type { DecodeStep } from '@stickbreaking/core/backend';
import { type DataId, engine, type Tensor, type Tensor1D, type TensorInfo } from '@tensorflow/tfjs-core';
import { type LibraryCall, listening } from './library.js';
import { ArrayPool, OwnValues } from './memory.js';

/** What recording asks of the backend. */
interface Recorder {
  recording: Recording | undefined;
  pool: ArrayPool;
  holds(dataId: DataId, entry: unknown): boolean;
  valuesOf(tensor: TensorInfo): Float32Array | Int32Array;
  makeTensorInfo(shape: number[], dtype: 'int32', values: Int32Array): TensorInfo;
  makeOwn(shape: readonly number[], dtype: 'float32', values: Float32Array): TensorInfo;
  put(tensor: TensorInfo, entry: OwnValues): void;
}

/** Thrown while a step is recorded, where it does what a list of calls does not hold: it then runs as it is. */
class NotRecordable extends Error {}

/** Kernels that do nothing but call the library with what they have read and allocated. */
const RECORDABLE = new Set([
  ...['Embedding', 'RMSNorm', 'ResidualRMSNorm', 'Residual', 'Linears', 'SwiGLU', 'DecodeAttention'],
  ...['HeadNorm', 'RemainderBias', 'MixtureOfExperts', 'Add', 'Sub', 'Multiply', 'RealDiv'],
]);

/** The kernels, of which those that cannot be recorded say so. */
export function recordable<Table extends object>(kernels: Table): Table {
  const entries = Object.entries(kernels).map(([name, kernel]) => {
    const refused = (...args: unknown[]) => {
      if (listening.note) throw new NotRecordable(name);
      return kernel(...args);
    };
    return [name, RECORDABLE.has(name) ? kernel : refused];
  });
  return Object.fromEntries(entries) as Table;
}

/** What is noted while a step runs. */
export class Recording {
  readonly calls: { call: LibraryCall; args: unknown[] }[] = [];
  /** Tensors that were there before, with their entries. */
  readonly reads = new Map<DataId, unknown>();
  /** What the step made: its memory is used again by the step alone. */
  readonly made: OwnValues[] = [];
  readonly pool = new ArrayPool();

  noteRead(dataId: DataId, entry: unknown): void {
    if (!this.made.includes(entry as OwnValues)) this.reads.set(dataId, entry);
  }
}

interface Recorded extends Pick<Recording, 'calls' | 'reads'> {
  /** Where the new values go. */
  step: DecodeStep;
  result: { shape: number[]; values: Float32Array };
}

/** Recorded steps of one owner at most, the last ones used. */
const MOST_STEPS = 16;

export class RecordedSteps {
  private readonly known = new WeakMap<object, Map<string, Recorded | 'unrecordable'>>();

  constructor(private readonly backend: Recorder) {}

  run(step: DecodeStep, run: (tokens: Tensor1D, step: DecodeStep) => Tensor): Tensor {
    const { owner, tokens, lengths, table } = step;
    const all = this.known.get(owner) ?? new Map<string, Recorded | 'unrecordable'>();
    this.known.set(owner, all);
    const key = `${tokens.length} rows of ${table.length} pages`;
    const known = all.get(key);
    all.delete(key);
    if (known === 'unrecordable') {
      all.set(key, known);
      return this.runAsItIs(step, run);
    }
    if (known && this.isValid(known)) {
      all.set(key, known);
      known.step.tokens.set(tokens);
      known.step.lengths.set(lengths);
      known.step.table.set(table);
      for (const { call, args } of known.calls) call(...args);
      return this.copyOf(known.result);
    }
    const recorded = this.record(step, run);
    all.set(key, recorded ?? 'unrecordable');
    for (const oldest of [...all.keys()].slice(0, Math.max(0, all.size - MOST_STEPS))) all.delete(oldest);
    return recorded ? this.copyOf(recorded.result) : this.runAsItIs(step, run);
  }

  private runAsItIs(step: DecodeStep, run: (tokens: Tensor1D, step: DecodeStep) => Tensor): Tensor {
    const ids = this.tensorOf(step.tokens);
    try {
      return run(ids, step);
    } finally {
      ids.dispose();
    }
  }

  private isValid({ reads }: Recorded): boolean {
    for (const [dataId, entry] of reads) if (!this.backend.holds(dataId, entry)) return false;
    return true;
  }

  /** Undefined where the step cannot be recorded. */
  private record(
    { owner, tokens, lengths, table }: DecodeStep,
    run: (tokens: Tensor1D, step: DecodeStep) => Tensor,
  ): Recorded | undefined {
    const { backend } = this;
    const { pool } = backend;
    const recording = new Recording();
    const step = { owner, tokens: tokens.slice(), lengths: lengths.slice(), table: table.slice() };
    backend.recording = recording;
    backend.pool = recording.pool;
    let ids: Tensor1D | undefined;
    try {
      ids = this.tensorOf(step.tokens);
      listening.note = (call, args) => recording.calls.push({ call, args });
      const made = run(ids, step);
      const { shape } = made;
      const values = backend.valuesOf(made) as Float32Array;
      made.dispose();
      // What tfjs's own kernels have read, or made, did not come by calls of the library.
      const { calls, reads } = recording;
      const isWhole = recording.made.every(({ escaped }) => !escaped) && this.isValid({ reads } as Recorded);
      return isWhole ? { calls, reads, step, result: { shape, values } } : undefined;
    } catch (error) {
      if (error instanceof NotRecordable) return undefined;
      throw error;
    } finally {
      ids?.dispose();
      listening.note = undefined;
      backend.recording = undefined;
      backend.pool = pool;
    }
  }

  private tensorOf(values: Int32Array): Tensor1D {
    const info = this.backend.makeTensorInfo([values.length], 'int32', values);
    this.backend.put(info, new OwnValues('int32', values));
    return tensorOf(info) as Tensor1D;
  }

  /** The next step writes over what this one made. */
  private copyOf({ shape, values }: Recorded['result']): Tensor {
    const copy = this.backend.pool.take(values.length);
    copy.set(values);
    return tensorOf(this.backend.makeOwn(shape, 'float32', copy));
  }
}

const tensorOf = (info: TensorInfo): Tensor => engine().makeTensorFromTensorInfo(info);
