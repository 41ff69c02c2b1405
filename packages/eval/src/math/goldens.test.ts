import { describe, expect, it } from 'vitest';
import { goldenLines, goldens, unlessSkipped } from '../goldens.fixture.js';
import { compareLatex } from './equivalence.js';
import { parseLatex } from './latex.js';
import { answerIn, goldAnswer, lastBoxed, normaliseAnswer } from './minerva_answer.js';

interface Pair {
  a: string;
  b: string;
  norm_a: string;
  norm_b: string;
  parsed_a: string | null;
  parsed_b: string | null;
  equiv: boolean;
}

interface Extraction {
  what: string;
  text?: string;
  answer?: string;
  solution_tail?: string;
  last_boxed?: string | null;
  boxed?: string;
  normalized?: string;
}

const reads = (text: string) => {
  try {
    parseLatex(text);
    return true;
  } catch {
    return false;
  }
};

describe.skipIf(!goldens)(`answers of MATH${unlessSkipped}`, () => {
  it('are taken out and made alike as the harness does', () => {
    for (const one of goldenLines<Extraction>('math_extract.jsonl')) {
      if (one.text !== undefined) expect(answerIn(one.text), one.text).toBe(one.answer);
      if (one.solution_tail === undefined) continue;
      expect(lastBoxed(one.solution_tail) ?? null).toBe(one.last_boxed);
      if (one.boxed !== undefined) expect(goldAnswer(one.solution_tail)).toBe(one.boxed);
      if (one.normalized !== undefined) expect(normaliseAnswer(one.boxed!)).toBe(one.normalized);
    }
  });

  it('are compared as sympy compares them', () => {
    const pairs = goldenLines<Pair>('math_equiv.jsonl');
    const unlike: unknown[] = [];
    for (const pair of pairs) {
      expect(normaliseAnswer(pair.a)).toBe(pair.norm_a);
      expect(normaliseAnswer(pair.b)).toBe(pair.norm_b);
      const found = compareLatex(pair.norm_a, pair.norm_b);
      if ((found === 'equal') !== pair.equiv || found === 'undecided') unlike.push({ found, ...pair });
      for (const [text, known] of [
        [pair.norm_a, pair.parsed_a],
        [pair.norm_b, pair.parsed_b],
      ] as const) {
        if (reads(text) !== (known !== null)) unlike.push({ read: reads(text), text, known });
      }
    }
    console.info(`${pairs.length - unlike.length} of ${pairs.length} pairs as sympy`);
    expect(unlike).toEqual([]);
  });
});
