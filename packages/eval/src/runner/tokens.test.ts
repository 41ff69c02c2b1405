import { describe, expect, it } from 'vitest';
import { encodePairs, encodePrefix, encodePrompts, encodeWholeTexts, putsBos, type TokenRules } from './tokens.js';

/** A token for each letter, but `ab` and ` ab` are one; 0 begins texts. */
const vocabulary = ['<s>', ' ab', 'ab', ...' abcdefgh\n'];
const encode = (text: string): number[] => {
  const tokens: number[] = [];
  for (let at = 0; at < text.length; ) {
    const id = vocabulary.findIndex((entry, i) => i > 0 && text.startsWith(entry, at));
    tokens.push(id);
    at += vocabulary[id]!.length;
  }
  return tokens;
};
const tokenizer = {
  beginId: 0,
  bosToken: '<s>',
  addsBos: true,
  encodeBatch: async (texts: readonly string[]) => texts.map(encode),
};
const rules = (more: Partial<TokenRules> = {}): TokenRules => ({
  tokenizer,
  bos: false,
  splitsPrefix: true,
  maxLength: 100,
  ...more,
});
const shown = (tokens: readonly number[]) => tokens.map((id) => vocabulary[id]).join('|');

async function pair(context: string, continuation: string, more: Partial<TokenRules> = {}) {
  const [{ input, targets, cut }] = (await encodePairs([{ context, continuation }], rules(more))) as [never] as [
    Awaited<ReturnType<typeof encodePairs>>[number],
  ];
  return [shown(input), shown(targets), cut];
}

describe('a context and its continuation', () => {
  it('are encoded as one text, white space at the seam with what follows', async () => {
    expect(await pair('c', ' ab')).toEqual(['c', ' ab', 0]);
    expect(await pair('c ', 'ab')).toEqual(['c', ' ab', 0]);
    expect(await pair('cd', 'ef')).toEqual(['c|d|e', 'e|f', 0]);
    // The whole is cut after as many tokens as the context alone has, though another one stands at the seam.
    expect(await pair('ca', 'bd')).toEqual(['c|a', 'd', 0]);
  });

  it('with nothing before it: the beginning token is the context', async () => {
    expect(await pair('', 'cd')).toEqual(['<s>|c', 'c|d', 0]);
  });

  it('begin with a beginning token where the rule says so', async () => {
    expect(await pair('c', 'd', { bos: true })).toEqual(['<s>|c', 'd', 0]);
  });

  it('are cut on the left where they do not fit', async () => {
    expect(await pair('cdefgh', 'cd', { maxLength: 4 })).toEqual(['f|g|h|c', 'c|d', 3]);
    await expect(pair('c', 'defgh', { maxLength: 4 })).rejects.toThrow(
      "the 5 tokens of 'defgh' after 'c' are more than the 4",
    );
  });

  it('are refused where nothing is left of either', async () => {
    await expect(pair(' \n', 'c')).rejects.toThrow('nothing but white space stands before');
    await expect(pair('a', 'b')).rejects.toThrow('no token is left');
  });
});

describe('other requests', () => {
  it('whole texts, with the beginning token scored where it is put', async () => {
    const texts = await encodeWholeTexts(['cd', ''], rules({ bos: true }));
    expect(texts.map(shown)).toEqual(['<s>|c|d', '<s>']);
  });

  it('prompts leave room for what is generated', async () => {
    const [prompt] = await encodePrompts([{ context: 'cdefgh', newTokens: 2 }], rules({ maxLength: 6 }));
    expect([shown(prompt!.tokens), prompt!.cut]).toEqual(['e|f|g|h', 2]);
    await expect(encodePrompts([{ context: 'c', newTokens: 6 }], rules({ maxLength: 6 }))).rejects.toThrow(
      'leave no room',
    );
  });

  it('a common beginning ends before its seam', async () => {
    expect(shown(await encodePrefix('cdefgh', rules()))).toBe('c|d');
    expect(await encodePrefix('', rules())).toEqual([]);
  });
});

describe('the rule for a beginning token', () => {
  it('is that of the release, or what is asked for', () => {
    const put = (rule: 'auto' | 'never' | 'always', harness: string, more = {}) =>
      putsBos(rule, harness, { ...tokenizer, ...more });
    expect([put('auto', '0.4.4'), put('auto', '0.4.13'), put('auto', '0.4.13', { addsBos: false })]).toEqual([
      false,
      true,
      false,
    ]);
    expect([put('always', '0.4.4'), put('never', '0.4.13')]).toEqual([true, false]);
    expect(() => put('always', '0.4.4', { bosToken: undefined })).toThrow('the tokenizer has no beginning token');
  });
});
