/** Models of `transformers` here, held to the logits that it gave for them, and what ours bring for it. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { selectBackend } from '@stickbreaking/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LlamaConfigInput, LlamaModel, readSafetensors } from './index.js';

const directory = mkdtempSync(join(tmpdir(), 'stickbreaking-transformers-'));
afterAll(() => rmSync(directory, { recursive: true }));

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'));

/** The largest difference from the logits of some rows, as a share of the largest logit. */
function largestDifference(logits: number[][], rows: Record<string, number[]>): number {
  const wanted = Object.entries(rows);
  const differences = wanted.flatMap(([row, values]) => values.map((value, i) => Math.abs(value - logits[+row]![i]!)));
  expect(differences.length).toBe(wanted.length * logits[0]!.length);
  return Math.max(...differences) / Math.max(...wanted.flatMap(([, values]) => values.map(Math.abs)));
}

/** Names and shapes of a checkpoint's tensors. */
function shapesIn(folder: string): Record<string, number[]> {
  const files = readdirSync(folder).filter((name) => name.endsWith('.safetensors'));
  const all = files.flatMap((name) => {
    const file = readSafetensors(join(folder, name));
    const own = file.names.map((tensor) => [tensor, file.shape(tensor)] as const);
    file.close();
    return own;
  });
  return Object.fromEntries(all.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** What a model writes after a prompt, by its cache. */
async function textOf(model: LlamaModel, prompt: number[], maxNewTokens: number): Promise<number[]> {
  const text: number[] = [];
  for await (const token of model.generate(prompt, { maxNewTokens, temperature: 0 })) text.push(token);
  return text;
}

/** Keys that say the same in other words, or nothing of what is computed. */
const apart = ['rope_parameters', 'bos_token_id', 'eos_token_id', 'pad_token_id'];

const names = [
  ...['llama-3', 'llama-biases', 'llama-shards', 'mistral', 'granite', 'qwen2', 'qwen2-yarn', 'qwen2-sliding'],
  ...['qwen3', 'qwen3-sliding', 'olmo2', 'smollm3', 'smollm3-sliding', 'phi3'],
];

describe.each(['cpu', 'native'])('on %s', (backend) => {
  beforeAll(() => selectBackend(backend));
  it.each(names)('%s has the logits and the greedy text of transformers', async (name) => {
    const { tokens, rows, greedy } = readJson(fixture(`${name}/logits.json`));
    const model = LlamaModel.load(fixture(name));
    expect(largestDifference(model.forward(tokens).arraySync(), rows)).toBeLessThan(1e-5);
    expect(await textOf(model, tokens.slice(0, 10), greedy.length)).toEqual(greedy);
    model.dispose();
  });

  it.each(names.filter((name) => name !== 'phi3'))('%s is saved, once trained, as what it was', (name) => {
    const model = LlamaModel.load(fixture(name));
    const { tokens } = readJson(fixture(`${name}/logits.json`));
    const batch = { tokens, targets: [...tokens.slice(1), -1], cuSeqlens: [0, tokens.length] };
    const before = model.loss(batch).dataSync()[0]!;
    const { gradients } = model.gradients(batch, { scale: 1 / tokens.length });
    for (const [key, one] of model.parameters) one.assign(one.sub(gradients.get(key)!.mul(0.05)));
    expect(model.loss(batch).dataSync()[0]!).toBeLessThan(before);
    const folder = mkdtempSync(join(directory, 'saved-'));
    model.save(folder);
    expect(shapesIn(folder)).toEqual(shapesIn(fixture(name)));
    const [ours, theirs] = [folder, fixture(name)].map((one) => readJson(join(one, 'config.json')));
    // What one of the two leaves out has the same default in both.
    const same = Object.keys(theirs).filter((key) => key in ours && !apart.includes(key));
    for (const key of same) expect(ours[key], key).toEqual(theirs[key]);
    // Some of its classes have one by default that a small vocabulary does not hold, and then fail.
    expect(ours.pad_token_id).toBeNull();
    expect(LlamaModel.load(folder).loss(batch).dataSync()).toEqual(model.loss(batch).dataSync());
  });

  it('a checkpoint of ours has the logits and the greedy text that it had when transformers agreed', async () => {
    const { tokens, rows, greedy } = readJson(fixture('stick-breaking/logits.json'));
    const model = LlamaModel.load(fixture('stick-breaking'));
    expect(largestDifference(model.forward(tokens).arraySync(), rows)).toBeLessThan(1e-5);
    expect(await textOf(model, tokens.slice(0, 10), greedy.length)).toEqual(greedy);
  });
});

describe('modeling_stickbreaking.py', () => {
  beforeAll(() => selectBackend('cpu'));
  const file = 'modeling_stickbreaking.py';
  const code = readFileSync(fileURLToPath(new URL(`../python/${file}`, import.meta.url)), 'utf8');
  const sizes = { vocabSize: 16, hiddenSize: 8, numLayers: 1, numHeads: 2, contextLength: 8 };
  const dense = { ...sizes, intermediateSize: 8 };
  const full = {
    ...dense,
    ...{ projectionBiases: 'qkvo', tieEmbeddings: true, mup: { attentionMultiplier: 0.5 } },
    attention: {
      ...{ kind: 'stick-breaking', attendCurrent: true, remainderBias: true, headNorm: true, qkNorm: true },
      initialReach: [2, 4],
    },
  } satisfies LlamaConfigInput;
  const softmax = (position: unknown, others: object = {}) =>
    ({ ...dense, attention: { kind: 'softmax', position, window: 4, ...others } }) as LlamaConfigInput;
  const rope = (scaling: object) => softmax({ kind: 'rope', theta: 500, scaling }, { qkNorm: true });
  const scalings = [
    { kind: 'dynamic', factor: 2, originalContextLength: 4 },
    { kind: 'llama3', factor: 2 },
    { kind: 'yarn', factor: 2, attentionFactor: 1.1 },
  ].map(rope);
  const opened = {
    stick: full,
    fire: softmax('fire'),
    alibi: softmax('alibi'),
    nope: { ...dense, attention: 'softmax+nope' },
  };

  const saved = (config: LlamaConfigInput, options = {}) => {
    rmSync(join(directory, file), { force: true });
    LlamaModel.create(config).save(directory, options);
    return readJson(join(directory, 'config.json'));
  };

  it.each(Object.entries(opened))('is in a checkpoint that it opens: %s', (_, config) => {
    const json = saved(config as LlamaConfigInput, { eosTokenId: 3 });
    expect(readFileSync(join(directory, file), 'utf8')).toBe(code);
    expect(json).toMatchObject({ model_type: 'stickbreaking_llama', eos_token_id: 3 });
    for (const [auto, path] of Object.entries(json.auto_map as Record<string, string>)) {
      const [module, name] = path.split('.');
      expect(auto).toMatch(/^Auto(Config|ModelForCausalLM)$/);
      expect(`${module}.py`).toBe(file);
      expect(code).toMatch(new RegExp(`^class ${name}\\(`, 'm'));
    }
    // What transformers adds when it saves the model again does not contradict our part.
    writeFileSync(join(directory, 'config.json'), JSON.stringify({ ...json, auto_map: { AutoConfig: 'other' } }));
    expect(() => LlamaModel.load(directory)).not.toThrow();
  });

  it.each([
    ['a class of transformers opens it', { ...dense, attention: 'softmax+rope' }],
    ['it has experts', { ...sizes, experts: { count: 2, active: 1, intermediateSize: 8 } }],
    ['it has a sink', softmax('alibi', { sink: true })],
  ])('is not where %s', (_, config) => {
    expect(saved(config as LlamaConfigInput)).not.toHaveProperty('auto_map');
    expect(existsSync(join(directory, file))).toBe(false);
  });

  it('reads the keys that are written', () => {
    const written = [...Object.values(opened), ...scalings].map(
      (config) => saved(config as LlamaConfigInput).stickbreaking,
    );
    const keysOf = (...path: string[]) => {
      const parts = written.map((own) => path.reduce((part, key) => part?.[key], own));
      return parts.flatMap((part) => Object.keys(part ?? {}));
    };
    const read = (holder: string) => {
      const found = code.matchAll(new RegExp(`\\b${holder}(?:\\["(\\w+)"\\]|\\.get\\("(\\w+)"[,)])`, 'g'));
      return [...new Set([...found].map(([, index, get]) => index ?? get!))];
    };
    for (const [holder, ...path] of [
      ['own'],
      ['self.attention', 'attention'],
      ['self.position', 'attention', 'position'],
      ['scaling', 'attention', 'position', 'scaling'],
    ] as const) {
      expect(read(holder).length, holder).toBeGreaterThan(3);
      expect(keysOf(...path), holder).toEqual(expect.arrayContaining(read(holder)));
    }
  });

  it('is the file that was run with transformers', () => {
    const { openedBy } = readJson(fixture('stick-breaking/logits.json'));
    // If this fails: open checkpoints of each kind with transformers again, and set the versions and the sum anew.
    expect(createHash('sha256').update(code).digest('hex')).toBe(openedBy[file]);
  });
});
