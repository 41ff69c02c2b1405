import { mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { beforeEach, describe, expect, it } from 'vitest';
import { CHECKSUMS_FILE, checksumOfFile, checksumsOf, LlamaModel, verifyChecksums } from './index.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'checksums-'));
  writeFileSync(join(directory, 'a'), 'abc');
  writeFileSync(join(directory, 'b'), '');
});
const seal = async () => writeFileSync(join(directory, CHECKSUMS_FILE), await checksumsOf(directory));

describe('checksums', () => {
  it('are zlib’s CRC-32', async () => {
    expect(await checksumOfFile(join(directory, 'a'))).toEqual({ bytes: 3, crc32: '352441c2' });
    expect(await checksumOfFile(join(directory, 'b'))).toEqual({ bytes: 0, crc32: '00000000' });
  });

  it('are the same for a large file, which a thread of its own reads', async () => {
    const path = join(directory, 'large');
    const file = openSync(path, 'w');
    writeSync(file, 'end', 2 ** 25 + 7);
    const { bytes, crc32: sum } = await checksumOfFile(path);
    expect(bytes).toBe(2 ** 25 + 10);
    expect(Number.parseInt(sum, 16)).toBe(crc32(readFileSync(path)));
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

  it('find themselves damaged', async () => {
    await seal();
    const path = join(directory, CHECKSUMS_FILE);
    writeFileSync(path, readFileSync(path, 'utf8').replace('crc32', 'crc31'));
    await expect(verifyChecksums(directory)).rejects.toThrow(/checksums\.json is damaged/);
  });

  it('do not outlast another model saved over theirs', async () => {
    const model = LlamaModel.create({ vocabSize: 9, hiddenSize: 4, intermediateSize: 4, numLayers: 1, numHeads: 1 });
    await seal();
    model.save(directory);
    model.dispose();
    expect(await verifyChecksums(directory)).toBe(false);
  });
});
