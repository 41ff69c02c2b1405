// Tokenizers are Hugging Face's tokenizer.json files. One text is encoded in JavaScript, which runs everywhere; many
// are encoded by the same library in Rust where its binary loads, in parallel and with the same tokens.
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { explainSystemError, shown, UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';
import type { Tokenizer as RustTokenizer } from 'tokenizers';
import { z } from 'zod';
import { type JsonFile, jsonFile, type SpecialTokenOptions } from './special_tokens.js';
import { type TextTokenizer, textTokenizer, wellFormed } from './text_tokenizer.js';
import { checkTokenizerJson } from './tokenizer_checks.js';
import { openJs } from './tokenizer_in_js.js';
import { loadRust, openRust } from './tokenizer_libraries.js';

/** An open tokenizer. */
export interface Tokenizer extends TextTokenizer {
  /** absolute path of the tokenizer.json */
  readonly path: string;
  /** SHA-256 of that file, in hexadecimal */
  readonly hash: string;
  /** The ids of many texts, in parallel where possible. */
  encodeBatch(texts: readonly string[]): Promise<number[][]>;
}

/** Options of `openTokenizer`. */
export interface TokenizerOptions extends SpecialTokenOptions {
  /** false keeps to JavaScript. Default: Rust where it loads. */
  native?: boolean;
  /** A checkpoint's directory, whose files may name tokens that begin and end text, if the tokenizer lies elsewhere. */
  checkpoint?: string;
}

const name = z.string().min(1);

/** A tokenizer as a configuration names it: by its path, with the tokens that begin and end documents if need be. */
export const TokenizerConfigSchema = z.union(
  [name, z.strictObject({ path: name, bosToken: z.string().optional(), eosToken: name.optional() })],
  { error: 'expected a path, or { path, bosToken, eosToken }' },
);
/** Which tokenizer to open, and with which special tokens. */
export type TokenizerConfig = z.output<typeof TokenizerConfigSchema>;

/**
 * Opens a tokenizer.json (or a directory that holds one). Which tokens begin and end documents is what the files beside it
 * say (`specialTokens`).
 * Throws a UserError if it is missing, is not a tokenizer, or has no token to end documents with.
 */
export function openTokenizer(config: TokenizerConfig, options: TokenizerOptions = {}): Tokenizer {
  const { path, ...named } = typeof config === 'string' ? { path: config } : config;
  const file = tokenizerFile(path);
  const bytes = readTokenizerFile(file);
  const checked = checkTokenizerJson(parseJson(bytes, file), file);
  const js = openJs(checked, file);
  const beside = (directory: string) => (names: readonly string[]) => names.flatMap((name) => jsonIn(directory, name));
  const isElsewhere = options.checkpoint !== undefined && options.checkpoint !== dirname(file);
  let rust: Promise<RustTokenizer | undefined> | undefined;
  const text = textTokenizer(
    {
      ...{ file, checked, js, beside: beside(dirname(file)) },
      ...(isElsewhere ? { besideModel: beside(options.checkpoint!) } : {}),
    },
    { ...named, ...options },
  );
  return {
    ...text,
    path: file,
    hash: createHash('sha256').update(bytes).digest('hex'),
    async encodeBatch(texts) {
      if (options.native !== false) rust ??= openRust(checked, js, file);
      const native = await rust;
      if (!native) return texts.map(text.encode);
      const encodings = await native.encodeBatch(texts.map(wellFormed), { addSpecialTokens: false });
      return encodings.map((encoding) => encoding.getIds());
    },
  };
}

function jsonIn(directory: string, name: string): JsonFile | [] {
  const path = join(directory, name);
  return existsSync(path) ? jsonFile(path, readWhole(path, shown(path)).toString()) : [];
}

/** Whether the `tokenizers` package has a binary for this machine. */
export function hasNativeTokenizers(): boolean {
  return loadRust() !== undefined;
}

/** The file itself, or the one that a directory holds. */
function tokenizerFile(path: string): string {
  try {
    const isDirectory = statSync(path, { throwIfNoEntry: false })?.isDirectory();
    return resolve(isDirectory ? join(path, 'tokenizer.json') : path);
  } catch (error) {
    throw explainSystemError(error, `cannot read the tokenizer ${shown(path)}`);
  }
}

export function readTokenizerFile(file: string): Buffer {
  return readWhole(file, `the tokenizer ${shown(file)}`);
}

/** @throws UserError where it is no JSON */
export function parseJson(bytes: Buffer, file: string): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    throw new UserError(`${shown(file)} cannot be used as a tokenizer: it is not valid JSON.`);
  }
}
