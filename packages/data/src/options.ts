// Options that every command which reads text or opens a tokenizer has, in yargs's form.
import { formats, type SourceFormat } from './kinds.js';
import type { SourceConfig, SourceInput } from './sources.js';
import type { SpecialTokenOptions } from './special_tokens.js';

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
} as const;

/** What `sourceOptions` parse to. */
export interface SourceArguments {
  field: string;
  format?: SourceFormat | undefined;
  split: SourceConfig['split'];
  invalidText: SourceConfig['invalidText'];
}

/** The source of a command's arguments. */
export function sourceFrom(path: string | string[], args: SourceArguments): SourceInput {
  const { field, format, split, invalidText } = args;
  return { path, field, split, invalidText, ...(format ? { format } : {}) };
}

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
