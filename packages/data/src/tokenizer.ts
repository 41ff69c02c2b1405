// Tokenizers are Hugging Face's tokenizer.json files. One text is encoded in JavaScript, which runs everywhere; many
// are encoded by the same library in Rust where its binary loads, in parallel and with the same tokens.
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { Tokenizer as JsTokenizer } from '@huggingface/tokenizers';
import { explainSystemError, UserError } from '@stickbreaking/base';
import type { Tokenizer as RustTokenizer } from 'tokenizers';
import { type SpecialTokenOptions, specialTokens } from './special_tokens.js';
import { StreamDecoder } from './stream_decoder.js';
import type { TokenizerJson } from './tokenizer_json.js';

export interface Tokenizer {
  /** absolute path of the tokenizer.json */
  readonly path: string;
  /** SHA-256 of that file, in hexadecimal */
  readonly hash: string;
  /** Ids are below this (the largest id, added tokens included, plus one). */
  readonly vocabSize: number;
  /** The token that ends every document. */
  readonly eosId: number;
  /** What every document begins from: the tokenizer's beginning token, or where it has none its end token. */
  readonly beginId: number;
  /** Tokens that end a generated text, `eosId` among them. */
  readonly stopIds: readonly number[];
  /** Texts at which documents are cut: the end token's and `<|endoftext|>`. */
  readonly endTexts: readonly string[];
  /** Ids of a text, without any special token around it. */
  encode(text: string): number[];
  /** Ids of many texts; the fast way. */
  encodeBatch(texts: readonly string[]): Promise<number[][]>;
  /** Text of ids. Special tokens are left out unless `skipSpecialTokens` is false. */
  decode(ids: ArrayLike<number>, options?: { skipSpecialTokens?: boolean }): string;
  /**
   * Decodes a growing sequence piece by piece, never half a character.
   * @param context ids of what it goes on from, such as a prompt: a word is apart from the one before it
   */
  streamDecoder(context?: readonly number[]): StreamDecoder;
  /** The id of a token as the vocabulary spells it, e.g. `<|endoftext|>`. */
  tokenToId(token: string): number | undefined;
}

export interface TokenizerOptions extends SpecialTokenOptions {
  /** false keeps to JavaScript. Default: Rust where it loads. */
  native?: boolean;
}

/**
 * Opens a tokenizer.json (or a directory that holds one; a tokenizer_config.json beside it may name the eos token).
 * Throws a UserError when it is missing, is no tokenizer, or has no token to end a document with.
 */
export function openTokenizer(path: string, options: TokenizerOptions = {}): Tokenizer {
  const isDirectory = statSync(path, { throwIfNoEntry: false })?.isDirectory();
  const file = resolve(isDirectory ? join(path, 'tokenizer.json') : path);
  const bytes = readTokenizerFile(file);
  const json = parseTokenizer(bytes, file);
  const js = construct(json, file);
  const vocabulary = js.get_vocab(true);
  const idOf = (token: string) => vocabulary.get(token);
  const special = specialTokens(
    { file, idOf, addedTokens: json.added_tokens, postProcessor: json.post_processor },
    options,
  );
  let vocabSize = 0;
  for (const id of vocabulary.values()) vocabSize = Math.max(vocabSize, id + 1);
  let rust: RustTokenizer | undefined;

  const tokenizer: Tokenizer = {
    path: file,
    hash: createHash('sha256').update(bytes).digest('hex'),
    vocabSize,
    eosId: special.eosId,
    beginId: special.bosId ?? special.eosId,
    stopIds: special.stopIds,
    endTexts: [...new Set(['<|endoftext|>', js.id_to_token(special.eosId)!])],
    encode: (text) => js.encode(text, { add_special_tokens: false }).ids,
    async encodeBatch(texts) {
      if (options.native !== false) rust ??= openRust(bytes.toString());
      if (!rust) return texts.map(tokenizer.encode);
      const encodings = await rust.encodeBatch([...texts], { addSpecialTokens: false });
      return encodings.map((encoding) => encoding.getIds());
    },
    decode(ids, { skipSpecialTokens = true } = {}) {
      if (ids.length === 0) return '';
      return js.decode(Array.from(ids), {
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

let rustLibrary: typeof import('tokenizers') | null | undefined;

export function loadRust(): typeof import('tokenizers') | undefined {
  if (rustLibrary === undefined) {
    try {
      rustLibrary = createRequire(import.meta.url)('tokenizers') as typeof import('tokenizers');
    } catch {
      rustLibrary = null; // no binary for this platform: everything works without, only slower
    }
  }
  return rustLibrary ?? undefined;
}

function openRust(json: string): RustTokenizer | undefined {
  const tokenizer = loadRust()?.Tokenizer.fromString(json);
  // A tokenizer.json may carry the settings of some fine-tuning; documents are neither cut nor filled up.
  tokenizer?.disableTruncation();
  tokenizer?.disablePadding();
  return tokenizer;
}

export function readTokenizerFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw explainSystemError(error, `cannot read the tokenizer ${file}`);
  }
}

export function parseTokenizer(bytes: Buffer, file: string): TokenizerJson {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString());
  } catch {
    throw new UserError(`${file} is no tokenizer.json: it is not valid JSON.`);
  }
  const model = (json as TokenizerJson | null)?.model;
  if (typeof model !== 'object' || model === null || !('vocab' in model)) {
    throw new UserError(`${file} is no tokenizer.json: it has no model with a vocabulary.`);
  }
  return json as TokenizerJson;
}

function construct(json: TokenizerJson, file: string): JsTokenizer {
  try {
    return new JsTokenizer(json, {});
  } catch (error) {
    throw new UserError(`${file} cannot be used: ${(error as Error).message.split('\n')[0]}.`, { cause: error });
  }
}
