import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { memory } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  CHECKSUMS_FILE,
  checksumsOf,
  LlamaModel,
  loadVerified,
  MODEL_FILE,
  OPTIMIZER_FILE,
  parseConfig,
  RefusedCheckpoint,
  readSafetensors,
  readSummed,
  STATE_FILE,
  type SummedFiles,
  sumFiles,
  summedFiles,
  verifyChecksums,
  writeSafetensors,
} from './index.js';

const fixtures = fileURLToPath(new URL('../fixtures', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'load-async-'));
afterAll(() => rmSync(root, { recursive: true }));
const whole = join(root, 'whole');
const shards = join(root, 'shards');
const SHARDS = ['a.safetensors', 'b.safetensors'];
const directory = join(root, 'now');
const config = parseConfig({ vocabSize: 11, hiddenSize: 8, numLayers: 2, numHeads: 2, intermediateSize: 12 });

beforeAll(async () => {
  const model = LlamaModel.create(config, { seed: 3 });
  model.save(whole);
  mkdirSync(shards);
  for (const to of [whole, shards]) writeFileSync(join(to, STATE_FILE), '{}');
  for (const name of ['config.json', 'modeling_stickbreaking.py'])
    if (existsSync(join(whole, name))) copyFileSync(join(whole, name), join(shards, name));
  const tensors = [...model.parameters].map(([name, one]) => {
    return { name, shape: one.shape, values: () => one.dataSync() as Float32Array };
  });
  const half = tensors.length >> 1;
  const parts = [tensors.slice(0, half), tensors.slice(half)];
  for (const [i, part] of parts.entries()) writeSafetensors(join(shards, SHARDS[i]!), part);
  const map = parts.flatMap((part, i) => part.map(({ name }) => [name, SHARDS[i]]));
  writeFileSync(join(shards, 'model.safetensors.index.json'), JSON.stringify({ weight_map: Object.fromEntries(map) }));
  writeSafetensors(join(whole, OPTIMIZER_FILE), tensors);
  for (const to of [whole, shards]) writeFileSync(join(to, CHECKSUMS_FILE), await checksumsOf(to));
});

beforeEach(() => rmSync(directory, { recursive: true, force: true }));
const place = (from: string) => cpSync(from, directory, { recursive: true });

const load = (options: { modelOnly?: boolean } = { modelOnly: true }, during = () => {}) =>
  loadVerified(directory, options, async (summed) => {
    const model = await LlamaModel.loadAsync(directory, { summed });
    during();
    return model;
  });

/** Turns one bit of a file; where from: of the file's bytes, in its header or after it. */
function flip(name: string, from: 'header' | 'first' | 'last'): void {
  const path = join(directory, name);
  const bytes = readFileSync(path);
  const header = Number(bytes.readBigUInt64LE());
  // In the header, of the metadata's value, which nothing looks at.
  const at = { header: bytes.indexOf('"pt"') + 1, first: 8 + header, last: bytes.length - 1 }[from];
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
}

const bits = ({ parameters }: LlamaModel) => [...parameters].map(([name, one]) => [name, one.shape, one.dataSync()]);

describe('a checkpoint that threads read', () => {
  it('gives the model that is read at once', async () => {
    for (const from of [whole, shards]) {
      const model = await LlamaModel.loadAsync(from);
      expect(bits(model)).toEqual(bits(LlamaModel.load(from)));
      expect(model.config).toEqual(LlamaModel.load(from).config);
    }
  });

  const others = readdirSync(fixtures).filter((name) => existsSync(join(fixtures, name, 'config.json')));
  it.each(others)('gives that of others: %s', async (name) => {
    const folder = join(fixtures, name);
    const model = await LlamaModel.loadAsync(folder);
    const same = LlamaModel.load(folder);
    expect(bits(model)).toEqual(bits(same));
    expect(model.config).toEqual(same.config);
  });

  it('gives a model of another configuration with the same parameters', async () => {
    const as = { ...config, contextLength: 64 };
    const model = await LlamaModel.loadAsync(whole, { as });
    expect(model.config).toEqual(as);
    expect(bits(model)).toEqual(bits(LlamaModel.load(whole)));
    const tensors = memory().numTensors;
    await expect(LlamaModel.loadAsync(whole, { as: { ...config, numLayers: 3 } })).rejects.toThrow(
      `${whole} has no parameter 'model.layers.2.input_layernorm.weight' of shape [8].`,
    );
    expect(memory().numTensors).toBe(tensors);
  });

  it('is verified by what was read for it', async () => {
    place(whole);
    const summed = summedFiles(directory)!;
    await LlamaModel.loadAsync(directory, { summed });
    const [model] = await sumFiles([join(directory, MODEL_FILE)]);
    expect([...summed.sums]).toEqual([[MODEL_FILE, model!.sum]]);
    const path = join(directory, OPTIMIZER_FILE);
    const file = readSafetensors(path);
    await readSummed(path, file, () => {}, { only: (name) => name.includes('norm'), summed });
    file.close();
    expect(summed.sums.size).toBe(2);
    expect(await verifyChecksums(directory, { summed })).toBe(true);
    summed.sums.set(OPTIMIZER_FILE, '0'.repeat(32));
    const message = /optimizer\.safetensors is damaged: it is not as it was saved \(poly1305 0{32}, expected/;
    await expect(verifyChecksums(directory, { summed })).rejects.toThrow(message);
    // What was summed in another way says nothing.
    const other: SummedFiles = { algorithm: 'crc32', sums: summed.sums };
    expect(await verifyChecksums(directory, { summed: other })).toBe(true);
  });

  it.each([
    ['its only file', whole, MODEL_FILE, 'header'],
    ['its only file', whole, MODEL_FILE, 'first'],
    ['its only file', whole, MODEL_FILE, 'last'],
    ['its first file', shards, SHARDS[0]!, 'header'],
    ['its first file', shards, SHARDS[0]!, 'first'],
    ['its first file', shards, SHARDS[0]!, 'last'],
    ['its last file', shards, SHARDS[1]!, 'header'],
    ['its last file', shards, SHARDS[1]!, 'last'],
  ] as const)('is refused with one bit turned: of %s', async (_, from, name, where) => {
    place(from);
    expect(bits(await load())).toEqual(bits(LlamaModel.load(from)));
    flip(name, where);
    const [now] = await sumFiles([join(directory, name)]);
    const { files } = JSON.parse(readFileSync(join(directory, CHECKSUMS_FILE), 'utf8'));
    const error = await load().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(RefusedCheckpoint);
    expect(error).toMatchObject({
      message: `${join(directory, name)} is damaged: it is not as it was saved (poly1305 ${now!.sum}, expected ${files[name].sum}).`,
      usable: true,
    });
    expect(await verifyChecksums(directory).catch((thrown: Error) => thrown.message)).toBe((error as Error).message);
    await loadVerified(directory, undefined, () => LlamaModel.loadAsync(directory)); // as --no-verify does
  });

  it('is refused where a header cannot be read any more, as damaged and of no use', async () => {
    place(whole);
    const bytes = readFileSync(join(directory, MODEL_FILE));
    bytes[8] = 0x5b;
    writeFileSync(join(directory, MODEL_FILE), bytes);
    await expect(load()).rejects.toMatchObject({
      message: expect.stringMatching(/model\.safetensors is damaged: it is not as it was saved/),
      usable: false,
    });
    await expect(LlamaModel.loadAsync(directory)).rejects.toThrow(
      /not a valid safetensors file: its header is not JSON/,
    );
  });

  it('is refused by the checksums of earlier versions', async () => {
    place(whole);
    const { files } = JSON.parse(readFileSync(join(directory, CHECKSUMS_FILE), 'utf8'));
    const names = Object.keys(files);
    const sums = await sumFiles(
      names.map((name) => join(directory, name)),
      'crc32',
    );
    const old = Object.fromEntries(names.map((name, i) => [name, { bytes: sums[i]!.bytes, crc32: sums[i]!.sum }]));
    writeFileSync(join(directory, CHECKSUMS_FILE), JSON.stringify({ version: 1, algorithm: 'crc32', files: old }));
    await load();
    flip(MODEL_FILE, 'last');
    await expect(load()).rejects.toThrow(/model\.safetensors is damaged: it is not as it was saved \(crc32 /);
  });

  it('is refused where a file that is not read for the model was damaged, if it is asked for', async () => {
    place(whole);
    flip(OPTIMIZER_FILE, 'first');
    await load({ modelOnly: true });
    await expect(load({})).rejects.toThrow(/optimizer\.safetensors is damaged: it is not as it was saved/);
  });

  it('is refused where it was damaged when it was read, and is whole again', async () => {
    place(whole);
    flip(MODEL_FILE, 'last');
    const replace = () => {
      copyFileSync(join(whole, MODEL_FILE), join(directory, 'new'));
      renameSync(join(directory, 'new'), join(directory, MODEL_FILE));
    };
    await expect(load({}, replace)).rejects.toThrow(/model\.safetensors is damaged: it is not as it was saved/);
  });

  it('is refused where it is cut while it is read', async () => {
    place(whole);
    const { length } = readFileSync(join(directory, MODEL_FILE));
    const cut = () => truncateSync(join(directory, MODEL_FILE), length - 1);
    await expect(load({}, cut)).rejects.toThrow(
      `${join(directory, MODEL_FILE)} is damaged: it has ${length - 1} bytes, and was saved with ${length}.`,
    );
  });

  it('changes nothing on disk', async () => {
    place(whole);
    const sumAll = () => checksumsOf(directory);
    const before = await sumAll();
    await load({});
    flip(MODEL_FILE, 'last');
    await load({}).catch(() => {});
    flip(MODEL_FILE, 'last');
    expect(await sumAll()).toBe(before);
  });
});
