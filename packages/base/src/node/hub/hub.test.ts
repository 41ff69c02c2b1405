import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { COMMIT, type StandIn, startStandIn } from '../../../../../scripts/hub_stand_in.js';
import { cachedSnapshot, openHubRepository, parseHubAddress } from './index.js';

const large = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 251));
const GIVEN = 'hf://org/name';

let cache: string;
let hub: StandIn;

beforeEach(async () => {
  cache = mkdtempSync(join(tmpdir(), 'stickbreaking-hub-'));
  vi.stubEnv('HF_HUB_CACHE', cache);
  for (const name of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HF_HUB_OFFLINE']) vi.stubEnv(name, '');
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  hub = await startStandIn({
    'models/org/name': { files: { 'a.json': '{}', 'large.bin': large, empty: '' }, revisions: ['main', 'refs/pr/1'] },
    'models/org/closed': { files: { 'a.json': '[]' }, token: 'hf_secret' },
    'models/org/evil': { files: { '../../../a.json': '{}' } },
    'datasets/org/name': { files: { 'data/a.txt': 'text' }, commit: 'd'.repeat(40) },
  });
  vi.stubEnv('HF_ENDPOINT', `${hub.url}/`);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  await hub.close();
  rmSync(cache, { recursive: true, force: true });
});

const blobs = () => readdirSync(join(cache, 'models--org--name', 'blobs'));
const ranges = () => hub.requests.filter((one) => one.includes('large.bin') && !one.endsWith('bytes=0-0'));

describe('addresses', () => {
  it.each([
    ['hf://org/name', ['model', 'org/name', 'main', '']],
    ['hf://org/name@v1.0', ['model', 'org/name', 'v1.0', '']],
    ['hf://org/name@refs/pr/1', ['model', 'org/name', 'refs/pr/1', '']],
    ['hf://org/name@a%2Fb', ['model', 'org/name', 'a/b', '']],
    ['hf://datasets/org/name', ['dataset', 'org/name', 'main', '']],
    ['hf://datasets/org/n.a-m_e@v1/data/*.parquet', ['dataset', 'org/n.a-m_e', 'v1', 'data/*.parquet']],
    ['hf://datasets/org/name@refs/convert/parquet/x/', ['dataset', 'org/name', 'refs/convert/parquet', 'x']],
  ])('%s', (given, [type, repository, revision, path]) => {
    expect(parseHubAddress(given)).toEqual({ given, type, repository, revision, path });
  });

  it.each([
    ['hf://name', /no repository.*expected hf:\/\/org\/name\[@revision\]\.$/],
    ['hf://../name', /no repository/],
    ['hf://org/a--b', /no repository/],
    ['hf://org/name@', /no revision/],
    ['hf://org/name@..', /no revision/],
    ['hf://org/name@a%2F..%2Fb', /no revision/],
    ['hf://org/name/file', /a checkpoint is a whole repository/],
    ['hf://datasets/org/name/../x', /leads out/],
    ['hf://datasets/org', /expected hf:\/\/datasets\/org\/name/],
  ])('refuses %s', (given, message) => {
    expect(() => parseHubAddress(given)).toThrow(message);
  });
});

describe('download', () => {
  it('fetches what is asked for, once, in the layout of huggingface_hub', async () => {
    const { names, fetch } = await openHubRepository(GIVEN);
    expect(names.sort()).toEqual(['a.json', 'empty', 'large.bin']);
    const folder = await fetch(['a.json', 'large.bin', 'empty']);
    expect(folder).toBe(join(cache, 'models--org--name', 'snapshots', COMMIT));
    expect(readFileSync(join(folder, 'large.bin'))).toEqual(large);
    expect(readFileSync(join(folder, 'empty'), 'utf8')).toBe('');
    expect(readFileSync(join(cache, 'models--org--name', 'refs', 'main'), 'utf8')).toBe(COMMIT);
    expect(blobs()).toHaveLength(3);
    expect(cachedSnapshot(GIVEN)).toBe(folder);
    hub.requests.length = 0;
    await (await openHubRepository(GIVEN)).fetch(['a.json', 'large.bin']);
    expect(hub.requests.filter((one) => one.includes('/resolve/'))).toEqual([]);
  });

  it('takes revisions, those with slashes too, and data sets', async () => {
    await (await openHubRepository(`${GIVEN}@refs/pr/1`)).fetch(['a.json']);
    expect(cachedSnapshot(`${GIVEN}@refs/pr/1`)).toMatch(COMMIT);
    expect(cachedSnapshot(`${GIVEN}@${COMMIT}`)).toMatch(COMMIT);
    expect(() => cachedSnapshot(GIVEN)).toThrow(/hf:\/\/org\/name is not in the cache at .* yet\.$/);
    const folder = await (await openHubRepository('hf://datasets/org/name/data')).fetch(['data/a.txt']);
    expect(folder).toBe(join(cache, 'datasets--org--name', 'snapshots', 'd'.repeat(40)));
    expect(readFileSync(join(folder, 'data', 'a.txt'), 'utf8')).toBe('text');
  });

  it('goes on where a connection broke, in the same run', async () => {
    hub.breaks.push(100_000, 50_000);
    const folder = await (await openHubRepository(GIVEN)).fetch(['large.bin']);
    expect(readFileSync(join(folder, 'large.bin'))).toEqual(large);
    expect(ranges()).toHaveLength(3);
    const starts = ranges().map((one) => Number(/bytes=(\d+)-299999$/.exec(one)?.[1] ?? 0));
    expect(starts[0]).toBe(0);
    expect(starts[1]).toBeGreaterThan(0);
    expect(starts[2]).toBeGreaterThan(starts[1]!);
  });

  it('gives up after three tries that bring nothing, and goes on in the next run', async () => {
    hub.breaks.push(120_000, ...Array<number>(20).fill(0));
    const fetching = (await openHubRepository(GIVEN)).fetch(['large.bin']);
    await expect(fetching).rejects.toThrow(
      /^cannot fetch hf:\/\/org\/name, large\.bin: .* broke after \d+ of 300000 bytes.*go on from there\.$/,
    );
    expect(existsSync(join(cache, 'models--org--name', 'refs'))).toBe(false);
    const [part] = blobs();
    expect(part).toMatch(/\.incomplete$/);
    hub.breaks.length = 0;
    // How much had arrived when the connection broke differs.
    writeFileSync(join(cache, 'models--org--name', 'blobs', part!), large.subarray(0, 77_777));
    hub.requests.length = 0;
    const folder = await (await openHubRepository(GIVEN)).fetch(['large.bin']);
    expect(ranges()).toEqual([expect.stringContaining('bytes=77777-299999')]);
    expect(readFileSync(join(folder, 'large.bin'))).toEqual(large);
  });

  it.each(['large.bin', 'a.json'])('keeps nothing of %s where other bytes arrive than are listed', async (name) => {
    hub.damage = (bytes) => Buffer.concat([Buffer.from('x'), bytes.subarray(1)]);
    await expect((await openHubRepository(GIVEN)).fetch([name])).rejects.toThrow(
      /what arrived is not what the Hub lists/,
    );
    expect(blobs()).toEqual([]);
  });

  it('never writes outside of its folder', async () => {
    await expect(openHubRepository('hf://org/evil')).rejects.toThrow(/lists a file it cannot have/);
  });
});

describe('what is refused', () => {
  it('a repository that is not there or not open', async () => {
    await expect(openHubRepository('hf://org/none')).rejects.toThrow(
      /refuses \(401\): it does not exist, or is not open to all: set HF_TOKEN/,
    );
    await expect(openHubRepository('hf://org/closed')).rejects.toThrow(/refuses \(403\)/);
    vi.stubEnv('HF_TOKEN', 'hf_wrong');
    await expect(openHubRepository('hf://org/closed')).rejects.toThrow(/the token in HF_TOKEN has no access/);
  });

  it.each(['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN'])('but open to the token in %s', async (name) => {
    vi.stubEnv(name, 'hf_secret');
    const folder = await (await openHubRepository('hf://org/closed')).fetch(['a.json']);
    expect(readFileSync(join(folder, 'a.json'), 'utf8')).toBe('[]');
  });

  it('a revision that is not there, a token that is none, an endpoint that is none or does not answer', async () => {
    await expect(openHubRepository(`${GIVEN}@v9`)).rejects.toThrow(/no revision 'v9' of it \(404\)\.$/);
    vi.stubEnv('HF_TOKEN', 'secret');
    await expect(openHubRepository(GIVEN)).rejects.toThrow(/^HF_TOKEN is no token/);
    vi.stubEnv('HF_TOKEN', '');
    vi.stubEnv('HF_ENDPOINT', 'hub');
    await expect(openHubRepository(GIVEN)).rejects.toThrow(/HF_ENDPOINT is hub, which is no address/);
    vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:9');
    await expect(openHubRepository(GIVEN)).rejects.toThrow(/does not answer .*HF_HUB_OFFLINE=1/);
  });

  it('what is not in the cache, with HF_HUB_OFFLINE set', () => {
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    expect(() => cachedSnapshot(GIVEN)).toThrow(/HF_HUB_OFFLINE is set; unset it to download\.$/);
  });

  it('a disk that cannot be written, by its name', async () => {
    writeFileSync(join(cache, 'models--org--name'), '');
    await expect((await openHubRepository(GIVEN)).fetch(['a.json'])).rejects.toThrow(/models--org--name/);
  });
});
