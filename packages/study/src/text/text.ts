/** Gets a study's text ready: found or written, a tokenizer trained on it, tokenized into shards. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '@stickbreaking/base';
import { makeDirectory } from '@stickbreaking/base/node';
import {
  findFiles,
  openDataset,
  openTokenizer,
  prepareShards,
  type SourceConfig,
  SourceConfigSchema,
  type SourceInput,
  type Tokenizer,
  trainTokenizer,
} from '@stickbreaking/data';
import type { ArmContext } from '../study.js';
import type { TextConfig } from './config.js';
import { defaultText } from './default_text.js';

export interface PreparedText {
  tokenizer: Tokenizer;
  /** Folders of token shards. */
  shards: string[];
  /** The text to evaluate on. */
  heldOut: SourceInput;
  /** The tokenizer, which keeps what it encoded: every arm is evaluated on the same text. */
  evaluationTokenizer: Pick<Tokenizer, 'encodeBatch' | 'decode' | 'eosId' | 'beginId' | 'endTexts'>;
}

export async function prepareText(
  config: TextConfig,
  { shared, signal, say }: Pick<ArmContext, 'shared' | 'signal' | 'say'>,
): Promise<PreparedText> {
  const folder = config.folder ?? shared;
  makeDirectory(folder);
  if (config.tokens) return preparedElsewhere(config);
  const { sources, heldOut } = await textOf(config, folder);
  for (const source of [...sources, heldOut]) await findFiles(source);
  const tokenizer = openTokenizer(config.tokenizer ?? (await ownTokenizer(config, sources, folder, say)));
  const shards = join(
    folder,
    `tokens-${tokenizer.hash.slice(0, 8)}-${hashOf([sources, tokenizer.beginId, tokenizer.eosId])}`,
  );
  const dataset = await prepareShards({
    source: sources,
    tokenizer,
    directory: shards,
    signal,
    onProgress: ({ documents, tokens, bytes, totalBytes }) =>
      say(
        `tokenizing: ${Math.floor((100 * bytes) / Math.max(1, totalBytes))} %, ${documents} documents, ${tokens} tokens`,
      ),
  });
  dataset.close();
  return { tokenizer, shards: [shards], heldOut, evaluationTokenizer: remembering(tokenizer) };
}

/** @throws UserError where the tokens are of another tokenizer, or not there */
function preparedElsewhere({ tokens, tokenizer: given, heldOut }: TextConfig): PreparedText {
  const tokenizer = openTokenizer(given!);
  for (const directory of tokens!) {
    const dataset = openDataset(directory);
    dataset.close();
    if (dataset.tokenizerHash === tokenizer.hash) continue;
    throw new UserError(`text.tokens: ${directory} was made with another tokenizer than ${tokenizer.path}.`);
  }
  return { tokenizer, shards: tokens!, heldOut: sourceOf(heldOut!), evaluationTokenizer: remembering(tokenizer) };
}

function remembering(tokenizer: Tokenizer): PreparedText['evaluationTokenizer'] {
  const encoded = new Map<string, number[]>();
  const encodeBatch: Tokenizer['encodeBatch'] = async (texts) => {
    const unknown = texts.filter((text) => !encoded.has(text));
    const tokens = await tokenizer.encodeBatch(unknown);
    for (const [i, text] of unknown.entries()) encoded.set(text, tokens[i]!);
    return texts.map((text) => encoded.get(text)!);
  };
  const { eosId, beginId, endTexts } = tokenizer;
  return { encodeBatch, decode: (ids) => tokenizer.decode(ids), eosId, beginId, endTexts };
}

const sourceOf = (heldOut: NonNullable<TextConfig['heldOut']>): SourceInput =>
  typeof heldOut === 'string' ? { path: heldOut } : heldOut;

async function textOf(config: TextConfig, folder: string): Promise<{ sources: SourceConfig[]; heldOut: SourceInput }> {
  if (config.train && config.heldOut) return { sources: config.train, heldOut: sourceOf(config.heldOut) };
  const { train, heldOut } = await defaultText(folder);
  return { sources: [SourceConfigSchema.parse({ path: train })], heldOut: { path: heldOut } };
}

async function ownTokenizer(
  { vocabSize, tokenizerBytes: maxBytes }: TextConfig,
  sources: SourceConfig[],
  folder: string,
  say: (text: string) => void,
): Promise<string> {
  const output = join(folder, `tokenizer-${vocabSize}-${hashOf([sources, maxBytes])}.json`);
  if (existsSync(output)) return output;
  say(`training a tokenizer of ${vocabSize} tokens`);
  await trainTokenizer({ sources, vocabSize, output, maxBytes });
  return output;
}

function hashOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 8);
}
