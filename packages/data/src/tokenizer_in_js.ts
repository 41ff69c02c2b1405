/** The library that encodes in JavaScript, which runs everywhere. */
import { Tokenizer as JsTokenizer } from '@huggingface/tokenizers';
import { reasonIn, shown, UserError } from '@stickbreaking/base';
import type { CheckedTokenizer } from './tokenizer_schema.js';

export function openJs(checked: CheckedTokenizer, file: string): JsTokenizer {
  const pre_tokenizer = withExactSpaces(checked.pre_tokenizer);
  return explained(file, () => new JsTokenizer({ ...checked, post_processor: null, pre_tokenizer }, {}));
}

/** What `open` gives; where the library cannot make sense of the file, that is said. */
export function explained<T>(file: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    const reason = reasonIn(error) ?? 'the library that reads it cannot make sense of it';
    throw new UserError(`${shown(file)} cannot be used as a tokenizer: ${reason}.`, {
      cause: error,
    });
  }
}

/** GPT-2's pattern for words (`ByteLevel`), with Unicode's spaces: JavaScript's own `\s` has another set of them. */
const BYTE_LEVEL_WORDS = {
  Regex: "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
};

type PreTokenizer = CheckedTokenizer['pre_tokenizer'];

/** The library rewrites `\s` in patterns that a file gives, but not in its own. */
function withExactSpaces(pre: PreTokenizer): PreTokenizer {
  if (pre?.type !== 'ByteLevel' || pre.add_prefix_space || !pre.use_regex) return pre;
  const split = { type: 'Split' as const, pattern: BYTE_LEVEL_WORDS, behavior: 'Isolated' as const, invert: false };
  return { type: 'Sequence', pretokenizers: [split, { ...pre, use_regex: false }] };
}
