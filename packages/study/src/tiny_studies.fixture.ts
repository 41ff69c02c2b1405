/** Tiny studies through the command: a folder with text, and what runs them. */
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generator } from '@stickbreaking/base';
import { native } from '@stickbreaking/core/native';
import { vi } from 'vitest';
import { main } from './cli.js';

// Files of tests that share a process share this folder too, and no hook of one may make or remove it: all temporary files
// of a run go when it ends.
export const folder = mkdtempSync(join(tmpdir(), 'sb-study-'));

export async function run(...args: string[]): Promise<{ code: number; said: string }> {
  const said: string[] = [];
  const keep = (chunk: unknown) => said.push(String(chunk)) > 0;
  const spies = [
    vi.spyOn(process.stdout, 'write').mockImplementation(keep),
    vi.spyOn(process.stderr, 'write').mockImplementation(keep),
  ];
  const code = await main(args).finally(() => {
    for (const spy of spies) spy.mockRestore();
  });
  return { code, said: said.join('') };
}

/** The faster one by far for models as small as these. */
const backend = (await native.probe()).available ? 'native' : 'cpu';

/** Writes the study's file and gives the arguments that run it. */
export function studyFile(name: string, content: Record<string, unknown>): string[] {
  const file = join(folder, `${name}.yaml`);
  writeFileSync(file, JSON.stringify({ output: join(folder, name), backend, ...content }, null, 1));
  return ['--config', file];
}

export const resultsOf = (name: string) => JSON.parse(readFileSync(join(folder, name, 'results/results.json'), 'utf8'));
export const picturesOf = (name: string) => readdirSync(join(folder, name, 'results/pictures')).sort();

export const sizes = { hiddenSize: 16, intermediateSize: 24, numLayers: 2, numHeads: 2 };
export const text = {
  train: [{ path: join(folder, 'train.jsonl') }],
  heldOut: join(folder, 'held-out.txt'),
  folder: join(folder, 'text'),
  vocabSize: 280,
};
const constant = { kind: 'constant', peak: 0.003 };
export const training = { contextLength: 16, batchTokens: 32, stages: [{ steps: 3, schedule: constant }] };

const random = generator(1, 'words');
const words = ['the', 'state', 'of', 'union', 'and', 'people', 'congress', 'war', 'peace', 'treasury'];
const prose = (count: number) => Array.from({ length: count }, () => words[Math.floor(random() * 10)]).join(' ');
const lines = Array.from({ length: 6 }, () => JSON.stringify({ text: prose(120) }));
writeFileSync(text.train[0]!.path, `${lines.join('\n')}\n`);
writeFileSync(text.heldOut, prose(400));
