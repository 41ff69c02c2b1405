// Checks a tokenizer.json: its types, and what they alone do not say: ids that fit each other, merges whose tokens are
// there.
import { shown, UserError } from '@stickbreaking/base';
import { type CheckedModel, type CheckedTokenizer, TokenizerSchema } from './tokenizer_schema.js';

const LARGEST_ID = 2 ** 24 - 1;

/**
 * A tokenizer.json, checked, with its defaults filled in.
 *
 * @param file for the error, which is one line and names the key
 */
export function checkTokenizerJson(json: unknown, file: string): CheckedTokenizer {
  const refuse = (what: string) => new UserError(`${shown(file)} cannot be used as a tokenizer: ${what}.`);
  const { model } = (json ?? {}) as { model?: unknown };
  if (typeof model !== 'object' || model === null || !('vocab' in model)) {
    throw refuse('it has no model with a vocabulary');
  }
  const parsed = TokenizerSchema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw refuse(`${shown(issue!.path.join('.'))}: ${shown(issue!.message)}`);
  }
  const fault = modelFault(parsed.data);
  if (fault) throw refuse(fault);
  return parsed.data;
}

/** What is wrong, in a few words; undefined where nothing is. */
function modelFault({ model, added_tokens, post_processor }: CheckedTokenizer): string | undefined {
  const ids = idsOf(model);
  if (typeof ids === 'string') return ids;
  return (
    unknownFault(model, ids) ??
    mergeFault(model, ids) ??
    addedFault(added_tokens, ids) ??
    aroundFault(post_processor, ids)
  );
}

/** Tokens and their ids, or what is wrong with them. */
function idsOf(model: CheckedModel): Map<string, number> | string {
  const entries =
    model.type === 'Unigram' ? model.vocab.map(([token], i) => [token, i] as const) : Object.entries(model.vocab);
  const ids = new Map<string, number>();
  const seen = new Set<number>();
  for (const [token, id] of entries) {
    if (!Number.isInteger(id) || id < 0 || id > LARGEST_ID) {
      return `model.vocab: the id of '${shown(token)}' is ${shown(String(JSON.stringify(id)))}; expected a whole number up to ${LARGEST_ID}`;
    }
    if (seen.has(id)) return `model.vocab: two tokens have the id ${id} ('${shown(token)}' is one)`;
    if (ids.has(token)) return `model.vocab: '${shown(token)}' is there twice`;
    seen.add(id);
    ids.set(token, id);
  }
  return ids.size === 0 ? 'model.vocab is empty' : ids;
}

function unknownFault(model: CheckedModel, ids: ReadonlyMap<string, number>): string | undefined {
  if (model.type === 'Unigram') {
    if (!model.vocab.every(([, score]) => Number.isFinite(score))) return 'model.vocab: a score is not a number';
    return model.unk_id < model.vocab.length ? undefined : `model.unk_id is ${model.unk_id}, beyond the vocabulary`;
  }
  const unknown = model.unk_token;
  return unknown === null || ids.has(unknown)
    ? undefined
    : `model.unk_token: '${shown(unknown)}' is not in the vocabulary`;
}

function mergeFault(model: CheckedModel, ids: ReadonlyMap<string, number>): string | undefined {
  if (model.type !== 'BPE') return undefined;
  const areTexts = typeof model.merges[0] === 'string';
  for (const [i, merge] of model.merges.entries()) {
    const pair: unknown = areTexts && typeof merge === 'string' ? merge.split(' ') : merge;
    if (!isPair(pair) || (typeof merge === 'string') !== areTexts) {
      const spelling = areTexts ? '"a b"' : '["a", "b"]';
      return `model.merges.${i} is ${shown(String(JSON.stringify(merge)))}; expected two tokens, as in ${spelling}`;
    }
    for (const token of [...pair, pair.join('')]) {
      if (!ids.has(token)) return `model.merges.${i}: '${shown(token)}' is not in the vocabulary`;
    }
  }
  return undefined;
}

function isPair(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every((one) => typeof one === 'string' && one !== '');
}

/** An added token that the model does not have comes after those that it has, one after the other. */
function addedFault(added: CheckedTokenizer['added_tokens'], ids: ReadonlyMap<string, number>): string | undefined {
  const contents = new Set<string>();
  let next = ids.size;
  for (const [i, { content, id }] of added.entries()) {
    if (contents.has(content)) return `added_tokens.${i}: '${shown(content)}' is there twice`;
    contents.add(content);
    const own = ids.get(content);
    if (own === undefined && id === next) next++;
    else if (own !== id) return `added_tokens.${i}: the id of '${shown(content)}' is ${id}; expected ${own ?? next}`;
  }
  return undefined;
}

/** Special tokens that are put around a text are named with their ids. */
function aroundFault(
  processor: CheckedTokenizer['post_processor'],
  ids: ReadonlyMap<string, number>,
): string | undefined {
  if (processor?.type === 'Sequence') {
    for (const one of processor.processors) {
      const fault = aroundFault(one, ids);
      if (fault) return fault;
    }
  }
  if (processor?.type !== 'TemplateProcessing') return undefined;
  for (const part of [...processor.single, ...(processor.pair ?? [])]) {
    if (!('SpecialToken' in part)) continue;
    const named = processor.special_tokens[part.SpecialToken.id];
    if (!named) return `post_processor: special_tokens lacks '${shown(part.SpecialToken.id)}'`;
  }
  return undefined;
}
