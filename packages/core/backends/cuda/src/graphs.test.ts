/** When a step of generation is recorded, repeated and recorded anew, on a driver that only notes what it is told. */
import '@tensorflow/tfjs-backend-cpu';
import { type Tensor, type Tensor1D, tensor1d } from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { type Arena, NotRecordable } from './arena.js';
import { paddedStep } from './decode_step.js';
import { Graphs } from './graphs.js';
import type { Entry } from './storage.js';

function setUp() {
  const calls: string[] = [];
  let next = 2 ** 30;
  const allocate = (bytes: number) => {
    next += 2 ** 28;
    return next - 2 ** 28 + (bytes - bytes);
  };
  const driver = {
    arena: undefined as Arena | undefined,
    stream: 1,
    allocate: (bytes: number) => (driver.arena ? driver.arena.take(bytes) : allocate(bytes)),
    addArena: (arena: Arena) => arena,
    call: (name: string) => void calls.push(name),
    endCapture: () => 7,
    instantiate: () => 8,
    releaseDeferred: () => {},
  };
  const entries = new Map<object, Entry>();
  const backend = {
    driver: driver as never,
    stored(tensor: { dataId: object }): Entry {
      const entry = entries.get(tensor.dataId)!;
      graphs.noteRead(entry);
      return entry;
    },
    place: ({ shape }: { shape: number[] }) => {
      const { dataId } = tensor1d(new Float32Array(shape[0]!));
      return { dataId, shape, dtype: 'float32' as const };
    },
  };
  const graphs = new Graphs(backend as never);
  const weight = {};
  const entry: Entry = { address: 64, size: 4, type: 'bf16', dtype: 'float32', refCount: 1 };
  entries.set(weight, entry);
  let runs = 0;
  let recordable = true;
  const step = (): Tensor => {
    runs++;
    backend.stored({ dataId: weight });
    if (driver.arena && !recordable) throw new NotRecordable('an upload');
    const made = tensor1d(new Float32Array(4));
    entries.set(made.dataId, { ...entry, address: driver.allocate(8), refCount: 1 });
    return made;
  };
  const tokens = tensor1d([1], 'int32') as Tensor1D;
  const run = (owner: object, key = 'one row') => {
    graphs.run(owner, key, tokens, step).dispose();
    return { runs, launches: calls.filter((name) => name === 'cuGraphLaunch').length };
  };
  const forbid = () => {
    recordable = false;
  };
  return { entry, run, forbid, calls };
}

it('records a step the second time, and repeats it from then on', () => {
  const { run, calls } = setUp();
  const owner = {};
  expect(run(owner)).toEqual({ runs: 1, launches: 0 });
  expect(run(owner)).toEqual({ runs: 2, launches: 1 });
  expect(run(owner)).toEqual({ runs: 2, launches: 2 });
  expect(calls.filter((name) => name === 'cuStreamBeginCapture_v2')).toHaveLength(1);
});

it('keeps steps of other shapes and of other owners apart', () => {
  const { run } = setUp();
  const [first, second] = [{}, {}];
  run(first);
  run(first);
  expect(run(second)).toEqual({ runs: 3, launches: 1 });
  expect(run(first, 'two rows')).toEqual({ runs: 4, launches: 1 });
  expect(run(first)).toEqual({ runs: 4, launches: 2 });
});

it('records anew when a tensor that it read has moved, has another copy, or is gone', () => {
  const { entry, run, calls } = setUp();
  const owner = {};
  run(owner);
  run(owner);
  for (const change of [{ address: 4096 }, { copy: 8192 }, { refCount: 0 }]) {
    const before = run(owner).runs;
    Object.assign(entry, change);
    expect(run(owner).runs).toBe(before + 1);
    entry.refCount = 1;
  }
  expect(calls.filter((name) => name === 'cuGraphExecDestroy')).toHaveLength(3);
});

it('runs what cannot be recorded as it is', () => {
  const { run, forbid } = setUp();
  const owner = {};
  run(owner);
  forbid();
  // Once to find out, and once for its result.
  expect(run(owner)).toEqual({ runs: 3, launches: 0 });
  expect(run(owner)).toEqual({ runs: 4, launches: 0 });
});

it('records few numbers of rows: others get rows without a document', () => {
  const rowsOf = (rows: number) => {
    const owner = {};
    const table = Int32Array.from({ length: rows * 3 }, (_, i) => i);
    const tokens = Int32Array.from({ length: rows }, (_, i) => i + 1);
    return paddedStep({ owner, tokens, lengths: tokens, table });
  };
  expect([1, 2, 3, 4, 5, 9, 64].map((rows) => rowsOf(rows).tokens.length)).toEqual([1, 2, 4, 4, 8, 16, 64]);
  const { tokens, lengths, table } = rowsOf(3);
  expect([...tokens]).toEqual([1, 2, 3, 0]);
  expect([...lengths]).toEqual([1, 2, 3, 0]);
  expect([...table]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0]);
});
