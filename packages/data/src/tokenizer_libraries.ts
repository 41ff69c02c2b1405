// The two libraries that encode: Hugging Face's in JavaScript, which runs everywhere and decodes, and the same in Rust
// where its binary loads, which encodes many texts in parallel. Both are given a checked tokenizer.json, and they must
// agree: text is tokenized by the one and prompts by the other.
import { createRequire } from 'node:module';
import type { Tokenizer as JsTokenizer } from '@huggingface/tokenizers';
import { shown, UserError } from '@stickbreaking/base';
import type { Tokenizer as RustTokenizer } from 'tokenizers';
import { explained } from './tokenizer_in_js.js';
import type { CheckedTokenizer } from './tokenizer_schema.js';

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

/** undefined where the library has no binary for this machine. */
export async function openRust(
  checked: CheckedTokenizer,
  js: JsTokenizer,
  file: string,
): Promise<RustTokenizer | undefined> {
  const library = loadRust();
  if (!library) return undefined;
  // A tokenizer.json may carry the settings of some fine-tuning (truncation, padding), and decoding is the other's.
  const json = { version: '1.0', truncation: null, padding: null, ...checked, post_processor: null, decoder: null };
  const rust = explained(file, () => library.Tokenizer.fromString(JSON.stringify(json)));
  await checkAgreement(rust, js, checked, file);
  return rust;
}

const SAMPLE = [
  'The quick brown fox, 1234.5 times: "don\'t" -- über-naïve (ﬁne) ½ £10\n\n  two\tspaces \u00a0 \r\nend ',
  ' leading   runs    of spaces\n\n\n    if (x_1 <= y.z) { return f(x)[0]; } // ok\n',
  '日本語のテキスト, русский текст, العربية, ไทย, 한국어 🙂👩‍👩‍👧 a\u0301\ufeff\u0085\u3000.',
];

/** Throws a UserError where the two encode a sample of text, or an added token among other text, differently. */
async function checkAgreement(
  rust: RustTokenizer,
  js: JsTokenizer,
  { added_tokens }: CheckedTokenizer,
  file: string,
): Promise<void> {
  const among = added_tokens
    .slice(0, 64)
    .flatMap(({ content }) => [`a${content}b`, `The ${content} end`, `.\n${content}\n`]);
  const texts = [...SAMPLE, ...among];
  const found = await rust.encodeBatch(texts, { addSpecialTokens: false });
  for (const [i, text] of texts.entries()) {
    const expected = js.encode(text, { add_special_tokens: false }).ids;
    if (found[i]!.getIds().join() === expected.join()) continue;
    throw new UserError(
      `${shown(file)} cannot be used as a tokenizer: the two tokenizer libraries encode '${shown(text)}' differently.`,
    );
  }
}
