/** A model of the files of a checkpoint that somebody hands over, as a browser has them. */
import { UserError } from '@stickbreaking/base';
import { z } from 'zod';
import { fromHuggingFace } from './huggingface_config.js';
import { LlamaModel } from './model.js';
import { float32Of, headerLength, parseHeader } from './safetensors_format.js';
import { modelTensors, type StoredTensor } from './stored_tensors.js';

/** A file, as a browser's `File` is one. */
export interface CheckpointFile {
  name: string;
  size: number;
  slice(begin: number, end: number): { arrayBuffer(): Promise<ArrayBuffer> };
  text(): Promise<string>;
}

/** Another file of a run's checkpoint, whose tensors are not the model's. */
const OPTIMIZER = 'optimizer.safetensors';

/**
 * Opens `config.json` and `model.safetensors`, or its shards, among the files; the others are not looked at.
 *
 * @throws UserError if one is missing or damaged, or the tensors do not match the configuration
 */
export async function openCheckpoint(files: readonly CheckpointFile[]): Promise<LlamaModel> {
  const configFile = files.find(({ name }) => name === 'config.json');
  const weights = files.filter(({ name }) => name.endsWith('.safetensors') && name !== OPTIMIZER);
  const missing = [...(configFile ? [] : ['config.json']), ...(weights.length > 0 ? [] : ['model.safetensors'])];
  if (!configFile || missing.length > 0) throw new UserError(`${missing.join(' and ')} is missing among the files.`);
  const json = z.record(z.string(), z.unknown()).safeParse(parsed(await configFile.text(), configFile.name));
  if (!json.success) throw new UserError(`${configFile.name}: expected keys and values.`);
  const config = fromHuggingFace(json.data, configFile.name);
  const tensors = new Map<string, StoredTensor>();
  for (const file of weights) {
    for (const [name, tensor] of await tensorsOf(file)) tensors.set(name, tensor);
  }
  const own = modelTensors(tensors, config, weights.map(({ name }) => name).join(', '));
  return LlamaModel.from(config, (name) => own.get(name)!.read());
}

function parsed(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(`${name} is not valid JSON: ${(error as Error).message}`);
  }
}

async function tensorsOf(file: CheckpointFile): Promise<Map<string, StoredTensor>> {
  const bytes = async (begin: number, end: number) => new Uint8Array(await file.slice(begin, end).arrayBuffer());
  const length = headerLength(await bytes(0, Math.min(8, file.size)), file.size, file.name);
  const { entries } = parseHeader(await bytes(8, 8 + length), file.size, file.name);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, { dtype, shape, begin, end }] of entries) {
    const stored = await bytes(begin, end);
    tensors.set(name, { path: file.name, stored: name, shape, read: () => float32Of(dtype, stored) });
  }
  return tensors;
}
