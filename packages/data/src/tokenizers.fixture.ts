// Small tokenizers of every family, made by hand, for tests.
import type { TokenizerJson } from './tokenizer_json.js';

const special = (content: string, id: number) => {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
};
const frame = { version: '1.0', truncation: null, padding: null };
const bpe = {
  type: 'BPE',
  dropout: null,
  unk_token: null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
  fuse_unk: false,
  byte_fallback: false,
  ignore_merges: false,
};
const pairs = (text: string) => text.split(', ').map((pair) => pair.split(' ') as [string, string]);
const numbered = (tokens: readonly string[]) =>
  Object.fromEntries([...new Set(tokens)].map((token, id) => [token, id]));
const around = (begin: string, id: number) => ({
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: begin, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
  special_tokens: { [begin]: { id: begin, ids: [id], tokens: [begin] } },
});

const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
let next = 256;
const bytes = Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++)).sort();
const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const byteMerges = pairs('Ġ t, h e, Ġt he, Ġ a, i n, r e, Ċ Ċ, Ġ s, o n');
const byteTokens = [...bytes, ...byteMerges.map((pair) => pair.join(''))];

/** As GPT-2's. */
const gpt2: TokenizerJson = {
  ...frame,
  added_tokens: [special('<|endoftext|>', 0)],
  normalizer: null,
  pre_tokenizer: byteLevel,
  post_processor: byteLevel,
  decoder: byteLevel,
  model: { ...bpe, vocab: numbered(['<|endoftext|>', ...byteTokens]), merges: byteMerges },
};

/** As LLaMA 3's: the end is nowhere said. */
const llama3: TokenizerJson = {
  ...gpt2,
  added_tokens: ['<|begin_of_text|>', '<|end_of_text|>', '<|eot_id|>'].map((token, i) =>
    special(token, byteTokens.length + i),
  ),
  pre_tokenizer: {
    type: 'Sequence',
    pretokenizers: [
      {
        type: 'Split',
        pattern: {
          Regex:
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        },
        behavior: 'Isolated',
        invert: false,
      },
      { ...byteLevel, use_regex: false },
    ],
  },
  post_processor: { type: 'Sequence', processors: [byteLevel, around('<|begin_of_text|>', byteTokens.length)] },
  model: { ...bpe, ignore_merges: true, vocab: numbered(byteTokens), merges: byteMerges.map((pair) => pair.join(' ')) },
};

const spaceMerges = pairs('▁ t, h e, ▁t he, ▁ a, i n, r e, ▁ s, o n');
const byteFallbacks = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
const three = ['<unk>', '<s>', '</s>'];

/** As LLaMA 2's: spaces are ▁, one is put in front, and characters that the vocabulary lacks are bytes. */
const llama2: TokenizerJson = {
  ...frame,
  added_tokens: three.map(special),
  normalizer: {
    type: 'Sequence',
    normalizers: [
      { type: 'Prepend', prepend: '▁' },
      { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    ],
  },
  pre_tokenizer: null,
  post_processor: around('<s>', 1),
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
  model: {
    ...bpe,
    unk_token: '<unk>',
    fuse_unk: true,
    byte_fallback: true,
    vocab: numbered([
      ...three,
      ...byteFallbacks,
      ...'▁abcdefghijklmnopqrstuvwxyzHT.,',
      ...spaceMerges.map((pair) => pair.join('')),
    ]),
    merges: spaceMerges.map((pair) => pair.join(' ')),
  },
};

/** As newer files have it: the same by a pre-tokenizer and its decoder. */
const metaspace: TokenizerJson = {
  ...llama2,
  normalizer: null,
  pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
  decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
  model: { ...llama2.model, byte_fallback: false },
};

/** As BERT's. */
const bertTokens = [..."abcdefghijklmnopqrstuvwxyz.,!'0123456789"];
const wordPiece: TokenizerJson = {
  ...frame,
  added_tokens: ['[PAD]', '[UNK]', '[CLS]', '[SEP]'].map(special),
  normalizer: {
    type: 'BertNormalizer',
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: { type: 'BertProcessing', sep: ['[SEP]', 3], cls: ['[CLS]', 2] },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: numbered([
      ...['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'the', 'un', 'hello', '##aff', '##able', '##ing'],
      ...bertTokens,
      ...bertTokens.map((token) => `##${token}`),
    ]),
  } as never,
};

const scores = [
  ...three.map((token) => [token, 0]),
  ...[
    ['▁the', -3],
    ['▁', -4],
    ['ing', -4.5],
  ],
  ...[...'abcdefghijklmnopqrstuvwxyzHT.,\n'].map((character, i) => [character, -5 - i / 50]),
];

/** As T5's, without its character map. */
const unigram: TokenizerJson = {
  ...metaspace,
  pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '</s>', type_id: 0 } }],
    special_tokens: { '</s>': { id: '</s>', ids: [2], tokens: ['</s>'] } },
  },
  decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
  model: { type: 'Unigram', unk_id: 0, vocab: scores } as never,
};

export const testingTokenizers = { gpt2, llama3, llama2, metaspace, wordPiece, unigram };
