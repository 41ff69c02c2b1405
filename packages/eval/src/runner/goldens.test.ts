import { selectBackend } from '@stickbreaking/core';
import { tensor1d } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { goldenJson, goldens, unlessSkipped } from '../goldens.fixture.js';
import { StopTexts } from '../stop_texts.js';
import { settingsOf } from '../tasks/build.js';
import { rollingWindows } from '../tasks/rolling.js';
import { packsOf } from './packs.js';
import { PackScorer, type ScoringModel, type SequenceScore } from './score_packs.js';
import { sequenceOf } from './sequences.js';
import { parseGenerationSettings } from './settings.js';
import { encodePairs, encodeWholeTexts, type TaskTokenizer, type TokenRules } from './tokens.js';

interface ModelSide {
  vocab: string[];
  loglikelihood: { add_bos: boolean; max_length: number; requests: [string, string][]; results: [number, boolean][] }[];
  encode_pair: {
    add_bos: boolean;
    context: string;
    continuation: string;
    context_enc: number[];
    continuation_enc: number[];
  }[];
  rolling: { add_bos: boolean; max_length: number; batch_size: number; texts: string[]; results: number[] }[];
  rolling_windows: {
    n: number;
    prefix: number;
    max_seq_len: number;
    context_len: number;
    windows: [number[], number[]][];
  }[];
  stop: { generation: string; stop: string[]; text: string }[];
  gen_kwargs: { gen_kwargs: Record<string, unknown>; normalized: Record<string, unknown> }[];
  fails: { requests: [string, string][] };
}

const known = goldens ? goldenJson<ModelSide>('model_side.json') : undefined!;

/** The longest entry of the vocabulary at each place. */
function encode(text: string): number[] {
  const tokens: number[] = [];
  for (let at = 0; at < text.length; ) {
    let best = -1;
    for (const [id, entry] of known.vocab.entries()) {
      if (text.startsWith(entry, at) && entry.length > (known.vocab[best]?.length ?? 0)) best = id;
    }
    if (best < 0) throw new Error(`nothing begins at ${at} of '${text}'`);
    tokens.push(best);
    at += known.vocab[best]!.length;
  }
  return tokens;
}

const tokenizer: TaskTokenizer = {
  beginId: 0,
  bosToken: '<s>',
  addsBos: false,
  encodeBatch: async (texts) => texts.map(encode),
};

const rulesOf = (add_bos: boolean, maxLength: number): TokenRules => ({
  tokenizer,
  bos: add_bos,
  splitsPrefix: true,
  maxLength,
});

/** The goldens' model: its logits are a wave over token, place and the token before. It has no caches. */
const model: ScoringModel = {
  targetScores({ tokens, cuSeqlens, rows, targets }) {
    const waves = Array.from(rows, (row) => {
      const begin = Array.from(cuSeqlens).findLast((at) => at <= row)!;
      const [token, before] = [tokens[row]!, tokens[Math.max(row - 1, begin)]!];
      return known.vocab.map((_, v) => 3 * Math.cos(0.37 * v + 0.91 * token + 0.13 * before + 0.05 * (row - begin)));
    });
    const total = (wave: number[]) => Math.log(wave.reduce((sum, logit) => sum + Math.exp(logit), 0));
    const of = <T>(value: (wave: number[], target: number) => T) =>
      waves.map((wave, r) => (targets[r] === -1 ? (0 as T) : value(wave, targets[r]!)));
    return {
      losses: tensor1d(of((wave, target) => total(wave) - wave[target]!)),
      likeliest: tensor1d(of((wave, target) => (wave[target] === Math.max(...wave) ? 1 : 0))),
    };
  },
  extendCache: () => {},
  createCache: () => {
    throw new Error('nothing is cached');
  },
  reserveCache: () => {},
  parameters: new Map(),
};

const inPlace = (begin: number, from: readonly number[]) => from.map((index) => (index < 0 ? begin : index));

beforeAll(() => selectBackend('cpu'));

describe.skipIf(!goldens)(`requests as tokens${unlessSkipped}`, () => {
  it('are cut between context and continuation as the harness cuts', async () => {
    for (const { add_bos, context, continuation, context_enc, continuation_enc } of known.encode_pair) {
      if (context_enc.length === 0 || continuation_enc.length === 0 || context.trim() === '') continue;
      const [found] = await encodePairs([{ context, continuation }], rulesOf(add_bos, 100));
      expect([...found!.input, found!.targets.at(-1)], `${context}|${continuation}`).toEqual([
        ...context_enc,
        ...continuation_enc,
      ]);
      expect(found!.targets).toEqual(continuation_enc);
    }
    for (const [context, continuation] of known.fails.requests) {
      await expect(encodePairs([{ context, continuation }], rulesOf(false, 100))).rejects.toThrow(
        /no token is left|nothing but white/,
      );
    }
  });

  it('are as likely, whatever runs beside them', async () => {
    for (const { add_bos, max_length, requests, results } of known.loglikelihood) {
      const pairs = requests.map(([context, continuation]) => ({ context, continuation }));
      const sequences = (await encodePairs(pairs, rulesOf(add_bos, max_length))).map((one) => sequenceOf(one));
      for (const batchTokens of [1, 60]) {
        const scorer = new PackScorer(model, batchTokens);
        const found = new Map<string, SequenceScore>();
        for (const pack of packsOf(sequences, batchTokens)) {
          for (const [key, score] of await scorer.score(pack)) found.set(key, score);
        }
        for (const [i, { key }] of sequences.entries()) {
          const { logLikelihood, isGreedy } = found.get(key)!;
          expect(logLikelihood, requests[i]!.join('|')).toBeCloseTo(results[i]![0], 3);
          expect(isGreedy, requests[i]!.join('|')).toBe(results[i]![1]);
        }
      }
    }
  });

  it('roll over whole texts', async () => {
    for (const { add_bos, max_length, batch_size, texts, results } of known.rolling) {
      // In batches the harness pads windows, and the place of a token, which this model sees, moves.
      if (batch_size !== 1) continue;
      const tokens = await encodeWholeTexts(texts, rulesOf(add_bos, max_length));
      for (const [i, one] of tokens.entries()) {
        const windows = rollingWindows(one, max_length, 0);
        let sum = 0;
        for (const window of windows) {
          const targets = window.targets.filter((target) => target !== -1);
          const [pack] = packsOf([sequenceOf({ input: window.tokens, targets, cut: 0 })], 1);
          const [found] = [...(await new PackScorer(model, 1).score(pack!)).values()];
          sum += found!.logLikelihood;
        }
        expect(sum, texts[i]).toBeCloseTo(results[i]!, 3);
      }
    }
    for (const { n, prefix, max_seq_len, context_len, windows } of known.rolling_windows) {
      if (context_len !== 1) continue;
      const tokens = Array.from({ length: n }, (_, i) => i);
      const found = rollingWindows(tokens, max_seq_len, prefix);
      expect(found.map((one) => [one.tokens, one.targets.filter((target) => target !== -1)])).toEqual(
        windows.map(([input, scored]) => [inPlace(prefix, input), scored]),
      );
    }
  });

  it('end at stop texts, and take settings by their names', () => {
    for (const { generation, stop, text } of known.stop) {
      const ending = new StopTexts(stop);
      const ready = ending.push(generation);
      expect(ending.met ? ready : ready + ending.rest(), generation).toBe(text);
    }
    for (const { gen_kwargs, normalized } of known.gen_kwargs) {
      const { temperature: _, ...expected } = normalized;
      const { temperature, ...found } = settingsOf(
        { settings: {} },
        parseGenerationSettings(JSON.stringify(gen_kwargs)),
      );
      expect(found).toEqual(expected);
      if (normalized.temperature !== undefined) expect(temperature).toBe(normalized.temperature);
    }
  });
});
