// A tokenizer beside a model's weights, as `transformers` reads it.
import { copyFileSync, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { shown, UserError } from '@stickbreaking/base';
import { readWhole, replaceFile } from '@stickbreaking/base/node';
import type { Tokenizer } from './tokenizer.js';

/** What a checkpoint needs of a tokenizer to keep a copy of it. */
export type SavedTokenizer = Pick<Tokenizer, 'path' | 'bosToken' | 'eosToken' | 'eosId'>;

/**
 * Copies the tokenizer.json, and says in a tokenizer_config.json which tokens begin and end documents, so that whoever
 * opens it there begins and ends them alike.
 */
export function saveTokenizer({ path, bosToken, eosToken }: SavedTokenizer, directory: string): void {
  copyFileSync(path, join(directory, 'tokenizer.json'));
  const given = configBeside(path) ?? { tokenizer_class: 'PreTrainedTokenizerFast' };
  const config = { ...given, bos_token: bosToken ?? null, eos_token: eosToken };
  replaceFile(join(directory, 'tokenizer_config.json'), `${JSON.stringify(config, null, 2)}\n`);
}

function configBeside(path: string): Record<string, unknown> | undefined {
  const file = join(dirname(path), 'tokenizer_config.json');
  if (!existsSync(file)) return undefined;
  try {
    return JSON.parse(readWhole(file, shown(file)).toString()) as Record<string, unknown>;
  } catch (error) {
    throw error instanceof UserError ? error : new UserError(`${shown(file)} is not valid JSON.`);
  }
}
