import { generator } from '@stickbreaking/base';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  answerPositions,
  checkTask,
  type MqrarTask,
  mqrarBatch,
  mqrarSequence,
  paperExample,
  parseExample,
} from './task.js';

const task: MqrarTask = { sequenceLength: 768, variables: 256, values: 64, pairs: 192 };

/** What a reader who keeps a notebook of assignments answers, with nothing taken from the generator. */
function oracle(tokens: Int32Array, variables: number): (number | undefined)[] {
  const notebook = new Map<number, number>();
  const answers: (number | undefined)[] = [];
  let open: number | undefined;
  for (const token of tokens) {
    if (token < variables) {
      answers.push(notebook.get(token));
      open = token;
    } else {
      answers.push(undefined);
      notebook.set(open!, token);
    }
  }
  return answers;
}

const tasks = fc
  .record({
    pairs: fc.integer({ min: 1, max: 60 }),
    spare: fc.integer({ min: 0, max: 40 }),
    values: fc.integer({ min: 2, max: 90 }),
    questions: fc.integer({ min: 1, max: 60 }),
    seed: fc.nat(),
  })
  .map(({ pairs, spare, values, questions, seed }) => ({
    seed,
    task: { pairs, values, variables: pairs + spare, sequenceLength: 2 * (pairs + questions) },
  }));

describe('the MQRAR task', () => {
  it('is answered by a reader who keeps track of assignments, at exactly the scored positions', () => {
    fc.assert(
      fc.property(tasks, ({ task, seed }) => {
        checkTask(task);
        const { tokens, targets } = mqrarSequence(task, generator(seed, 'test'));
        const answers = oracle(tokens, task.variables);
        expect(Array.from(targets)).toEqual(answers.map((answer) => answer ?? -1));
        expect(targets.filter((target) => target >= 0)).toHaveLength(task.sequenceLength / 2 - task.pairs);
      }),
    );
  });

  it('draws the number of pairs of each sequence where it may, small ones as often as large ones', () => {
    const { tokens } = mqrarBatch({ ...task, fewestPairs: 3 }, 400, 'test', 0, 0);
    const counts = Array.from({ length: 400 }, (_, s) => {
      const sequence = tokens.subarray(s * task.sequenceLength, (s + 1) * task.sequenceLength);
      return new Set(sequence.filter((_, position) => position % 2 === 0)).size;
    });
    expect(Math.min(...counts)).toBe(3);
    expect(Math.max(...counts)).toBeGreaterThan(160);
    expect(Math.max(...counts)).toBeLessThanOrEqual(192);
    const below = counts.filter((count) => count < 24).length; // 24 is half way from 3 to 192, in factors
    expect(below).toBeGreaterThan(150);
    expect(below).toBeLessThan(250);
    expect(() => checkTask({ ...task, fewestPairs: 193 })).toThrow('From 193 to 192 pairs is not a range');
  });

  it('assigns each variable once, then asks and assigns in turn, all tokens in their ranges', () => {
    fc.assert(
      fc.property(tasks, ({ task, seed }) => {
        const { tokens } = mqrarSequence(task, generator(seed, 'test'));
        const { pairs, variables, values } = task;
        const first = Array.from({ length: pairs }, (_, i) => tokens[2 * i]!);
        expect(new Set(first).size).toBe(pairs);
        for (let i = 0; i < tokens.length; i += 2) {
          expect(tokens[i]).toBeLessThan(variables);
          expect(first).toContain(tokens[i]);
          expect(tokens[i + 1]! - variables).toBeGreaterThanOrEqual(0);
          expect(tokens[i + 1]! - variables).toBeLessThan(values);
        }
      }),
    );
  });

  it('asks for the same variable again, and the answer is the later assignment', () => {
    const { tokens, targets } = mqrarSequence(task, generator(5, 'test'));
    const changed = Array.from(tokens).filter((variable, i) => {
      if (targets[i]! < 0) return false;
      return targets[i] !== tokens[tokens.indexOf(variable) + 1];
    });
    expect(changed.length).toBeGreaterThan(40);
  });

  it('draws variables, values and questions evenly', () => {
    const small: MqrarTask = { sequenceLength: 64, variables: 8, values: 4, pairs: 4 };
    const counts = new Map<number, number>();
    for (let s = 0; s < 400; s++) {
      for (const token of mqrarSequence(small, generator(s, 'even')).tokens)
        counts.set(token, (counts.get(token) ?? 0) + 1);
    }
    for (let token = 0; token < 12; token++) {
      const expected = (400 * 32) / (token < 8 ? 8 : 4);
      expect(Math.abs(counts.get(token)! / expected - 1)).toBeLessThan(0.1);
    }
  });

  it('gives batch i of a stream alone, the same every time and another in another stream', () => {
    const a = mqrarBatch(task, 3, 'train', 7, 11);
    expect(mqrarBatch(task, 3, 'train', 7, 11)).toEqual(a);
    expect(Array.from(a.cuSeqlens)).toEqual([0, 768, 1536, 2304]);
    for (const other of [
      mqrarBatch(task, 3, 'test', 7, 11),
      mqrarBatch(task, 3, 'train', 8, 11),
      mqrarBatch(task, 3, 'train', 7, 12),
    ])
      expect(other.tokens).not.toEqual(a.tokens);
  });

  it('reads the paper’s example as the paper answers it', () => {
    const example = parseExample(paperExample);
    const shown = Array.from(example.targets, (target) => (target < 0 ? '.' : String(target - 26))).join(' ');
    expect(shown).toBe('. . . . . . . . . . 3 . 6 . 2 . 1 .');
    const answers = answerPositions(example);
    expect([10, 12, 14, 16].map((question) => answers[question])).toEqual([5, 1, 11, 13]);
    expect(answers.filter((position) => position >= 0)).toHaveLength(4);
  });

  it('points at the assignment that answers each question', () => {
    fc.assert(
      fc.property(tasks, ({ task, seed }) => {
        const sequence = mqrarSequence(task, generator(seed, 'test'));
        for (const [question, answer] of answerPositions(sequence).entries()) {
          expect(answer >= 0).toBe(sequence.targets[question]! >= 0);
          if (answer >= 0) expect(sequence.tokens[answer]).toBe(sequence.targets[question]);
        }
      }),
    );
  });

  it.each([
    [{ sequenceLength: 767 }, /even length/],
    [{ pairs: 300 }, /300 pairs need as many variables/],
    [{ pairs: 192, sequenceLength: 384 }, /need 386 tokens/],
    [{ values: 1 }, /at least 2/],
  ])('refuses %j', (change, message) => {
    expect(() => checkTask({ ...task, ...change })).toThrow(message);
  });
});
