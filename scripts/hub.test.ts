// Checkpoints of the Hugging Face Hub, as the commands open them, from a stand-in of the Hub.
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { trainTokenizer } from '@stickbreaking/data';
import { openCheckpoint } from '@stickbreaking/eval';
import { fetchCheckpoint, LlamaModel, resolveCheckpoint } from '@stickbreaking/model';
import { fetchStart, loadRunConfig, runTraining } from '@stickbreaking/train';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { type StandIn, startStandIn } from './hub_stand_in.js';

const base = mkdtempSync(join(tmpdir(), 'hub-'));
const saved = join(base, 'saved');
const sizes = { vocabSize: 300, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 2, contextLength: 32 };
/** What other programs keep beside a checkpoint, and we do not read. */
const others = { 'README.md': 'x', 'pytorch_model.bin': 'x', 'onnx/model.onnx': 'x', 'modeling_x.py': 'x' };
const files: Record<string, Uint8Array | string> = { ...others };
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
