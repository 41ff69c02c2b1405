/** A tokenizer of a checked tokenizer.json, in JavaScript alone: text to ids and back. */
import { shown, UserError } from '@stickbreaking/base';
import { type JsonFile, jsonFile, type SpecialTokenOptions, specialTokens } from './special_tokens.js';
import { StreamDecoder } from './stream_decoder.js';
import { checkTokenizerJson } from './tokenizer_checks.js';
import { openJs } from './tokenizer_in_js.js';
import type { CheckedTokenizer } from './tokenizer_schema.js';
import { halfPairIn } from './utf8.js';

/** An open tokenizer, as far as it needs no file. */
export interface TextTokenizer {
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

/** The library's tokenizer, as far as it is used: its own declarations do not pass `tsc --strict`. */
interface JsTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
  id_to_token(id: number): string | undefined;
}

interface TokenizerFiles {
  /** The tokenizer.json's name, for messages. */
  file: string;
  checked: CheckedTokenizer;
  js: JsTokenizer;
  /** The files of these names beside it, as far as there are any. */
  beside(names: readonly string[]): JsonFile[];
  besideModel?: (names: readonly string[]) => JsonFile[];
}

/** @throws UserError where no token ends documents */
export function textTokenizer(
  { file, checked, js, beside, besideModel }: TokenizerFiles,
  options: SpecialTokenOptions,
): TextTokenizer {
  const vocabulary = vocabularyOf(checked);
  const special = specialTokens(
    {
      file,
      idOf: (token) => vocabulary.get(token),
      addedTokens: checked.added_tokens,
      postProcessor: checked.post_processor,
      beside,
      besideModel,
    },
    options,
  );
  let vocabSize = 0;
  for (const id of vocabulary.values()) vocabSize = Math.max(vocabSize, id + 1);

  const tokenizer: TextTokenizer = {
    vocabSize,
    bosToken: special.bosId === undefined ? undefined : js.id_to_token(special.bosId),
    eosId: special.eosId,
    addsBos: special.addsBos,
    eosToken: js.id_to_token(special.eosId)!,
    beginId: special.bosId ?? special.eosId,
    stopIds: special.stopIds,
    endTexts: [...new Set(['<|endoftext|>', js.id_to_token(special.eosId)!])],
    encode: (text) => js.encode(wellFormed(text), { add_special_tokens: false }).ids,
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

/**
 * Opens a tokenizer.json by its text, in JavaScript.
 *
 * @param beside the texts of the files that lie beside it, by their names: some say which tokens begin and end documents
 * @throws UserError if it is not a tokenizer, or has no token to end documents with
 */
export function openTokenizerText(text: string, beside: ReadonlyMap<string, string> = new Map()): TextTokenizer {
  const file = 'tokenizer.json';
  const checked = checkTokenizerJson(jsonFile(file, text).json, file);
  const filesOf = (names: readonly string[]) =>
    names.flatMap((name) => (beside.has(name) ? jsonFile(name, beside.get(name)!) : []));
  return textTokenizer({ file, checked, js: openJs(checked, file), beside: filesOf }, {});
}

/** What no UTF-8 can hold would silently be read as U+FFFD. */
export function wellFormed(text: string): string {
  if (text.isWellFormed()) return text;
  throw new UserError(`'${shown(text.toWellFormed())}' cannot be encoded: ${halfPairIn(text)}; mend the text.`);
}

function vocabularyOf({ model, added_tokens }: CheckedTokenizer): Map<string, number> {
  const vocabulary = new Map<string, number>(
    model.type === 'Unigram' ? model.vocab.map(([token], id) => [token, id]) : Object.entries(model.vocab),
  );
  for (const { content, id } of added_tokens) vocabulary.set(content, id);
  return vocabulary;
}
