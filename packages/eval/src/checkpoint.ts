/** Opens a checkpoint: its directory, tokenizer and model, checked against each other. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '@stickbreaking/base';
import { openTokenizer, type SpecialTokenOptions, type Tokenizer } from '@stickbreaking/data';
import { LlamaModel, loadConfig, resolveCheckpoint } from '@stickbreaking/model';

/** A checkpoint, ready for use. */
export interface OpenedCheckpoint {
  directory: string;
  tokenizer: Tokenizer;
  model: LlamaModel;
}

/**
 * Opens a checkpoint or the latest one of a run.
 *
 * @throws UserError if a part is missing, or they do not belong together
 */
export function openCheckpoint(
  path: string,
  tokenizerPath?: string,
  specialTokens: SpecialTokenOptions = {},
): OpenedCheckpoint {
  const directory = resolveCheckpoint(path);
  const file = tokenizerPath ?? join(directory, 'tokenizer.json');
  if (tokenizerPath === undefined && !existsSync(file)) {
    throw new UserError(`${directory} has no tokenizer.json; name one with --tokenizer.`);
  }
  const tokenizer = openTokenizer(file, specialTokens);
  const { vocabSize } = loadConfig(directory);
  if (tokenizer.vocabSize > vocabSize) {
    throw new UserError(
      `The tokenizer ${file} has ${tokenizer.vocabSize} tokens, more than the model's vocabulary of ${vocabSize}.`,
    );
  }
  return { directory, tokenizer, model: LlamaModel.load(directory) };
}
