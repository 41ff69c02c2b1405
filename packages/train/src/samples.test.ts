import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { seededRandom } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { openTokenizer, trainTokenizer } from '@stickbreaking/data';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runTraining } from './run.js';
import { type RunConfig, RunConfigSchema } from './run_config.js';
import { readSamples, type Sample } from './samples.js';

const base = mkdtempSync(join(tmpdir(), 'samples-'));
const text = join(base, 'text.jsonl');
const tokenizer = join(base, 'tokenizer.json');
const prompts = ['the old', 'a new'];

function configOf(name: string, changes: object = {}): RunConfig {
  return RunConfigSchema.parse({
    output: join(base, name),
    ...{ tokenizer, shards: join(base, 'tokens'), batchTokens: 32, microBatchTokens: 32 },
    model: { vocabSize: 280, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 2, contextLength: 32 },
    stages: [{ steps: 5, schedule: { kind: 'constant', peak: 0.01 }, data: [{ path: text }] }],
    samples: { prompts, everySteps: 2, maxNewTokens: 12 },
    ...changes,
  });
}

beforeAll(async () => {
  await selectBackend('cpu');
  const random = seededRandom(1);
  const words = ['the', 'old', 'new', 'house', 'river', 'was', 'a', 'and'];
  const documents = Array.from({ length: 30 }, () =>
    Array.from({ length: 20 }, () => words[random.integer(words.length)]).join(' '),
  );
  writeFileSync(text, documents.map((one) => `${JSON.stringify({ text: one })}\n`).join(''));
  await trainTokenizer({ sources: [{ path: text }], vocabSize: 280, output: tokenizer });
});
afterAll(() => rmSync(base, { recursive: true }));

describe('samples', () => {
  it('are written every few steps and at the end, and told of', async () => {
    const told: Sample[] = [];
    const hooks = { onSample: (sample: Sample) => void told.push(sample) };
    const { model } = await runTraining(configOf('whole'), { hooks });
    const samples = readSamples(join(base, 'whole/samples.jsonl'));
    expect(samples.map(({ step, prompt }) => [step, prompt])).toEqual(
      [2, 4, 5].flatMap((step) => prompts.map((prompt) => [step, prompt])),
    );
    expect(told).toEqual(samples);
    expect(samples[0]).toMatchObject({ tokens: 64 });
    // The last are what the model writes that came of it.
    const opened = openTokenizer(tokenizer);
    const ids: number[] = [];
    const encoded = opened.encode(prompts[1]!);
    const options = { maxNewTokens: 12, temperature: 0.8, seed: 1, stop: opened.stopIds };
    for await (const id of model.generate([opened.beginId, ...encoded], options)) ids.push(id);
    const all = opened.decode([...encoded, ...ids]);
    expect(samples.at(-1)!.text).toBe(all.slice(opened.decode(encoded).length));
    model.dispose();
  });

  it('leave the losses as they are, and are the same after a stop', async () => {
    const losses: Record<string, (number | null)[]> = { without: [], stopped: [] };
    const follow = (name: string, stop?: AbortController) => ({
      onStep: ({ step, loss }: { step: number; loss: number | null }) => {
        losses[name]!.push(loss);
        if (step === 3) stop?.abort();
      },
    });
    await runTraining(configOf('without', { samples: undefined }), { hooks: follow('without') });
    const stop = new AbortController();
    const config = configOf('stopped');
    await runTraining(config, { hooks: follow('stopped', stop), signal: stop.signal });
    const path = join(base, 'stopped/samples.jsonl');
    expect(readSamples(path).map(({ step }) => step)).toEqual([2, 2]);
    const later = { step: 4, tokens: 1, prompt: 'the old', text: 'of a step that is done again' };
    appendFileSync(path, `${JSON.stringify(later)}\n{"step": 4, "pro`);
    await runTraining(config, { hooks: follow('stopped'), resume: true });
    expect(losses.stopped).toEqual(losses.without);
    expect(readFileSync(path, 'utf8')).toBe(readFileSync(join(base, 'whole/samples.jsonl'), 'utf8'));
  });

  it('are texts to TensorBoard', async () => {
    mkdirSync(join(base, 'events'), { recursive: true });
    await runTraining(configOf('events/run', { tensorboard: true }));
    const [file] = readdirSync(join(base, 'events/run/tensorboard'));
    const bytes = readFileSync(join(base, 'events/run/tensorboard', file!));
    const [sample] = readSamples(join(base, 'events/run/samples.jsonl'));
    expect(bytes.includes(`samples/${sample!.prompt}`)).toBe(true);
    expect(bytes.includes(`**${sample!.prompt}**${sample!.text}`)).toBe(true);
  });

  it('must have prompts', () => {
    expect(() => configOf('none', { samples: { prompts: [] } })).toThrow();
  });
});
