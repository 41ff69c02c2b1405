// What a tokenizer.json may hold. Two libraries read it, and each accepts what the other refuses, takes other defaults
// where a key is left out, or (in Rust) ends the process on what it did not expect. So it is checked here, once, against
// what both do in the same way, and both are given what came out of it.
import { z } from 'zod';

const text = z.string();
const flag = z.boolean();
const character = text.refine((one) => [...one].length === 1, { error: 'expected one character' });
const count = z
  .int()
  .min(0)
  .max(2 ** 31 - 1);

/** Ids above this would be a damaged file, and memory would grow with them. */
const id = z
  .int()
  .min(0)
  .max(2 ** 24 - 1);

const pattern = z.union([z.strictObject({ String: text.min(1) }), z.strictObject({ Regex: text.min(1) })], {
  error: 'expected { "String": … } or { "Regex": … }',
});

const AddedTokenSchema = z
  .object({
    id,
    content: text.min(1),
    single_word: flag.default(false).refine((one) => !one, {
      error: 'single_word is applied differently by the two tokenizer libraries; set it to false',
    }),
    lstrip: flag.default(false),
    rstrip: flag.default(false),
    normalized: flag.optional(),
    special: flag.default(false),
  })
  .transform((token) => ({ ...token, normalized: token.normalized ?? !token.special }));

const kind = <Name extends string>(name: Name) => ({ type: z.literal(name) });

const normalizers = [
  z.object({
    ...kind('BertNormalizer'),
    clean_text: flag,
    handle_chinese_chars: flag,
    strip_accents: flag.nullable().default(null),
    lowercase: flag,
  }),
  z.object({ ...kind('Strip'), strip_left: flag, strip_right: flag }),
  z.object(kind('StripAccents')),
  z.object(kind('NFC')),
  z.object(kind('NFD')),
  z.object(kind('NFKC')),
  z.object(kind('NFKD')),
  z.object(kind('Lowercase')),
  z.object({ ...kind('Replace'), pattern, content: text }),
  z.object({ ...kind('Prepend'), prepend: text }),
] as const;
const NormalizerSchema = z.discriminatedUnion('type', [
  ...normalizers,
  z.object({ ...kind('Sequence'), normalizers: z.array(z.discriminatedUnion('type', normalizers)) }),
]);

const MetaspaceSchema = z
  .object({
    ...kind('Metaspace'),
    replacement: character,
    prepend_scheme: z.enum(['always', 'never', 'first']).optional(),
    /** what older files have in its place */
    add_prefix_space: flag.optional(),
    split: flag.default(true),
  })
  .transform(({ add_prefix_space, prepend_scheme, ...rest }) => {
    return { ...rest, prepend_scheme: prepend_scheme ?? (add_prefix_space === false ? 'never' : 'always') };
  });

const preTokenizers = [
  z.object({ ...kind('ByteLevel'), add_prefix_space: flag, trim_offsets: flag, use_regex: flag.default(true) }),
  MetaspaceSchema,
  z.object(kind('BertPreTokenizer')),
  z.object(kind('Whitespace')),
  z.object(kind('WhitespaceSplit')),
  z.object({ ...kind('Digits'), individual_digits: flag }),
  z
    .object({ ...kind('Split'), pattern, behavior: z.enum(['Isolated', 'Removed']), invert: flag.default(false) })
    .refine(({ behavior, invert }) => behavior === 'Removed' || !invert, {
      error: 'an inverted Split is supported with the behavior Removed alone',
    }),
] as const;
const PreTokenizerSchema = z.discriminatedUnion('type', [
  ...preTokenizers,
  z.object({ ...kind('Sequence'), pretokenizers: z.array(z.discriminatedUnion('type', preTokenizers)) }),
]);

const pair = z.tuple([text, id]);
const part = z.union(
  [
    z.strictObject({ SpecialToken: z.object({ id: text, type_id: count }) }),
    z.strictObject({ Sequence: z.object({ id: z.enum(['A', 'B']), type_id: count }) }),
  ],
  { error: 'expected { "SpecialToken": … } or { "Sequence": … }' },
);
const template = z.array(part);

const postProcessors = [
  z.object(kind('ByteLevel')),
  z.object({ ...kind('BertProcessing'), sep: pair, cls: pair }),
  z.object({ ...kind('RobertaProcessing'), sep: pair, cls: pair }),
  z.object({
    ...kind('TemplateProcessing'),
    single: template,
    pair: template.optional(),
    special_tokens: z.record(text, z.object({ id: text, ids: z.array(id).min(1), tokens: z.array(text).min(1) })),
  }),
] as const;
const PostProcessorSchema = z.discriminatedUnion('type', [
  ...postProcessors,
  z.object({ ...kind('Sequence'), processors: z.array(z.discriminatedUnion('type', postProcessors)) }),
]);

const decoders = [
  z.object(kind('ByteLevel')),
  z.object(kind('ByteFallback')),
  z.object(kind('Fuse')),
  z.object({ ...kind('WordPiece'), prefix: text, cleanup: flag }),
  z.object({ ...kind('Metaspace'), replacement: character }),
  z.object({ ...kind('BPEDecoder'), suffix: text.min(1) }),
  z.object({ ...kind('Replace'), pattern, content: text }),
  z.object({ ...kind('Strip'), content: character, start: count.max(1000), stop: count.max(1000) }),
] as const;
const DecoderSchema = z.discriminatedUnion('type', [
  ...decoders,
  z.object({ ...kind('Sequence'), decoders: z.array(z.discriminatedUnion('type', decoders)) }),
]);

/** Looked at in one loop: a vocabulary has up to a million tokens. */
const vocabulary = z.custom<Record<string, number>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  { error: 'expected an object of tokens and their ids' },
);
const merges = z.custom<([string, string] | string)[]>(Array.isArray, { error: 'expected a list of merges' });
const noRandomness = z.union([z.null(), z.literal(0)], {
  error: 'expected null: with dropout the same text becomes other tokens each time',
});

const ModelSchema = z.discriminatedUnion('type', [
  z.object({
    ...kind('BPE'),
    dropout: noRandomness.default(null).transform(() => null),
    unk_token: text.nullable().default(null),
    continuing_subword_prefix: z
      .union([z.null(), z.literal('')], { error: 'expected null: the two tokenizer libraries apply it differently' })
      .default(null)
      .transform(() => null),
    end_of_word_suffix: text.nullable().default(null),
    fuse_unk: flag.default(false),
    byte_fallback: flag.default(false),
    ignore_merges: flag.default(false),
    vocab: vocabulary,
    merges,
  }),
  z.object({
    ...kind('WordPiece'),
    unk_token: text,
    continuing_subword_prefix: text.min(1),
    max_input_chars_per_word: count.default(100),
    vocab: vocabulary,
  }),
  z.object({
    ...kind('Unigram'),
    unk_id: id,
    byte_fallback: z
      .literal(false, { error: 'expected false: one of the two tokenizer libraries has no such fallback' })
      .default(false),
    vocab: z.array(z.tuple([text, z.number()])).min(1),
  }),
]);

export const TokenizerSchema = z.object({
  added_tokens: z.array(AddedTokenSchema).default([]),
  normalizer: NormalizerSchema.nullable().default(null),
  pre_tokenizer: PreTokenizerSchema.nullable().default(null),
  post_processor: PostProcessorSchema.nullable().default(null),
  decoder: DecoderSchema.nullable().default(null),
  model: ModelSchema,
});

export type CheckedTokenizer = z.output<typeof TokenizerSchema>;
export type CheckedModel = CheckedTokenizer['model'];
