/** A small untrained model with its tokenizer, saved as a checkpoint. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { trainTokenizer } from '@stickbreaking/data';
import { LlamaModel, parseConfig } from '@stickbreaking/model';

const text = Array.from({ length: 24 }, (_, i) => `The ${i}th line of a text has ${i * i} words, or so they say.`);

/** @returns the folder that holds it, as `model/`; the caller takes it away */
export async function smallModel(): Promise<string> {
  await selectBackend('cpu');
  const folder = mkdtempSync(join(tmpdir(), 'sb-serve-'));
  const model = join(folder, 'model');
  mkdirSync(model);
  writeFileSync(join(folder, 'text.txt'), text.join('\n'));
  const sources = [{ path: join(folder, 'text.txt') }];
  await trainTokenizer({ sources, vocabSize: 300, output: join(model, 'tokenizer.json') });
  const sizes = { vocabSize: 300, hiddenSize: 24, intermediateSize: 32, numLayers: 2, numHeads: 4 };
  const one = LlamaModel.create(parseConfig({ ...sizes, initializerRange: 0.2 }), { seed: 1 });
  one.save(model);
  one.dispose();
  return folder;
}
