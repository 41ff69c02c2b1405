/**
 * Requests as tokens, cut as lm-evaluation-harness cuts them: where a context ends and its continuation begins, what stands
 * before a text, and what is left out where a context is too long.
 */
import { shown, UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import { rstrip } from '../python/text.js';

/** What the rules ask of a tokenizer. */
export type TaskTokenizer = Pick<Tokenizer, 'encodeBatch' | 'beginId' | 'bosToken' | 'addsBos'>;

/** When a beginning token stands before a context: as the harness decides, never, or always. */
export type BosRule = 'auto' | 'never' | 'always';

/** How texts become tokens. */
export interface TokenRules {
  tokenizer: TaskTokenizer;
  /** A beginning token stands before every text that does not begin with one. */
  bos: boolean;
  /** Continuations of nothing: a first token that is the beginning one is context (the harness since 0.4.9.2). */
  splitsPrefix: boolean;
  /** The most tokens of a model's input. */
  maxLength: number;
}

/**
 * Whether a beginning token is put before texts.
 *
 * @throws UserError for `always` with a tokenizer that has none
 */
export function putsBos(rule: BosRule, harness: string, { addsBos, bosToken }: TaskTokenizer): boolean {
  if (rule === 'always' && bosToken === undefined) {
    throw new UserError('--bos always: the tokenizer has no beginning token; name one with --bos-token.');
  }
  return rule === 'always' || (rule === 'auto' && harness !== '0.4.4' && addsBos);
}

/** Tokens of a model's input, of which the last are followed by the tokens that are scored. */
export interface ScoredTokens {
  input: readonly number[];
  /** The token after each of the last inputs. */
  targets: readonly number[];
  /** Tokens of context that were cut off on the left. */
  cut: number;
}

/** A context and what follows it. */
export interface Pair {
  context: string;
  continuation: string;
}

/**
 * Pairs as tokens. White space at a context's end belongs to the continuation; both are encoded as one text, which is then
 * cut after as many tokens as the context alone has.
 *
 * @throws UserError where no token is left to be scored, or more than fit the model
 */
export async function encodePairs(pairs: readonly Pair[], rules: TokenRules): Promise<ScoredTokens[]> {
  const moved = pairs.map(({ context, continuation }) => {
    const kept = rstrip(context);
    return { context: kept, continuation: context.slice(kept.length) + continuation, empty: context === '' };
  });
  const texts = new Set(
    moved.flatMap(({ context, continuation, empty }) => (empty ? [continuation] : [context, context + continuation])),
  );
  const encoded = await encodeTexts([...texts], rules.tokenizer);
  const bosBefore = (text: string) => withBos(text, encoded.get(text)!, rules);
  return moved.map(({ context, continuation, empty }) => {
    if (empty) return scored(...afterNothing(encoded.get(continuation)!, rules), { context, continuation }, rules);
    const before = bosBefore(context);
    const whole = bosBefore(context + continuation);
    return scored(before, whole.slice(before.length), { context, continuation }, rules);
  });
}

async function encodeTexts(
  texts: readonly string[],
  tokenizer: TaskTokenizer,
): Promise<Map<string, readonly number[]>> {
  const tokens = await tokenizer.encodeBatch(texts);
  return new Map(texts.map((text, i) => [text, tokens[i]!]));
}

function withBos(text: string, tokens: readonly number[], { bos, tokenizer }: TokenRules): readonly number[] {
  if (!bos || (tokenizer.bosToken !== undefined && text.startsWith(tokenizer.bosToken))) return tokens;
  return [tokenizer.beginId, ...tokens];
}

function afterNothing(
  tokens: readonly number[],
  { tokenizer, splitsPrefix }: TokenRules,
): [number[], readonly number[]] {
  const { beginId } = tokenizer;
  if (splitsPrefix && tokens[0] === beginId) return [[beginId], tokens.slice(1)];
  return [[beginId], tokens];
}

function scored(
  context: readonly number[],
  targets: readonly number[],
  { context: text, continuation }: Pair,
  { maxLength }: TokenRules,
): ScoredTokens {
  const place = `of '${shown(continuation.slice(0, 40))}' after '${shown(text.slice(-40))}'`;
  if (context.length === 0) throw new UserError(`nothing but white space stands before the continuation ${place}.`);
  if (targets.length === 0) throw new UserError(`no token is left ${place}: the tokenizer joins it with the context.`);
  if (targets.length > maxLength) {
    throw new UserError(`the ${targets.length} tokens ${place} are more than the ${maxLength} that fit the model.`);
  }
  const whole = [...context, ...targets];
  const cut = Math.max(0, whole.length - (maxLength + 1));
  return { input: whole.slice(cut, -1), targets, cut };
}

/** The tokens of whole texts, whose likelihood rolls over them. */
export async function encodeWholeTexts(texts: readonly string[], rules: TokenRules): Promise<(readonly number[])[]> {
  const encoded = await encodeTexts([...new Set(texts)], rules.tokenizer);
  return texts.map((text) => withBos(text, encoded.get(text)!, rules));
}

/** A prompt to be continued. */
export interface PromptTokens {
  tokens: readonly number[];
  /** Tokens that were cut off on the left. */
  cut: number;
}

/**
 * Prompts as tokens, cut so that the generated ones fit.
 *
 * @throws UserError where these alone do not
 */
export async function encodePrompts(
  prompts: readonly { context: string; newTokens: number }[],
  rules: TokenRules,
): Promise<PromptTokens[]> {
  const encoded = await encodeTexts([...new Set(prompts.map(({ context }) => context))], rules.tokenizer);
  return prompts.map(({ context, newTokens }) => {
    const room = rules.maxLength - newTokens;
    if (room <= 0) {
      throw new UserError(
        `${newTokens} new tokens leave no room for a prompt in the ${rules.maxLength} that fit the model; set max_gen_toks in --gen-kwargs.`,
      );
    }
    const tokens = withBos(context, encoded.get(context)!, rules);
    const cut = Math.max(0, tokens.length - room);
    return { tokens: tokens.slice(cut), cut };
  });
}

/**
 * The tokens with which prompts begin that begin with a text: all but the last few, which the tokenizer may join with what
 * follows.
 */
export async function encodePrefix(text: string, rules: TokenRules): Promise<readonly number[]> {
  if (text === '') return [];
  const [tokens] = await encodeWholeTexts([text], rules);
  return tokens!.slice(0, -SEAM_TOKENS);
}

const SEAM_TOKENS = 4;
