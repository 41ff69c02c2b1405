// Tokenizers are Hugging Face's tokenizer.json files. One text is encoded in JavaScript, which runs everywhere; many
// are encoded by the same library in Rust where its binary loads, in parallel and with the same tokens.
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { explainSystemError, shown, UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';
import type { Tokenizer as RustTokenizer } from 'tokenizers';
import { z } from 'zod';
import { type SpecialTokenOptions, specialTokens } from './special_tokens.js';
import { StreamDecoder } from './stream_decoder.js';
import { checkTokenizerJson } from './tokenizer_checks.js';
import { loadRust, openJs, openRust } from './tokenizer_libraries.js';
import type { CheckedTokenizer } from './tokenizer_schema.js';
import { halfPairIn } from './utf8.js';

/** An open tokenizer. */
export interface Tokenizer {
  /** absolute path of the tokenizer.json */
  readonly path: string;
  /** SHA-256 of that file, in hexadecimal */
  readonly hash: string;
  /** Ids are below this (the largest id, added tokens included, plus one). */
  readonly vocabSize: number;
  /** The token that ends every document. */
  readonly eosId: number;
  /** Other programs put the beginning token before a text that they encode with this tokenizer, unless told not to. */
  readonly addsBos: boolean;
  /** The token that begins every document, as the vocabulary spells it; undefined where the tokenizer has none. */
  readonly bosToken: string | undefined;
  /** The token of `eosId`. */
  readonly eosToken: string;
  /** What every document begins from: the tokenizer's beginning token, or where it has none its end token. */
  readonly beginId: number;
  /** Tokens that end a generated text, `eosId` among them. */
  readonly stopIds: readonly number[];
  /** Texts at which documents are cut: the end token's and `<|endoftext|>`. */
  readonly endTexts: readonly string[];
  /**
   * The ids of a text, without special tokens around it.
   *
   * @throws UserError where half of a surrogate pair stands alone, of which no tokenizer knows anything
   */
  encode(text: string): number[];
  /** The ids of many texts, in parallel where possible. */
  encodeBatch(texts: readonly string[]): Promise<number[][]>;
  /** The text of ids, without special tokens unless `skipSpecialTokens` is false. */
  decode(ids: ArrayLike<number>, options?: { skipSpecialTokens?: boolean }): string;
  /**
   * Decodes a growing sequence piece by piece, never half a character.
   * @param context ids of what it goes on from, such as a prompt: a word is apart from the one before it
   */
  streamDecoder(context?: readonly number[]): StreamDecoder;
  /** The id of a token as the vocabulary spells it, e.g. `<|endoftext|>`. */
  tokenToId(token: string): number | undefined;
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
  const vocabulary = vocabularyOf(checked);
  const special = specialTokens(
    {
      file,
      idOf: (token) => vocabulary.get(token),
      addedTokens: checked.added_tokens,
      postProcessor: checked.post_processor,
      checkpoint: options.checkpoint,
    },
    { ...named, ...options },
  );
  let vocabSize = 0;
  for (const id of vocabulary.values()) vocabSize = Math.max(vocabSize, id + 1);
  let rust: Promise<RustTokenizer | undefined> | undefined;

  const tokenizer: Tokenizer = {
    path: file,
    hash: createHash('sha256').update(bytes).digest('hex'),
    vocabSize,
    bosToken: special.bosId === undefined ? undefined : js.id_to_token(special.bosId),
    eosId: special.eosId,
    addsBos: special.addsBos,
    eosToken: js.id_to_token(special.eosId)!,
    beginId: special.bosId ?? special.eosId,
    stopIds: special.stopIds,
    endTexts: [...new Set(['<|endoftext|>', js.id_to_token(special.eosId)!])],
    encode: (text) => js.encode(wellFormed(text), { add_special_tokens: false }).ids,
    async encodeBatch(texts) {
      if (options.native !== false) rust ??= openRust(checked, js, file);
      const native = await rust;
      if (!native) return texts.map(tokenizer.encode);
      const encodings = await native.encodeBatch(texts.map(wellFormed), { addSpecialTokens: false });
      return encodings.map((encoding) => encoding.getIds());
    },
    decode(ids, { skipSpecialTokens = true } = {}) {
      // A model may have room for more tokens than the tokenizer has: those have no text.
      const known = Array.from(ids).filter((id) => js.id_to_token(id) !== undefined);
      if (known.length === 0) return '';
      return js.decode(known, {
        skip_special_tokens: skipSpecialTokens,
        clean_up_tokenization_spaces: false,
      });
    },
    streamDecoder: (context) => new StreamDecoder((ids) => tokenizer.decode(ids), context),
    tokenToId: (token) => vocabulary.get(token),
  };
  return tokenizer;
}

/** Whether the `tokenizers` package has a binary for this machine. */
export function hasNativeTokenizers(): boolean {
  return loadRust() !== undefined;
}

/** What no UTF-8 can hold would silently be read as U+FFFD. */
function wellFormed(text: string): string {
  if (text.isWellFormed()) return text;
  throw new UserError(`'${shown(text.toWellFormed())}' cannot be encoded: ${halfPairIn(text)}; mend the text.`);
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

function vocabularyOf({ model, added_tokens }: CheckedTokenizer): Map<string, number> {
  const vocabulary = new Map<string, number>(
    model.type === 'Unigram' ? model.vocab.map(([token], id) => [token, id]) : Object.entries(model.vocab),
  );
  for (const { content, id } of added_tokens) vocabulary.set(content, id);
  return vocabulary;
}
