// What goes between processes in pieces: by messages that are played here, and by each MPI library that is installed.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkNumbers } from './mpi_library.js';
import { exchangeByPairs, gatherByPairs, piecesOf, type Swap } from './mpi_pieces.js';
import { start } from './spawned.fixture.js';

/** What `to` of every process is after all their messages, where `from` of process r has the numbers 100·r, 100·r + 1, … */
function played(size: number, length: number, run: (place: { rank: number; size: number }, swap: Swap) => void) {
  const from = Array.from({ length: size }, (_, rank) => Uint8Array.from({ length }, (_, i) => 100 * rank + i));
  const sent = new Map<string, Uint8Array[]>();
  const taken: { key: string; to: number; rank: number; count: number; turn: number }[] = [];
  for (let rank = 0; rank < size; rank++) {
    let turn = 0;
    run({ rank, size }, (given, to, count, target, source) => {
      const key = `${rank} to ${target}`;
      sent.set(key, [...(sent.get(key) ?? []), from[rank]!.slice(Number(given), Number(given) + count)]);
      taken.push({ key: `${source} to ${rank}`, to: Number(to), rank, count, turn: turn++ });
    });
  }
  const to = from.map(() => new Uint8Array(size * length).fill(99));
  for (const one of taken) {
    const message = sent.get(one.key)!.shift()!;
    expect(message).toHaveLength(one.count);
    to[one.rank]!.set(message, one.to);
  }
  expect([...sent.values()].flat()).toEqual([]);
  return to.map((values) => [...values]);
}

describe.each([1, 2, 3, 4])('by pairs of %d processes', (size) => {
  const all = Array.from({ length: size }, (_, rank) => rank);

  it('each gets its part of every one', () => {
    const to = played(size, 5 * size, (place, swap) => exchangeByPairs(place, 0n, 0n, 5, 1, swap));
    for (const [rank, values] of to.entries()) {
      const want = all.flatMap((other) => Array.from({ length: 5 }, (_, i) => (100 * other + 5 * rank + i) % 256));
      expect(values.slice(0, 5 * size)).toEqual(want);
    }
  });

  it('each gets all of every one', () => {
    const to = played(size, 5, (place, swap) => gatherByPairs(place, 0n, 0n, 5, 1, swap));
    const want = all.flatMap((other) => Array.from({ length: 5 }, (_, i) => (100 * other + i) % 256));
    for (const values of to) expect(values).toEqual(want);
  });
});

describe('pieces', () => {
  it('follow one another, the last with the rest', () => {
    expect([...piecesOf(7, 3)].map(({ at, count }) => [at, count])).toEqual([
      [0, 3],
      [3, 3],
      [6, 1],
    ]);
    expect([...piecesOf(6, 3)]).toHaveLength(2);
    expect([...piecesOf(0, 3)]).toEqual([]);
  });

  it('of what is more than an int holds are less', () => {
    let length = 0;
    for (const { at, count } of piecesOf(2 ** 33 + 5, 2 ** 26)) {
      expect(at).toBe(length);
      expect(() => checkNumbers('MPI_Alltoall', ['count'], [count])).not.toThrow();
      length += count;
    }
    expect(length).toBe(2 ** 33 + 5);
  });

  it.each([-1, 0.5, Number.NaN])('of %d elements there are none', (length) => {
    expect(() => [...piecesOf(length, 3)]).toThrow(`${length} elements were to go between processes`);
  });
});

describe('numbers at the border to MPI', () => {
  const types = ['uint64', 'count', 'int'];

  it.each([0, 1, 2 ** 31 - 1])('pass where they fit: %d', (count) => {
    expect(() => checkNumbers('MPI_Alltoall', types, [2n ** 64n - 1n, count, -5])).not.toThrow();
  });

  it.each([-1, 2 ** 31, 2 ** 31 + 5, 2 ** 32 + 5, 0.5, Number.NaN, undefined])('are refused as counts: %s', (count) => {
    expect(() => checkNumbers('MPI_Alltoall', types, [0n, count, 0])).toThrow(
      `MPI_Alltoall: a count is ${count}; MPI takes whole numbers from 0 to 2147483647.`,
    );
  });

  it.each([2 ** 31, 0.5, undefined])('are refused as others: %s', (value) => {
    expect(() => checkNumbers('MPI_Comm_split', types, [0n, 0, value])).toThrow(
      `MPI_Comm_split: ${value} is no number that an int can hold.`,
    );
  });
});

/** A process that moves 7 numbers for each in pieces of 3, and holds them to what they should be. */
const child = `
import assert from 'node:assert/strict';
import { Mpi } from '${new URL('../../dist/parallel/mpi.js', import.meta.url)}';
import { ownRoundedSum, sumRounded } from '${new URL('../../dist/parallel/rounded_sums.js', import.meta.url)}';
const size = Number(process.argv[2]);
const mpi = Mpi.open(size, process.env, 3);
const { rank } = mpi;
const all = Array.from({ length: size }, (_, other) => other);
const seven = (of) => Array.from({ length: 7 }, (_, i) => of(i));
const filled = (length, which, of) => {
  const block = mpi.floats(length, which);
  block.values.set(Array.from({ length }, (_, i) => of(i)));
  return block;
};
const number = (other, i) => 1000 * other + i;
const parts = all.flatMap((other) => seven((i) => number(other, 7 * rank + i)));
let given = filled(7 * size, 0, (i) => number(rank, i));
let taken = filled(7 * size, 1, () => -1);
mpi.exchangeNow(given.address, taken.address, 28);
assert.deepEqual([...taken.values], parts);
const group = mpi.group(size);
taken.values.fill(-1);
group.exchange(given.address, taken.address, 7);
assert.deepEqual([...taken.values], parts);
taken.values.fill(-1);
group.shift(given.address, taken.address, 7, 1);
assert.deepEqual([...taken.values.slice(0, 7)], seven((i) => number((rank + size - 1) % size, i)));
taken.values.fill(-1);
mpi.gatherNow(given.address, taken.address, 7);
assert.deepEqual([...taken.values], all.flatMap((other) => seven((i) => number(other, i))));
const total = (i) => all.reduce((sum, other) => sum + other + 1, 0) * i;
for (const run of [async (one) => mpi.sumNow(one.address, 7), (one) => mpi.sum(one.address, 7), async (one) => sumRounded(mpi, one.values)]) {
  const one = filled(7, 6, (i) => (rank + 1) * i);
  await run(one);
  assert.deepEqual([...one.values], seven(total));
}
const own = ownRoundedSum(mpi, Float32Array.from({ length: 7 * size }, (_, i) => (rank + 1) * (i % 7)), 7 * size);
assert.deepEqual([...own], seven(total));
// Refused before the library sees them, on every process alike.
assert.throws(() => mpi.exchangeNow(given.address, taken.address, -1), /MPI_Alltoall: a count is -1;/);
assert.throws(() => mpi.floats(2 ** 29), /536870912 float32 numbers .* parallel\\.shard=optimizer/);
mpi.close();
`;

const has = (command: string) => spawnSync(command, ['--version']).error === undefined;
const launchers = ['mpirun.openmpi', 'mpirun.mpich'].filter(has);

describe.skipIf(launchers.length === 0).each(launchers)('under %s', (launcher) => {
  it.each([1, 2, 3, 4])('%d processes have what they should', async (processes) => {
    const folder = mkdtempSync(join(tmpdir(), 'pieces-'));
    try {
      const file = join(folder, 'child.mjs');
      writeFileSync(file, child);
      const asRoot = process.getuid?.() === 0 ? ['--allow-run-as-root'] : [];
      const options = launcher.endsWith('openmpi') ? [...asRoot, '--oversubscribe', '--bind-to', 'none'] : [];
      const run = [...options, '-n', String(processes), process.execPath, file, String(processes)];
      const { code, stderr } = await start(launcher, run).ended;
      expect(code, stderr).toBe(0);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
