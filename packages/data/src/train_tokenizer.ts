// Makes a byte-level BPE tokenizer (as GPT-2's) of a chosen size, learned from text. Merges come in order, so the first
// ones make any smaller vocabulary.
import { resolve } from 'node:path';
import { EXIT, OptionError, shown, UserError } from '@stickbreaking/base';
import { writeOutput } from '@stickbreaking/base/node';
import { countWords, learnMerges, type WordCounts } from './bpe_merges.js';
import { readPieces } from './documents.js';
import type { SourceInput } from './sources.js';
import { parseJson, readTokenizerFile } from './tokenizer.js';
import { checkTokenizerJson } from './tokenizer_checks.js';
import { type AddedToken, cutVocabulary, type TokenizerJson } from './tokenizer_json.js';

/** Options of `trainTokenizer`. */
export interface TrainTokenizerOptions {
  sources: readonly SourceInput[];
  /** Tokens in all, special tokens and the 256 bytes included. */
  vocabSize: number;
  /** Where the tokenizer.json goes. */
  output: string;
  /** They get the first ids. Default: `<|endoftext|>`. */
  specialTokens?: readonly string[];
  /** Bytes of text to learn from, taken from the front of the sources. Default 1 GiB. */
  maxBytes?: number;
  /** Learns from so many documents, the first ones. */
  limit?: number | undefined;
}

/**
 * Trains a byte-level BPE tokenizer and writes its tokenizer.json. The same text gives the same file.
 * Throws a UserError when the text is too small for the vocabulary, or the vocabulary for the 256 bytes.
 */
export async function trainTokenizer(options: TrainTokenizerOptions): Promise<{ vocabSize: number; bytes: number }> {
  const { sources, vocabSize, output, specialTokens = ['<|endoftext|>'], maxBytes = 2 ** 30, limit } = options;
  const smallest = 256 + specialTokens.length;
  if (new Set(specialTokens).size < specialTokens.length || specialTokens.includes('')) {
    throw new UserError(`the special tokens (${shown(specialTokens.join(', '))}) must differ, and none may be empty.`);
  }
  checkSize(vocabSize);
  if (!(maxBytes > 0)) throw new OptionError('maxBytes', maxBytes, 'a number above 0');
  if (vocabSize < smallest) {
    throw new UserError(
      `a vocabulary of ${vocabSize} is too small: 256 bytes and the special tokens make ${smallest}.`,
      { exitCode: EXIT.usage },
    );
  }
  const reading = { sources, specialTokens, maxBytes, limit };
  const { merges, bytes } = await mergesOf(reading, vocabSize - specialTokens.length);
  const whole = byteLevelTokenizer(merges, specialTokens);
  const available = Object.keys(whole.model.vocab).length;
  if (available < vocabSize) {
    throw new UserError(
      `the text gave ${available} tokens and not the ${vocabSize} asked for; give more text or ask for fewer.`,
    );
  }
  writeTokenizer(cutVocabulary(whole, vocabSize), output);
  return { vocabSize, bytes };
}

/**
 * Writes the tokenizer.json of a smaller vocabulary: the characters, the added tokens and the first merges.
 * Ids change; the text of a model's tokens, and so the model, does not carry over.
 */
export async function shrinkTokenizer(input: string, vocabSize: number, output: string): Promise<void> {
  checkSize(vocabSize);
  const file = resolve(input);
  const json = parseJson(readTokenizerFile(file), file);
  const { added_tokens } = checkTokenizerJson(json, file);
  const cut = cutVocabulary({ ...(json as TokenizerJson), added_tokens }, vocabSize);
  checkTokenizerJson(cut, `what is left of ${shown(file)}`);
  writeTokenizer(cut, output);
}

function checkSize(vocabSize: number): void {
  if (Number.isInteger(vocabSize)) return;
  throw new OptionError('vocabSize', vocabSize, 'a whole number');
}

function writeTokenizer(json: TokenizerJson, output: string): void {
  writeOutput(resolve(output), `${JSON.stringify(json, null, 1)}\n`);
}

type Reading = Pick<TrainTokenizerOptions, 'sources' | 'limit'> &
  Required<Pick<TrainTokenizerOptions, 'specialTokens' | 'maxBytes'>>;

/** The merges of whole documents: words may hold line feeds and indentation, as they do where text is encoded. */
async function mergesOf(reading: Reading, vocabSize: number) {
  const counts: WordCounts = new Map();
  const bytes = await countSources(reading, counts);
  const characters = byteCharacters();
  const tokens = [...characters].sort();
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const encode = (word: string) => Array.from(Buffer.from(word), (byte) => ids.get(characters[byte]!)!);
  return { merges: learnMerges(counts, tokens, encode, vocabSize), bytes };
}

async function countSources({ sources, specialTokens, maxBytes, limit }: Reading, counts: WordCounts): Promise<number> {
  // What is encoded as one token anyway is not to be learned from.
  const endTexts = [...new Set(['<|endoftext|>', ...specialTokens])];
  let bytes = 0;
  for await (const { text } of readPieces(sources, { endTexts, limit })) {
    countWords(text, counts);
    bytes += Buffer.byteLength(text);
    if (bytes >= maxBytes) return bytes;
  }
  return bytes;
}

function byteLevelTokenizer(merges: [string, string][], specialTokens: readonly string[]): TokenizerJson {
  const tokens = new Set([...specialTokens, ...byteCharacters().sort(), ...merges.map((pair) => pair.join(''))]);
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const added = (content: string, id: number): AddedToken => {
    return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map(added),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: byteLevel,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries([...tokens].map((token, id) => [token, id])),
      merges,
    },
  };
}

/** GPT-2's spelling of each of the 256 bytes: printable Latin-1 as itself, the others as characters from U+0100 on. */
function byteCharacters(): string[] {
  const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}
