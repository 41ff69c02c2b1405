/** Opens a checkpoint: its directory, tokenizer and model, checked against each other. */
import { createHash, type Hash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';
import { openTokenizer, type SpecialTokenOptions, type Tokenizer, tellOnce } from '@stickbreaking/data';
import {
  CHECKSUMS_FILE,
  checkFinite,
  fetchCheckpoint,
  LlamaModel,
  loadConfig,
  loadVerified,
  readingCheckpoint,
  resolveCheckpoint,
  type SummedFiles,
  withCheckpointInstead,
} from '@stickbreaking/model';

/** A checkpoint, ready for use. */
export interface OpenedCheckpoint {
  directory: string;
  tokenizer: Tokenizer;
  model: LlamaModel;
}

export interface OpenCheckpointOptions {
  /** tokenizer.json; default: the checkpoint's own. */
  tokenizer?: string | undefined;
  specialTokens?: SpecialTokenOptions;
  /**
   * Check what is loaded against the checkpoint's checksums, where it has any; default true. Who sets it can choose, and is
   * told where it would help not to.
   */
  verify?: boolean;
}

/** What every command that opens a checkpoint takes. */
export const verifyOption = {
  verify: {
    type: 'boolean',
    default: true,
    describe: 'check the checkpoint against its checksums; --no-verify skips that',
  },
} as const;

/**
 * Opens a checkpoint, the latest one of a run, or one of the Hugging Face Hub (`hf://org/name`), downloading it first.
 *
 * @throws UserError if a part is missing or not as it was saved, if the parts do not belong together, or if a weight is
 *   not finite; where the checkpoint is a run's, it names another that is good
 */
export async function openCheckpoint(
  path: string,
  { tokenizer: tokenizerPath, specialTokens = {}, verify }: OpenCheckpointOptions = {},
): Promise<OpenedCheckpoint> {
  const directory = resolveCheckpoint(await fetchCheckpoint(path));
  const verifying = (verify ?? true) ? { modelOnly: true, onNotice: tellOnce } : undefined;
  const load = async (summed: SummedFiles | undefined) => {
    const tokenizer = openOwn(directory, tokenizerPath, specialTokens);
    const model = await LlamaModel.loadAsync(directory, { summed });
    await checkFinite(model, directory);
    return { directory, tokenizer, model };
  };
  try {
    return await loadVerified(directory, verifying, load);
  } catch (error) {
    throw await withCheckpointInstead(error, { canSkipVerifying: verify === true });
  }
}

/** The tokenizer that a checkpoint's model is used with. */
function openOwn(directory: string, tokenizerPath: string | undefined, specialTokens: SpecialTokenOptions): Tokenizer {
  const { vocabSize } = loadConfig(directory); // first: where there is no model, no tokenizer helps
  const file = tokenizerPath ?? join(directory, 'tokenizer.json');
  if (tokenizerPath === undefined && !existsSync(file)) {
    throw new UserError(`${directory} has no tokenizer.json; name one with --tokenizer.`);
  }
  const ofModel = () => {
    const tokenizer = openTokenizer(file, { ...specialTokens, checkpoint: directory });
    if (tokenizer.vocabSize <= vocabSize) return tokenizer;
    throw new UserError(
      `The tokenizer ${file} has ${tokenizer.vocabSize} tokens, more than the model's vocabulary of ${vocabSize}.`,
    );
  };
  // A run saves a tokenizer with all that it takes to open it; of another's, a token may have to be named.
  const isSaved = tokenizerPath === undefined && existsSync(join(directory, CHECKSUMS_FILE));
  const isNamed = Object.values(specialTokens).some((token) => token !== undefined);
  return isSaved && !isNamed ? readingCheckpoint(directory, ofModel) : ofModel();
}

/** Of what all that a model says hangs on: its configuration, its weights, its tokenizer. */
export function hashOfModel({ directory, tokenizer }: Pick<OpenedCheckpoint, 'directory' | 'tokenizer'>): Hash {
  const hash = createHash('sha256');
  for (const name of ['config.json', CHECKSUMS_FILE]) {
    const file = join(directory, name);
    if (existsSync(file)) hash.update(readWhole(file));
  }
  if (!existsSync(join(directory, CHECKSUMS_FILE))) {
    // Weights of others have no checksums, and may be in several files.
    for (const name of readdirSync(directory).sort()) {
      if (!name.endsWith('.safetensors')) continue;
      const { size, mtimeMs } = statSync(join(directory, name));
      hash.update(`${size} ${mtimeMs}`);
    }
  }
  return hash.update(`${tokenizer.hash} ${tokenizer.beginId}`);
}
