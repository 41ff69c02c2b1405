import { describe, expect, it } from 'vitest';
import { goldenJson, goldens, unlessSkipped } from '../goldens.fixture.js';
import { exp } from '../python/exp.js';
import { countPieces } from '../python/text.js';
import { equalWithout } from './exact_match.js';
import { regexFilter } from './filters.js';
import { groupResult } from './groups.js';
import {
  bitsPerByte,
  bootstrapStandardError,
  groupMean,
  mean,
  meanStandardError,
  pooledStandardError,
  weightedPerplexity,
} from './statistics.js';
import { gsm8kAnswers } from './suite/gsm8k.js';

describe('figures', () => {
  it('of a mean', () => {
    expect(mean([1, 0, 1, 1])).toBe(0.75);
    expect(meanStandardError([1, 0, 1, 1])).toBe(0.25);
    expect(meanStandardError([1])).toBeUndefined();
  });

  it('of perplexities', () => {
    expect(
      weightedPerplexity([
        [-2, 1],
        [-4, 2],
      ]),
    ).toBe(exp(2));
    expect(
      bitsPerByte([
        [-2 * Math.LN2, 1],
        [-4 * Math.LN2, 2],
      ]),
    ).toBe(2);
  });

  it('of a group: by documents, and pooled', () => {
    expect(groupMean([0.5, 0.25], [1, 3], true)).toBe(0.3125);
    expect(groupMean([0.5, 0.25], [1, 3], false)).toBe(0.375);
    // Two tasks of 2 documents, deviations s²·n of 0.5 each: √((0.25·2 + 0.25·2) / (4 − 2) / 4)
    expect(pooledStandardError([0.5, 0.5], [2, 2])).toBe(Math.sqrt(1 / 2 / 4));
    expect(pooledStandardError([0.5, undefined], [2, 1])).toBeUndefined();
    const figure = (value: number) => ({
      metric: 'acc',
      filter: 'none',
      value,
      standardError: 0.5,
      higherIsBetter: true,
    });
    const group = { name: 'g', members: [], aggregate: [{ metric: 'acc', filters: ['none'], weightBySize: true }] };
    const tasks = [
      { documents: 2, figures: [figure(1)] },
      { documents: 2, figures: [figure(0)] },
    ];
    expect(groupResult(group, tasks)).toEqual({
      documents: 4,
      figures: [{ ...figure(0.5), standardError: Math.sqrt(1 / 8) }],
    });
  });

  it('by drawing samples anew', () => {
    const error = bootstrapStandardError(mean, [1, 2, 3, 4], 2000);
    expect(error).toBe(bootstrapStandardError(mean, [1, 2, 3, 4], 2000));
    expect(Math.abs(error - Math.sqrt(1.25 / 4))).toBeLessThan(0.02);
  });
});

describe('answers', () => {
  it('are taken out by a pattern', () => {
    const last = regexFilter('last', /(-?[$0-9.,]{2,})|(-?[0-9]+)/g, -1);
    expect(['a 12, then 7 x', 'is 8.', 'none'].map(last.apply)).toEqual(['7', '8.', '[invalid]']);
    expect(regexFilter('first', /#### (-?[0-9.,]+)/g).apply('#### 1,5\n#### 6')).toBe('1,5');
  });

  it('are made alike before they are compared', () => {
    expect(equalWithout('A.b!1', 'ab', { ignoreCase: true, ignorePunctuation: true, ignoreNumbers: true })).toBe(true);
    expect(equalWithout('A', 'a')).toBe(false);
    expect(equalWithout('$1,800', 'so #### 1800', { ignored: [/,/g, /\$/g, /.*#### /gs] })).toBe(true);
  });
});

interface Golden {
  mean_and_mean_stderr: { values: number[]; mean: number; stderr: number | null }[];
  weighted: { items: [number, number][]; weighted_perplexity: number; bits_per_byte: number };
  group: {
    scores: number[];
    sizes: number[];
    stderrs: number[];
    weighted_mean: number;
    unweighted_mean: number;
    pooled_stderr: number;
  };
  count_words: { text: string; words: number }[];
  bootstrap: { values: number[]; iters: number; stderr: number; perplexity: number };
  exact_match_gsm8k: { rows: { prediction: string; reference: string; exact_match: number }[] };
  exact_match: { prediction: string; reference: string; exact_match: number; kwargs: Record<string, boolean> }[];
}

describe.skipIf(!goldens)(`figures of the harness by themselves${unlessSkipped}`, () => {
  const known = goldens ? goldenJson<Golden>('metrics.json') : undefined!;

  it('equal its own', () => {
    for (const { values, mean: middle, stderr } of known.mean_and_mean_stderr) {
      expect([mean(values), meanStandardError(values) ?? null]).toEqual([middle, stderr]);
    }
    const { items, weighted_perplexity, bits_per_byte } = known.weighted;
    expect([weightedPerplexity(items), bitsPerByte(items)]).toEqual([weighted_perplexity, bits_per_byte]);
    const { scores, sizes, stderrs, weighted_mean, unweighted_mean, pooled_stderr } = known.group;
    expect(groupMean(scores, sizes, true)).toBe(weighted_mean);
    expect(groupMean(scores, sizes, false)).toBe(unweighted_mean);
    expect(pooledStandardError(stderrs, sizes)).toBe(pooled_stderr);
    for (const { text, words } of known.count_words) expect(countPieces(text), text).toBe(words);
    const perplexity = (values: readonly number[]) => exp(-mean(values));
    const { values, iters, stderr, perplexity: whole } = known.bootstrap;
    expect([perplexity(values), bootstrapStandardError(perplexity, values, iters)]).toEqual([whole, stderr]);
  });

  it('compare answers as its own do', () => {
    for (const { prediction, reference, exact_match } of known.exact_match_gsm8k.rows) {
      expect(Number(equalWithout(prediction, reference, gsm8kAnswers)), prediction).toBe(exact_match);
    }
    for (const { prediction, reference, exact_match, kwargs } of known.exact_match) {
      const options = {
        ignoreCase: kwargs.ignore_case!,
        ignorePunctuation: kwargs.ignore_punctuation!,
        ignoreNumbers: kwargs.ignore_numbers!,
      };
      expect(Number(equalWithout(prediction, reference, options)), prediction).toBe(exact_match);
    }
  });
});
