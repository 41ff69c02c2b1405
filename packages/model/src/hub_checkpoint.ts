/** A checkpoint on the Hugging Face Hub: what of it is downloaded, and where it lies then. */
import { basename, join } from 'node:path';
import { shown, UserError } from '@stickbreaking/base';
import { cachedSnapshot, isHubAddress, isOffline, openHubRepository, parseHubAddress } from '@stickbreaking/base/node';
import { MODEL_FILE, SHARDS_FILE, shardNames } from './checkpoint.js';

/** What is read of a checkpoint beside its weights, where it has them. */
const READ = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
];

/**
 * Downloads the checkpoint that an `hf://org/name[@revision]` address names into the cache: configuration, tokenizer and
 * weights in safetensors, no other file. With HF_HUB_OFFLINE set, what is in the cache is taken as it is.
 *
 * @param path any other path is given back as it is
 * @returns a path for `resolveCheckpoint`
 * @throws UserError where there is no such checkpoint, or it cannot be fetched
 */
export async function fetchCheckpoint(path: string): Promise<string> {
  if (!isHubAddress(path)) return path;
  if (parseHubAddress(path).type !== 'model')
    throw new UserError(`${shown(path)} is a data set, not a checkpoint; expected hf://org/name[@revision].`);
  if (isOffline()) return cachedSnapshot(path);
  const repository = await openHubRepository(path);
  const has = new Set(repository.names);
  if (!has.has('config.json')) throw new UserError(`${shown(path)} is no checkpoint: it has no config.json.`);
  const small = READ.filter((name) => has.has(name));
  if (has.has(MODEL_FILE)) return await repository.fetch([...small, MODEL_FILE]);
  if (!has.has(SHARDS_FILE)) {
    throw new UserError(`${shown(path)} has no weights in safetensors (neither ${MODEL_FILE} nor ${SHARDS_FILE}).`);
  }
  const directory = await repository.fetch([...small, SHARDS_FILE]);
  const shards = shardNames(join(directory, SHARDS_FILE));
  const missing = shards.find((name) => !has.has(name));
  if (missing)
    throw new UserError(`${shown(path)}: ${SHARDS_FILE} names ${shown(basename(missing))}, which is not there.`);
  return await repository.fetch(shards);
}
