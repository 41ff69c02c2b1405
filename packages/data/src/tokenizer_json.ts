// The parts of a tokenizer.json that are needed to build one or to cut one down.
import { UserError } from '@stickbreaking/base';

export interface AddedToken {
  id: number;
  content: string;
  single_word: boolean;
  lstrip: boolean;
  rstrip: boolean;
  normalized: boolean;
  special: boolean;
}

export interface TokenizerJson {
  version: string;
  truncation: unknown;
  padding: unknown;
  added_tokens: AddedToken[];
  normalizer: unknown;
  pre_tokenizer: unknown;
  post_processor: unknown;
  decoder: unknown;
  model: {
    type: string;
    vocab: Record<string, number>;
    /** in the order they were learned, which is also the order they are applied in */
    merges: ([string, string] | string)[];
    [option: string]: unknown;
  };
}

/** Both spellings of a merge are in use: `["a", "b"]` and `"a b"`. */
export function mergePair(merge: [string, string] | string): [string, string] {
  if (typeof merge !== 'string') return merge;
  const space = merge.indexOf(' ');
  return [merge.slice(0, space), merge.slice(space + 1)];
}

/**
 * Cuts a byte-pair vocabulary down to `vocabSize`: the characters and the added tokens stay, and of the merges a
 * prefix, which is what training would have stopped at. Ids are numbered anew in the old order.
 */
export function cutVocabulary(json: TokenizerJson, vocabSize: number): TokenizerJson {
  if (json.model.type !== 'BPE')
    throw new UserError(`only a BPE vocabulary can be cut, and this is ${json.model.type}.`);
  const merged = new Set(json.model.merges.map((merge) => mergePair(merge).join('')));
  const added = new Set(json.added_tokens.map((token) => token.content));
  const kept = new Set(added);
  for (const token of Object.keys(json.model.vocab)) if (!merged.has(token)) kept.add(token);
  if (vocabSize < kept.size) {
    throw new UserError(
      `a vocabulary of ${vocabSize} is too small: ${added.size} added tokens and ${kept.size - added.size} characters make ${kept.size}.`,
    );
  }
  const merges: [string, string][] = [];
  for (const merge of json.model.merges) {
    const pair = mergePair(merge);
    const token = pair.join('');
    if (kept.size === vocabSize && !kept.has(token)) break;
    kept.add(token);
    merges.push(pair);
  }
  if (kept.size < vocabSize) {
    throw new UserError(`the vocabulary has ${kept.size} tokens, ${vocabSize} were asked for; ask for fewer.`);
  }
  return renumber(json, kept, merges);
}

function renumber(json: TokenizerJson, kept: ReadonlySet<string>, merges: [string, string][]): TokenizerJson {
  const oldIds = new Map(Object.entries(json.model.vocab));
  for (const token of json.added_tokens) oldIds.set(token.content, token.id);
  const tokens = [...kept].sort((a, b) => oldIds.get(a)! - oldIds.get(b)!);
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const inVocabulary = tokens.filter((token) => Object.hasOwn(json.model.vocab, token));
  return {
    ...json,
    added_tokens: json.added_tokens.map((token) => ({ ...token, id: ids.get(token.content)! })),
    post_processor: renumberIn(json.post_processor, ids),
    model: { ...json.model, vocab: Object.fromEntries(inVocabulary.map((token) => [token, ids.get(token)!])), merges },
  };
}

/** Post-processors name special tokens with their ids: `{ "id": "<s>", "ids": [1] }` or `"cls": ["<s>", 1]`. */
function renumberIn(value: unknown, ids: ReadonlyMap<string, number>): unknown {
  if (Array.isArray(value)) {
    const [token, id] = value;
    if (value.length === 2 && typeof token === 'string' && typeof id === 'number') return [token, ids.get(token) ?? id];
    return value.map((item) => renumberIn(item, ids));
  }
  if (typeof value !== 'object' || value === null) return value;
  const copy = Object.fromEntries(Object.entries(value).map(([key, item]) => [key, renumberIn(item, ids)]));
  if (Array.isArray(copy.ids) && Array.isArray(copy.tokens)) {
    copy.ids = copy.tokens.map((token, i) => ids.get(token as string) ?? (copy.ids as number[])[i]);
  }
  return copy;
}
