/** Reading a model's configuration from a file. */
import { existsSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { readYaml } from '@stickbreaking/base/node';
import { z } from 'zod';
import { type LlamaConfig, LlamaConfigSchema } from './config.js';
import { fromHuggingFace } from './huggingface_config.js';
import { readingCheckpoint } from './refused_checkpoint.js';
import { STEP } from './step_name.js';

/**
 * Reads a model's configuration from a run's YAML file (its `model:` section), a file that holds nothing else, a
 * `config.json` as Hugging Face writes it, or a checkpoint directory.
 *
 * @throws UserError with file, line and key; RefusedCheckpoint where it is a checkpoint's
 */
export function loadConfig(path: string): LlamaConfig {
  // What has such a name is meant for one, whatever lies there.
  const isCheckpoint = existsSync(path) && (statSync(path).isDirectory() || STEP.test(basename(path)));
  return isCheckpoint ? readingCheckpoint(path, () => readConfig(join(path, 'config.json'))) : readConfig(path);
}

function readConfig(file: string): LlamaConfig {
  const content = readYaml(file, z.record(z.string(), z.unknown(), { error: 'expected keys and values' }));
  if ('model_type' in content) return fromHuggingFace(content, file);
  return readYaml(file, LlamaConfigSchema, 'model' in content ? { section: 'model' } : {});
}
