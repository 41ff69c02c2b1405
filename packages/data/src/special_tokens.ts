// Which tokens begin and end a document: what the files beside a tokenizer.json say, as `transformers` and
// lm-evaluation-harness read them. A document begins from the beginning token where there is one (the harness's
// `prefix_token_id`), or else from the end token.
import { shown, UserError } from '@stickbreaking/base';
import { z } from 'zod';
import type { AddedToken } from './tokenizer_json.js';

export interface SpecialTokens {
  /** The token that begins every document; undefined where the tokenizer has none. */
  bosId: number | undefined;
  /** The token that ends every document. */
  eosId: number;
  /** Tokens that end a generated text, `eosId` among them: a model may have several. */
  stopIds: readonly number[];
  /** The tokenizer puts `bosId` before a text unless it is told not to. */
  addsBos: boolean;
}

/** Special tokens that replace those named by the files beside a tokenizer. */
export interface SpecialTokenOptions {
  /** The token that begins documents, in place of what the files say; an empty one for none. */
  bosToken?: string;
  /** The token that ends documents, in place of what the files say. */
  eosToken?: string;
}

export interface Vocabulary {
  /** the tokenizer.json */
  file: string;
  idOf(token: string): number | undefined;
  addedTokens: readonly AddedToken[];
  postProcessor: unknown;
  /** The files of these names beside it, as far as there are any. */
  beside(names: readonly string[]): JsonFile[];
  /** The same beside the checkpoint that the tokenizer is used with, if that is elsewhere. */
  besideModel?: ((names: readonly string[]) => JsonFile[]) | undefined;
}

/** Names that end documents where no file says which does. */
const KNOWN_ENDS = ['<|endoftext|>', '</s>', '<|end_of_text|>'];

/**
 * In this order: the options; tokenizer_config.json and special_tokens_map.json; what tokenizer.json itself puts around
 * a text (its post-processor); ids of special tokens in generation_config.json and config.json; for the end, the usual
 * names. Throws a UserError where a token that is named is not in the vocabulary, or nothing says which token ends a
 * document.
 */
export function specialTokens(vocabulary: Vocabulary, options: SpecialTokenOptions = {}): SpecialTokens {
  const { file } = vocabulary;
  const tokens = vocabulary.beside(['tokenizer_config.json', 'special_tokens_map.json']);
  const models = ['generation_config.json', 'config.json'];
  const ids = [...vocabulary.beside(models), ...(vocabulary.besideModel?.(models) ?? [])];
  const around = tokensAround(vocabulary.postProcessor);
  const ends = specialIds(vocabulary, ids, 'eos_token_id');
  const eosId = options.eosToken
    ? named(vocabulary, options.eosToken, 'end', 'it was asked for')
    : (namedIn(vocabulary, tokens, 'eos_token', 'end') ?? around.last ?? ends[0] ?? knownEnd(vocabulary));
  if (eosId === undefined) {
    throw new UserError(
      `nothing says which token of ${shown(file)} ends a document; name it with --eos-token (in a run's file: tokenizer: { path, eosToken }).`,
    );
  }
  const begin = () => {
    if (options.bosToken === '') return null;
    if (options.bosToken) return named(vocabulary, options.bosToken, 'begin', 'it was asked for');
    const told = namedIn(vocabulary, tokens, 'bos_token', 'begin');
    return told === undefined ? (around.first ?? specialIds(vocabulary, ids, 'bos_token_id')[0]) : told;
  };
  const bosId = begin() ?? undefined;
  const addsBos = bosId !== undefined && (saysAddsBos(tokens) ?? around.first === bosId);
  return { bosId, eosId, stopIds: [...new Set([eosId, ...ends])], addsBos };
}

/** What the first file to speak of it says. */
function saysAddsBos(files: readonly JsonFile[]): boolean | undefined {
  return files.map(({ json }) => json.add_bos_token).find((value) => typeof value === 'boolean') as boolean | undefined;
}

/** A token by the first file that speaks of it: its id, or null where that says that there is none. */
function namedIn(
  vocabulary: Vocabulary,
  files: readonly JsonFile[],
  key: 'bos_token' | 'eos_token',
  does: 'begin' | 'end',
): number | null | undefined {
  const TokenSchema = z.union([
    z.string(),
    z.object({ content: z.string() }).transform(({ content }) => content),
    z.null(),
  ]);
  for (const { path, json } of files) {
    if (!Object.hasOwn(json, key)) continue;
    const parsed = TokenSchema.safeParse(json[key]);
    if (!parsed.success) throw new UserError(`${shown(path)}: ${key} is not a token; expected text.`);
    if (parsed.data === null) return null;
    return named(vocabulary, parsed.data, does, `${shown(path)} names it`);
  }
  return undefined;
}

function named({ file, idOf }: Vocabulary, token: string, does: 'begin' | 'end', why: string): number {
  const id = idOf(token);
  if (id !== undefined) return id;
  const option = does === 'begin' ? '--bos-token' : '--eos-token';
  throw new UserError(
    `${shown(file)} has no token '${shown(token)}' to ${does} documents with (${why}); name another with ${option}.`,
  );
}

/** The ids that the files give, in their order, as far as they are special tokens of this vocabulary. */
function specialIds({ addedTokens }: Vocabulary, files: readonly JsonFile[], key: string): number[] {
  const special = new Set(addedTokens.filter((token) => token.special).map(({ id }) => id));
  const IdsSchema = z.union([z.int(), z.array(z.int())]).nullish();
  return files.flatMap(({ path, json }) => {
    const given = IdsSchema.safeParse(json[key]);
    if (!given.success)
      throw new UserError(`${shown(path)}: ${key} is no token's id; expected a whole number, or several.`);
    return [given.data ?? []].flat().filter((id) => special.has(id));
  });
}

function knownEnd({ idOf }: Vocabulary): number | undefined {
  for (const token of KNOWN_ENDS) {
    const id = idOf(token);
    if (id !== undefined) return id;
  }
  return undefined;
}

const ids = z.array(z.int());
const TemplateSchema = z.object({
  type: z.literal('TemplateProcessing'),
  single: z.array(
    z.union([z.object({ SpecialToken: z.object({ id: z.string() }) }), z.object({ Sequence: z.unknown() })]),
  ),
  special_tokens: z.record(z.string(), z.object({ ids })),
});
const pair = z.tuple([z.string(), z.int()]);
const PairSchema = z.object({ type: z.enum(['BertProcessing', 'RobertaProcessing']), cls: pair, sep: pair });

/** The special tokens that a post-processor puts first and last. */
function tokensAround(postProcessor: unknown): { first?: number; last?: number } {
  const sequence = z.object({ type: z.literal('Sequence'), processors: z.array(z.unknown()) }).safeParse(postProcessor);
  if (sequence.success) return Object.assign({}, ...sequence.data.processors.map(tokensAround));
  const around = PairSchema.safeParse(postProcessor);
  if (around.success) return { first: around.data.cls[1], last: around.data.sep[1] };
  const template = TemplateSchema.safeParse(postProcessor);
  if (!template.success) return {};
  const idOf = (part: (typeof template.data.single)[number] | undefined) =>
    part && 'SpecialToken' in part ? template.data.special_tokens[part.SpecialToken.id]?.ids : undefined;
  const { single } = template.data;
  const [first, last] = [idOf(single[0])?.[0], idOf(single.at(-1))?.at(-1)];
  return { ...(first === undefined ? {} : { first }), ...(last === undefined || single.length < 2 ? {} : { last }) };
}

/** An object of JSON, and the file that it is from. */
export interface JsonFile {
  path: string;
  json: Record<string, unknown>;
}

/** @throws UserError where the text is no JSON object */
export function jsonFile(path: string, text: string): JsonFile {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new UserError(`${shown(path)} is not valid JSON.`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new UserError(`${shown(path)} is no JSON object.`);
  }
  return { path, json: json as Record<string, unknown> };
}
