// Options that every command which reads text or opens a tokenizer has, in yargs's form.
import { OptionError } from '@stickbreaking/base';
import { readYaml } from '@stickbreaking/base/node';
import { z } from 'zod';
import { formats, type SourceFormat } from './kinds.js';
import { type SourceConfig, SourceConfigSchema, type SourceInput } from './sources.js';
import type { SpecialTokenOptions } from './special_tokens.js';
import { STANDARD_INPUT, standardInputFile } from './standard_input.js';

/** What `--data` names, for the help of commands. */
export const dataDescription =
  'text: .txt, .jsonl, .json, .parquet, compressed or not, a directory, a glob, hf://datasets/org/name, a .yaml list of such sources, or - for standard input';

/** Options for yargs that say how text is read. */
export const sourceOptions = {
  field: {
    type: 'string',
    default: 'text',
    describe: 'where records have fields: the one that holds the text (row.text: text inside of row)',
  },
  format: { choices: formats, describe: 'how to read the files; default: what their endings say' },
  split: {
    choices: ['file', 'line', 'blank-line'] as const,
    default: 'file',
    describe: 'what a document is in a .txt file',
  },
  'invalid-text': {
    choices: ['refuse', 'replace'] as const,
    default: 'refuse',
    describe: 'bytes that are no UTF-8, halves of surrogate pairs',
  },
  limit: { type: 'number', describe: 'read only so many documents, the first ones' },
} as const;

/** What `sourceOptions` parse to. */
export interface SourceArguments {
  field: string;
  format?: SourceFormat | undefined;
  split: SourceConfig['split'];
  invalidText: SourceConfig['invalidText'];
  limit?: number | undefined;
}

/**
 * The sources that a command's `--data` names, to be read one after the other. Standard input is read to its end here.
 *
 * @throws UserError where a list of sources is none, standard input cannot be taken, or the limit is no count
 */
export async function sourcesFrom(data: string | string[], args: SourceArguments): Promise<SourceInput[]> {
  const { field, format, split, invalidText, limit } = args;
  if (limit !== undefined && !(Number.isSafeInteger(limit) && limit > 0))
    throw new OptionError('--limit', limit, 'a whole number above 0');
  const sources: SourceInput[] = [];
  for (const path of [data].flat()) {
    const given = { field, split, invalidText, ...(format ? { format } : {}) };
    if (path === STANDARD_INPUT) sources.push({ ...given, ...(await standardInputFile(format)) });
    else if (!format && /\.ya?ml$/i.test(path)) sources.push(...readYaml(path, SourceListSchema, composed));
    else sources.push({ ...given, path });
  }
  return sources;
}

const SourceListSchema = z.array(SourceConfigSchema).min(1);
const composed = { composed: { find: (name: string) => name } };

/** Options for yargs that name the tokens around documents. */
export const specialTokenOptions = {
  'bos-token': { type: 'string', describe: "token that begins documents, in place of the tokenizer's; '' for none" },
  'eos-token': { type: 'string', describe: "token that ends documents, in place of the tokenizer's" },
} as const;

/** What `specialTokenOptions` parse to. */
export interface SpecialTokenArguments {
  bosToken?: string | undefined;
  eosToken?: string | undefined;
}

/** The special tokens of a command's arguments. */
export function specialTokensFrom({ bosToken, eosToken }: SpecialTokenArguments): SpecialTokenOptions {
  return { ...(bosToken === undefined ? {} : { bosToken }), ...(eosToken === undefined ? {} : { eosToken }) };
}
