import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  CHECKSUMS_FILE,
  checksumsOf,
  LlamaModel,
  OPTIMIZER_FILE,
  STATE_FILE,
  sumFiles,
  verifyChecksums,
} from './index.js';
import { newSum } from './sum.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'checksums-'));
  writeFileSync(join(directory, 'a'), 'abc');
  writeFileSync(join(directory, 'b'), '');
});
const seal = async () => writeFileSync(join(directory, CHECKSUMS_FILE), await checksumsOf(directory));

describe('checksums', () => {
  it('are the Poly1305 that ChaCha20-Poly1305 makes of additional data, and zlib’s CRC-32 in old lists', async () => {
    const paths = [join(directory, 'a'), join(directory, 'b')];
    // By OpenSSL through Python: ChaCha20Poly1305(bytes(32)).encrypt(bytes(12), b'', b'abc').hex()
    expect(await sumFiles(paths)).toEqual([
      { bytes: 3, sum: 'e75e31de88e480eed5423753250b17a0' },
      { bytes: 0, sum: '4eb972c9a8fb3a1b382bb4d36f5ffad1' },
    ]);
    expect(await sumFiles(paths, 'crc32')).toEqual([
      { bytes: 3, sum: '352441c2' },
      { bytes: 0, sum: '00000000' },
    ]);
  });

  it.each(['poly1305', 'crc32'] as const)('by %s are the same of large files, which threads read', async (kind) => {
    // More files than threads, of other lengths each, and a small one between.
    const paths = [...'cdefg'].map((name) => join(directory, name));
    const expected = paths.map((path, i) => {
      const file = openSync(path, 'w');
      for (let at = 0; at < 2 ** 25; at += 2 ** 20) writeSync(file, `${at} of ${path}`, at);
      writeSync(file, `end of ${path}`, 2 ** 25 + 7 * i);
      closeSync(file);
      const content = readFileSync(path);
      const sum = newSum(kind);
      sum.update(content);
      return { bytes: content.length, sum: sum.end() };
    });
    const [first, ...rest] = paths;
    const found = await sumFiles([first!, join(directory, 'a'), ...rest], kind);
    expect(found.splice(1, 1)).toEqual([expect.objectContaining({ bytes: 3 })]);
    expect(found).toEqual(expected);
    rmSync(paths[1]!);
    await expect(sumFiles(paths, kind)).rejects.toThrow(`cannot read ${paths[1]}`);
  });

  it('hold what was saved', async () => {
    expect(await verifyChecksums(directory)).toBe(false);
    await seal();
    expect(await verifyChecksums(directory)).toBe(true);
  });

  it.each([
    ['changed', () => writeFileSync(join(directory, 'a'), 'abd'), /\/a is damaged: it is not as it was saved/],
    ['cut short', () => truncateSync(join(directory, 'a'), 2), /\/a is damaged: it has 2 bytes, and was saved with 3/],
    ['gone', () => rmSync(join(directory, 'b')), /\/b is missing/],
  ])('find a file that was %s', async (_, damage, message) => {
    await seal();
    damage();
    await expect(verifyChecksums(directory)).rejects.toThrow(message);
  });

  it('of an earlier version hold what it saved', async () => {
    const files = { a: { bytes: 3, crc32: '352441c2' }, b: { bytes: 0, crc32: '00000000' } };
    writeFileSync(join(directory, CHECKSUMS_FILE), JSON.stringify({ version: 1, algorithm: 'crc32', files }));
    expect(await verifyChecksums(directory)).toBe(true);
    writeFileSync(join(directory, 'a'), 'abd');
    await expect(verifyChecksums(directory)).rejects.toThrow(/\(crc32 .*, expected 352441c2\)/);
  });

  it('of the optimizer do not matter to who loads the model alone', async () => {
    writeFileSync(join(directory, OPTIMIZER_FILE), 'abc');
    await seal();
    writeFileSync(join(directory, OPTIMIZER_FILE), 'abd');
    expect(await verifyChecksums(directory, { modelOnly: true })).toBe(true);
    await expect(verifyChecksums(directory)).rejects.toThrow(/optimizer\.safetensors is damaged/);
  });

  it('are missed in a checkpoint of a run, not in a model from elsewhere', async () => {
    const said: string[] = [];
    const onNotice = (line: string) => said.push(line);
    await verifyChecksums(directory, { onNotice });
    expect(said).toEqual([]);
    writeFileSync(join(directory, STATE_FILE), '{}');
    await verifyChecksums(directory, { onNotice });
    expect(said).toEqual([expect.stringMatching(/has no checksums\.json, .*: it was not verified$/)]);
  });

  it('cannot be taken out of a checkpoint that says it has them, as a whole or for one file', async () => {
    writeFileSync(join(directory, STATE_FILE), '{"checksums": "poly1305"}');
    await expect(verifyChecksums(directory)).rejects.toThrow(/checksums\.json is missing, which was saved with/);
    await seal();
    const path = join(directory, CHECKSUMS_FILE);
    const { files, ...rest } = JSON.parse(readFileSync(path, 'utf8'));
    delete files[STATE_FILE];
    writeFileSync(path, JSON.stringify({ ...rest, files }));
    await expect(verifyChecksums(directory)).rejects.toThrow(/state\.json is not in checksums\.json/);
    await seal();
    writeFileSync(join(directory, 'notes.txt'), 'what somebody lays there');
    expect(await verifyChecksums(directory)).toBe(true);
  });

  it.each([
    ['poly1305', 'poly1306', /was made with 'poly1306', which this version does not know \(it knows poly1305, crc32\)/],
    ['"bytes"', '"byte"', /checksums\.json is damaged/],
    ['"version": 2', '"version": 1', /checksums\.json is damaged/],
  ])('are refused with %s turned into %s', async (before, after, message) => {
    await seal();
    const path = join(directory, CHECKSUMS_FILE);
    writeFileSync(path, readFileSync(path, 'utf8').replace(before, after));
    await expect(verifyChecksums(directory)).rejects.toThrow(message);
  });

  it('do not outlast another model saved over theirs', async () => {
    const model = LlamaModel.create({ vocabSize: 9, hiddenSize: 4, intermediateSize: 4, numLayers: 1, numHeads: 1 });
    await seal();
    model.save(directory);
    model.dispose();
    expect(await verifyChecksums(directory)).toBe(false);
  });
});
