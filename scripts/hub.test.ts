// Checkpoints and texts of the Hugging Face Hub, as the commands open them, from a stand-in of the Hub.
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { selectBackend } from '@stickbreaking/core';
import { findFiles, listFiles, readDocuments, type SourceInput, trainTokenizer } from '@stickbreaking/data';
import { openCheckpoint } from '@stickbreaking/eval';
import { fetchCheckpoint, LlamaModel, resolveCheckpoint } from '@stickbreaking/model';
import { fetchStart, loadRunConfig, runTraining } from '@stickbreaking/train';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { type StandIn, startStandIn } from './hub_stand_in.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const base = mkdtempSync(join(tmpdir(), 'hub-'));
const saved = join(base, 'saved');
const sizes = { vocabSize: 300, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 2, contextLength: 32 };
/** What other programs keep beside a checkpoint, and we do not read. */
const others = { 'README.md': 'x', 'pytorch_model.bin': 'x', 'onnx/model.onnx': 'x', 'modeling_x.py': 'x' };
const files: Record<string, Uint8Array | string> = { ...others };
const lines = (...all: string[]) => all.map((text) => `${JSON.stringify({ text })}\n`).join('');
const texts = {
  'README.md': 'x',
  'data/train-0.jsonl': lines('one', 'two'),
  'data/train-1.jsonl': lines('three'),
  'data/test.jsonl': lines(...Array.from({ length: 40 }, (_, i) => `the quick brown fox ${i} jumps over the lazy dog`)),
  '.hidden/more.jsonl': lines('not meant'),
};
let hub: StandIn;
let norms: number[];

beforeAll(async () => {
  await selectBackend('cpu');
  writeFileSync(join(base, 'text.txt'), 'the quick brown fox jumps over the lazy dog\n'.repeat(200));
  const sources = [{ path: join(base, 'text.txt') }];
  await trainTokenizer({ sources, vocabSize: 280, output: join(base, 'tokenizer.json') });
  const model = LlamaModel.create(sizes, { seed: 1 });
  norms = sumsOf(model);
  model.save(saved);
  model.dispose();
  copyFileSync(join(base, 'tokenizer.json'), join(saved, 'tokenizer.json'));
  for (const name of readdirSync(saved)) files[name] = readFileSync(join(saved, name));
  const { 'model.safetensors': weights, ...rest } = files;
  const sharded = { ...rest, 'shard-1.safetensors': weights!, 'shard-2.safetensors': 'not named' };
  const index = (shard: string) => JSON.stringify({ weight_map: { 'model.norm.weight': shard } });
  hub = await startStandIn({
    'models/org/whole': { files },
    'models/org/sharded': { files: { ...sharded, 'model.safetensors.index.json': index('shard-1.safetensors') } },
    'models/org/torn': { files: { ...rest, 'model.safetensors.index.json': index('shard-3.safetensors') } },
    'models/org/bin': { files: rest },
    'models/org/empty': { files: others },
    'datasets/org/text': { files: texts, revisions: ['main', 'v1'] },
    'datasets/org/none': { files: { 'README.md': 'x' } },
  });
});
afterAll(async () => {
  await hub.close();
  rmSync(base, { recursive: true, force: true });
});
beforeEach(() => {
  vi.stubEnv('HF_ENDPOINT', hub.url);
  vi.stubEnv('HF_HUB_CACHE', mkdtempSync(join(base, 'cache-')));
  for (const name of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HF_HUB_OFFLINE']) vi.stubEnv(name, '');
  hub.requests.length = 0;
});
afterEach(() => vi.unstubAllEnvs());

const sumsOf = ({ parameters }: LlamaModel) => [...parameters.values()].map((one) => one.abs().sum().dataSync()[0]!);

it('a checkpoint is opened with its configuration, tokenizer and weights, and nothing else is fetched', async () => {
  const { model, tokenizer, directory } = await openCheckpoint('hf://org/whole');
  expect(sumsOf(model)).toEqual(norms);
  expect(tokenizer.vocabSize).toBe(280);
  expect(readdirSync(directory).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
  model.dispose();
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  hub.requests.length = 0;
  expect(await fetchCheckpoint('hf://org/whole')).toBe(directory);
  expect(resolveCheckpoint('hf://org/whole')).toBe(directory);
  expect(hub.requests).toEqual([]);
});

it('of a sharded one, the shards that its index names', async () => {
  const { model, directory } = await openCheckpoint('hf://org/sharded@main');
  expect(sumsOf(model)).toEqual(norms);
  const names = ['config.json', 'model.safetensors.index.json', 'shard-1.safetensors', 'tokenizer.json'];
  expect(readdirSync(directory).sort()).toEqual(names);
  model.dispose();
});

it.each([
  ['hf://org/torn', /names shard-3\.safetensors, which is not there/],
  ['hf://org/bin', /no weights in safetensors/],
  ['hf://org/empty', /is no checkpoint: it has no config\.json/],
  ['hf://datasets/org/whole', /is a data set, not a checkpoint/],
  ['hf://org/none', /refuses \(401\)/],
])('%s is refused before anything is opened', async (given, message) => {
  await expect(openCheckpoint(given)).rejects.toThrow(message);
});

const read = async (source: SourceInput) => {
  const found: string[] = [];
  for await (const { text } of readDocuments(source)) found.push(text);
  return found;
};
const fetched = () => hub.requests.filter((one) => one.includes('/resolve/') && !one.endsWith('bytes=0-0'));

it.each([
  ['hf://datasets/org/text/data/train-1.jsonl', ['three'], 1],
  ['hf://datasets/org/text@v1/data/train-*.jsonl', ['one', 'two', 'three'], 2],
  ['hf://datasets/org/text/**/train-?.jsonl', ['one', 'two', 'three'], 2],
])('text is read from %s, and no other file is fetched', async (path, expected, files) => {
  expect(await read({ path })).toEqual(expected);
  expect(fetched()).toHaveLength(files);
  hub.requests.length = 0;
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  expect(await read({ path })).toEqual(expected);
  expect(hub.requests).toEqual([]);
});

it('a folder of a data set, or the whole, is read without what is hidden or of another kind', async () => {
  expect(await read({ path: 'hf://datasets/org/text/data' })).toHaveLength(43);
  expect(await read({ path: ['hf://datasets/org/text', join(base, 'text.txt')] })).toHaveLength(44);
});

it('a data set that was fetched in part is not read as the whole', async () => {
  await findFiles({ path: 'hf://datasets/org/text/data/train-0.jsonl' });
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  const whole = { path: 'hf://datasets/org/text/data' };
  expect(() => listFiles(whole)).toThrow(/^hf:.*: data\/test\.jsonl is not in the cache at .* HF_HUB_OFFLINE is set/);
  // As another program leaves it, which writes no listing.
  rmSync(join(process.env.HF_HUB_CACHE!, 'datasets--org--text', 'listings'), { recursive: true });
  expect(listFiles(whole)).toHaveLength(1);
});

it.each([
  ['hf://datasets/org/text/data/train-9.jsonl', /^hf:\/\/datasets\/org\/text has no file data\/train-9\.jsonl\.$/],
  ['hf://datasets/org/none', /holds no file ending in/],
  ['hf://org/whole', /is a model, not text; expected hf:\/\/datasets\/org\/whole\.$/],
  ['hf://datasets/org/closed', /refuses \(401\)/],
])('no text is read from %s', async (path, message) => {
  await expect(read({ path })).rejects.toThrow(message);
});

const command = (script: string, ...args: string[]) =>
  new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [join(root, script), ...args], (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });

it('sb-eval and sb-generate take both as their users write them, and say what is amiss offline', async () => {
  const text = 'hf://datasets/org/text/data/test.jsonl';
  const evaluate = ['--checkpoint', 'hf://org/whole', '--data', text, '--lengths', '16..32', '--backend', 'cpu'];
  const { code, stdout, stderr } = await command('packages/eval/bin/sb-eval.js', ...evaluate, '--json');
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ data: text, results: [{ length: 16 }, { length: 32 }] });
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  const generate = ['--prompt', 'the', '--max-new-tokens', '2', '--backend', 'cpu'];
  const [again, other] = await Promise.all([
    command('packages/eval/bin/sb-generate.js', '--checkpoint', 'hf://org/whole', ...generate),
    command('packages/eval/bin/sb-generate.js', '--checkpoint', 'hf://org/sharded', ...generate),
  ]);
  expect(again.code, again.stderr).toBe(0);
  expect(again.stdout).toMatch(/^the/);
  expect(other).toMatchObject({ code: 1, stdout: '' });
  expect(other.stderr).toMatch(/^hf:\/\/org\/sharded is not in the cache at .* and HF_HUB_OFFLINE is set.*\n$/);
});

it('offline, what was not fetched is named', async () => {
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  await expect(openCheckpoint('hf://org/whole')).rejects.toThrow(
    /^hf:\/\/org\/whole is not in the cache at .*HF_HUB_OFFLINE is set/,
  );
  expect(hub.requests).toEqual([]);
});

it('a run starts from one, and takes its model where the file names none', async () => {
  const file = join(base, 'run.yaml');
  writeFileSync(
    file,
    `output: ${join(base, 'run')}
shards: ${join(base, 'tokens')}
tokenizer: ${join(base, 'tokenizer.json')}
startFrom: hf://org/whole
batchTokens: 64
microBatchTokens: 64
stages: [{ steps: 1, schedule: { kind: power, peak: 0.000001, warmupSteps: 1 }, data: [{ path: ${join(base, 'text.txt')} }] }]
`,
  );
  expect(() => loadRunConfig(file)).toThrow(/hf:\/\/org\/whole is not in the cache at .* yet\.$/);
  await fetchStart(file);
  const config = loadRunConfig(file);
  expect(config.model).toMatchObject(sizes);
  const { checkpoint } = await runTraining(config, {});
  const trained = LlamaModel.load(checkpoint!);
  const changes = sumsOf(trained).map((sum, i) => Math.abs(sum / norms[i]! - 1));
  expect(Math.max(...changes)).toBeLessThan(0.01);
  trained.dispose();
});
