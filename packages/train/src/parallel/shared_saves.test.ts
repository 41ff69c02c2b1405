// Two processes, here in one, that write the files of a checkpoint together.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { LlamaModel, readSafetensors, verifyChecksums } from '@stickbreaking/model';
import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CheckpointStore, readState, type TrainingState } from '../checkpoint.js';
import { Optimizer, OptimizerSchema } from '../optimizer.js';
import { together } from '../together.fixture.js';
import { SharedSaves } from './shared_saves.js';
import type { Piece, SharedWeights, Snapshot } from './shared_weights.js';

const base = mkdtempSync(join(tmpdir(), 'shared-saves-'));
beforeAll(() => selectBackend('cpu'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

const config = { vocabSize: 40, hiddenSize: 16, intermediateSize: 24, numLayers: 2, numHeads: 2, contextLength: 16 };

/** Of every tensor a process has the numbers up to somewhere in its middle, or the others. */
function snapshotOf(
  rank: number,
  lists: readonly ReadonlyMap<string, Tensor>[],
  { isCopy = true, fault, gate }: { isCopy?: boolean; fault?: Error; gate?: Promise<void> },
): Snapshot {
  const own = lists.flatMap((list, index) =>
    [...list].map(([name, one]): Piece => {
      const values = one.dataSync() as Float32Array;
      const border = Math.floor(values.length / 3);
      const part = rank === 0 ? values.slice(0, border) : values.slice(border);
      return { list: index, name, from: rank === 0 ? 0 : border, values: part };
    }),
  );
  const pieces = async function* () {
    await gate;
    for (const [i, piece] of own.entries()) {
      if (fault && i === 3) throw fault;
      yield piece;
    }
  };
  return { isCopy, pieces, dispose: () => {} };
}

type Settings = Parameters<typeof snapshotOf>[2];

function setUp(name: string, settings: Settings[]) {
  const directory = join(base, name, 'checkpoints');
  const notices: string[] = [];
  const saved: string[] = [];
  const members = together(2).map((collective, rank) => {
    const model = LlamaModel.create(config, { seed: 5 });
    const optimizer = new Optimizer(model.parameters, OptimizerSchema.parse({}));
    for (const [i, moment] of [...optimizer.state().values()].entries()) {
      const numbers = tensor(
        Float32Array.from({ length: moment.size }, (_, n) => (n + i) / 64),
        moment.shape,
      );
      moment.assign(numbers);
      numbers.dispose();
    }
    const weights = {
      snapshot: (lists: readonly ReadonlyMap<string, Tensor>[]) => snapshotOf(rank, lists, settings[rank] ?? {}),
    } as unknown as SharedWeights;
    const store = rank === 0 ? new CheckpointStore(directory, { last: 1, best: false }) : undefined;
    const hooks = {
      onNotice: (line: string) => notices.push(`${rank}: ${line}`),
      onCheckpoint: (one: string) => {
        saved.push(one);
      },
    };
    const saves = new SharedSaves({
      model,
      optimizer,
      weights,
      collective,
      directory,
      store,
      tokenizer: undefined,
      hooks,
    });
    return { model, optimizer, saves };
  });
  const all = <T>(run: (saves: SharedSaves) => Promise<T>) => Promise.all(members.map(({ saves }) => run(saves)));
  return { members, all, directory, notices, saved };
}

const state = (step: number): TrainingState => ({
  ...{ version: 1, step, updates: step, tokens: 0, stage: 0, stageStep: step, nonFiniteSteps: 0 },
  ...{ cursor: null, seed: 5, best: null, identity: {} },
});

describe('processes that share weights', () => {
  it('write one checkpoint together while the run goes on, and one is the newest at a time', async () => {
    let open!: () => void;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const { members, all, directory, saved } = setUp('together', [{}, { gate }]);
    await all((saves) => saves.begin(state(3)));
    for (let step = 0; step < 5; step++) await all((saves) => saves.look());
    expect(readdirSync(directory)).toEqual(['.writing-step-00000003']);
    open();
    await all((saves) => saves.begin(state(6))); // waits for the one before
    expect(saved).toEqual([join(directory, 'step-00000003')]);
    await all((saves) => saves.end());
    expect(readdirSync(directory).sort()).toEqual(['latest', 'step-00000006']);
    const last = join(directory, 'step-00000006');
    expect(await verifyChecksums(last)).toBe(true);
    expect(readState(last).step).toBe(6);
    const { model, optimizer } = members[0]!;
    const loaded = LlamaModel.load(last);
    for (const [name, one] of loaded.parameters)
      expect(one.dataSync(), name).toEqual(model.parameters.get(name)!.dataSync());
    const moments = readSafetensors(join(last, 'optimizer.safetensors'));
    expect(moments.names).toEqual([...optimizer.state().keys()]);
    for (const [name, one] of optimizer.state()) expect(moments.read(name), name).toEqual(one.dataSync());
    moments.close();
    // The same bytes as one process writes.
    const alone = join(base, 'alone');
    model.save(alone);
    for (const name of ['model.safetensors', 'config.json'])
      expect(readFileSync(join(last, name)).equals(readFileSync(join(alone, name))), name).toBe(true);
  });

  it('wait where what is read must not change', async () => {
    const { all, directory } = setUp('in place', [{ isCopy: false }, { isCopy: false }]);
    await all((saves) => saves.begin(state(1)));
    const [, header] = /^(.{8})/s.exec(
      readFileSync(join(directory, '.writing-step-00000001/model.safetensors'), 'latin1'),
    )!;
    expect(Buffer.from(header!, 'latin1').readBigUInt64LE()).toBeGreaterThan(0n);
    await all((saves) => saves.look());
    await all((saves) => saves.end());
    expect(existsSync(join(directory, 'step-00000001'))).toBe(true);
  });

  it('go on where one could not write, and end where that happens twice', async () => {
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    const { all, directory, notices, saved } = setUp('full', [{}, { fault: full }]);
    const looks = async () => {
      for (let step = 0; step < 20; step++) {
        await all((saves) => saves.look());
        await new Promise((wait) => setTimeout(wait, 5));
      }
    };
    await all((saves) => saves.begin(state(3)));
    await looks();
    expect(notices.toSorted()).toEqual([
      '0: the checkpoint of step 3 was not saved: another process could not write its part',
      expect.stringMatching(/^1: the checkpoint of step 3 was not saved: .*the disk is full/),
    ]);
    expect(readdirSync(directory)).toEqual([]);
    await all((saves) => saves.begin(state(6)));
    await expect(looks()).rejects.toThrow(/the disk is full/);
    expect(saved).toEqual([]);
  });

  it('end with a fault where the last save failed', async () => {
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    const { all } = setUp('last', [{ fault: full }, {}]);
    await all((saves) => saves.begin(state(3)));
    await expect(all((saves) => saves.end())).rejects.toThrow(/the disk is full/);
  });
});
