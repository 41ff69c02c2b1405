import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { openTokenizer, trainTokenizer } from '@stickbreaking/data';
import { LlamaModel } from '@stickbreaking/model';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Evaluator } from './evaluator.js';

const folder = mkdtempSync(join(tmpdir(), 'sb-evaluator-'));
let evaluator: Evaluator;
let model: LlamaModel;

beforeAll(async () => {
  await selectBackend('native');
  const things = ['stone', 'river', 'cloud', 'candle', 'garden', 'engine'];
  const rows = things.map((thing, i) => ({
    ...{ id: `${i}`, question: `What is a ${thing} made of?`, answerKey: 'ABC'[i % 3] },
    choices: { text: ['earth', 'water or air', 'air'], label: ['A', 'B', 'C'] },
  }));
  mkdirSync(join(folder, 'ai2_arc/ARC-Easy'), { recursive: true });
  mkdirSync(join(folder, 'gsm8k/main'), { recursive: true });
  const put = (path: string, all: readonly object[]) =>
    writeFileSync(join(folder, path), all.map((row) => `${JSON.stringify(row)}\n`).join(''));
  put('ai2_arc/ARC-Easy/test.jsonl', rows);
  put(
    'gsm8k/main/test.jsonl',
    things.map((thing, i) => ({ question: `How many ${thing}s?`, answer: `#### ${i}` })),
  );
  writeFileSync(join(folder, 'text.txt'), rows.map(({ question }) => question).join('\n'));
  const output = join(folder, 'tokenizer.json');
  await trainTokenizer({ sources: [{ path: join(folder, 'text.txt') }], vocabSize: 280, output });
  const sizes = { vocabSize: 280, hiddenSize: 24, intermediateSize: 32, numLayers: 2, numHeads: 4 };
  model = LlamaModel.create({ ...sizes, contextLength: 128, initializerRange: 0.3 });
  evaluator = await Evaluator.open({
    ...{ tasks: 'arc_easy,gsm8k', dataDir: folder, tokenizer: openTokenizer(output), maxLength: 128 },
    ...{ numFewshot: 0, batchTokens: 60, settings: { max_gen_toks: 3 } },
  });
});
afterAll(() => {
  model.dispose();
  rmSync(folder, { recursive: true });
});

it('scores a model again and again', async () => {
  const first = await evaluator.scores(model);
  expect(first.map(({ task, metric, filter }) => `${task} ${metric} ${filter}`)).toEqual([
    'arc_easy acc none',
    'arc_easy acc_norm none',
    'gsm8k exact_match strict-match',
    'gsm8k exact_match flexible-extract',
  ]);
  expect(await evaluator.scores(model)).toEqual(first);
});

it('gives every one of several processes the answers of all, to the digit', async () => {
  const alone = await evaluator.evaluate(model);
  const given: (readonly number[])[] = [];
  let arrived: () => void = () => {};
  const both = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const sum = async (numbers: readonly number[]) => {
    given.push(numbers);
    if (given.length === 2) arrived();
    await both;
    return numbers.map((_, i) => given[0]![i]! + given[1]![i]!);
  };
  const first = evaluator.evaluate(model, { share: { index: 0, count: 2, sum } });
  const second = evaluator.evaluate(model, { share: { index: 1, count: 2, sum } });
  for (const { outcomes } of [await first, await second]) {
    expect(outcomes.map(({ answers, result }) => ({ answers, result }))).toEqual(
      alone.outcomes.map(({ answers, result }) => ({ answers, result })),
    );
  }
  // Neither had all of it.
  const own = given.map((numbers) => numbers.filter((_, i) => i % 2 === 0 && numbers[i] !== 0).length);
  expect(own.every((count) => count > 0)).toBe(true);
  expect(own[0]! + own[1]!).toBe(given[0]!.length / 2);
});
