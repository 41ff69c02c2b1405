import { existsSync, readFileSync } from 'node:fs';
import { wikiTextPages } from '@stickbreaking/data';
import { describe, expect, it } from 'vitest';
import {
  fakeAnswer,
  type GoldenLine,
  goldenJson,
  goldenLines,
  goldenPath,
  goldens,
  shotsIn,
  unlessSkipped,
} from './goldens.fixture.js';
import { PythonRandom } from './python/random.js';
import { type BuiltTask, buildTask } from './tasks/build.js';
import type { Row, TaskDefinition } from './tasks/definition.js';
import { shotSampler } from './tasks/fewshot.js';
import { groupResult } from './tasks/groups.js';
import { documentHashes } from './tasks/hashes.js';
import { resolveTasks } from './tasks/resolve.js';
import type { TaskResult } from './tasks/scores.js';
import { suiteOf } from './tasks/suite/index.js';
import { scoreExamples } from './tasks/task.js';

const files = [
  'arc_easy',
  'arc_challenge',
  'openbookqa',
  'piqa',
  'winogrande',
  'sciq',
  'hellaswag',
  'hellaswag_cleaned',
  'race',
  'mmlu',
  'gsm8k',
  'gsm8k_cot',
  'minerva_math',
  'wikitext',
  'pile_10k',
];

/** Rows of a split that shots come from, as far as the goldens show them: a text at each index that is drawn. */
function poolOf(definition: TaskDefinition, lines: readonly GoldenLine[]): readonly Row[] {
  const { name, shots, description = '' } = definition;
  if (name === 'hellaswag')
    return goldenLines<GoldenLine>('hellaswag.jsonl')
      .filter((one) => one.num_fewshot === 0)
      .map(({ doc }) => doc);
  const rowOf = shotRows[name.startsWith('mmlu') ? 'mmlu' : name]!;
  if (shots!.sampler === 'first_n') {
    // A question may hold a blank line; the answer is a letter.
    const before = lines[0]!.contexts![0]!.slice(description.length);
    return before
      .split(/(?<=\nAnswer: [A-D])\n\n/)
      .slice(0, -1)
      .map(rowOf);
  }
  const pool: Row[] = Array.from({ length: poolSizes[name]! });
  const random = new PythonRandom(1234);
  for (const line of lines) {
    const drawn = random.sampleIndices(pool.length, line.num_fewshot + (shots!.drawsOneMore ? 1 : 0));
    for (const [i, text] of shotsIn(line, description).entries()) {
      const row = rowOf(text);
      const known = pool[drawn[i]!];
      if (known) expect(row, `${name}: the row at ${drawn[i]}`).toEqual(known);
      pool[drawn[i]!] = row;
    }
  }
  // One more is drawn and not shown.
  return pool.map((row) => row ?? { unknown: true });
}

const poolSizes: Record<string, number> = {
  arc_easy: 2251,
  arc_challenge: 1119,
  openbookqa: 4957,
  piqa: 16113,
  winogrande: 40398,
  sciq: 11679,
  gsm8k: 7473,
};

/** A row that gives a shot's text back. */
const shotRows: Record<string, (text: string) => Row> = {
  arc_easy: (text) => ({ ...answered(text), choices: { text: [answered(text).answer], label: ['A'] }, answerKey: 'A' }),
  arc_challenge: (text) => shotRows.arc_easy!(text),
  openbookqa: (text) => {
    const at = text.lastIndexOf(' ');
    return { question_stem: text.slice(0, at), choices: { text: [text.slice(at + 1)], label: ['A'] }, answerKey: 'A' };
  },
  piqa: (text) => ({ goal: answered(text).question, sol1: answered(text).answer, sol2: '', label: 0 }),
  sciq: (text) => {
    const [support, question, answer] = /^(.*)\nQuestion: (.*)\nAnswer: (.*)$/s.exec(text)!.slice(1);
    return { support, question, distractor1: '', distractor2: '', distractor3: '', correct_answer: answer };
  },
  winogrande: (text) => {
    // White space around the gap goes: one between words is left.
    const at = /\S \S/.exec(text)!.index + 1;
    return { sentence: `_${text.slice(at)}`, option1: text.slice(0, at), option2: '', answer: '1' };
  },
  gsm8k: answered,
  mmlu: (text) => {
    const [question, ...rest] = /^(.*)\nA\. (.*)\nB\. (.*)\nC\. (.*)\nD\. (.*)\nAnswer: (.)$/s.exec(text)!.slice(1);
    return { question, choices: rest.slice(0, 4), answer: 'ABCD'.indexOf(rest[4]!) };
  },
};

function answered(text: string) {
  const [question, answer] = /^Question: (.*)\nAnswer: (.*)$/s.exec(text)!.slice(1);
  return { question: question!, answer: answer! };
}

/** Columns that the harness adds to a row. */
const addedColumns: Record<string, string[]> = { hellaswag: ['query', 'choices', 'gold'] };

function build(lines: readonly GoldenLine[], documents: readonly Row[] = lines.map(({ doc }) => doc)): BuiltTask {
  const { task, num_fewshot: numFewshot, race_version } = lines[0]!;
  const definition = suiteOf({ harness: race_version === '2.0' ? '0.4.4' : '0.4.13' }).tasks.get(task)!;
  const added = addedColumns[task] ?? [];
  const raw = documents.map((row) => Object.fromEntries(Object.entries(row).filter(([key]) => !added.includes(key))));
  const drawn = numFewshot > 0 && typeof definition.shots!.from === 'string';
  const pool = drawn
    ? poolOf(definition, lines).map((row) =>
        Object.fromEntries(Object.entries(row).filter(([key]) => !added.includes(key))),
      )
    : [];
  return buildTask(definition, { documents: raw, pool }, { numFewshot });
}

/** The lines of a file by run, as far as they hold their documents. */
function runsIn(file: string): Map<string, GoldenLine[]> {
  const lines = goldenLines<GoldenLine>(`${file}.jsonl`).filter((line) => line.requests);
  const documents = new Map(lines.filter((line) => line.doc).map((line) => [line.doc_id, line.doc]));
  const runs = new Map<string, GoldenLine[]>();
  for (const line of lines) {
    const key = `${line.task}, ${line.num_fewshot}-shot${line.race_version ? ` ${line.race_version}` : ''}`;
    runs.set(key, [...(runs.get(key) ?? []), line.doc ? line : { ...line, doc: documents.get(line.doc_id)! }]);
  }
  return runs;
}

/** `answers` of a run and their figures. */
function evaluated(task: BuiltTask, lines: readonly GoldenLine[]) {
  const answers = task.examples.flatMap(({ requests }, d) =>
    requests.map((request, r) => fakeAnswer(request, lines[d]!.requests[r]?.resp)),
  );
  const scores = scoreExamples(task, answers);
  return { answers, scores, result: task.summarise(scores) };
}

describe.skipIf(!goldens)(`requests and scores of the harness${unlessSkipped}`, () => {
  for (const file of goldens ? files : []) {
    for (const [run, lines] of runsIn(file)) {
      it(`${file}: ${run}, ${lines.length} documents`, () => {
        const task = build(lines);
        const { answers, scores } = evaluated(task, lines);
        let next = 0;
        for (const [d, line] of lines.entries()) {
          const { requests, target, row } = task.examples[d]!;
          expect(requests.map(requestShown)).toEqual(line.requests.map((one) => goldenRequest(line, one)));
          const own = answers.slice(next, next + requests.length);
          next += requests.length;
          expect(own.map(answerShown)).toEqual(line.requests.map(({ resp }) => resp));
          expect(target).toEqual(line.target);
          for (const [filter, metrics] of Object.entries(line.metrics)) {
            const { math_verify: _, ...known } = metrics;
            expect(scores[d]![filter]!.metrics).toEqual(known);
          }
          for (const [filter, text] of Object.entries(line.filtered ?? {}))
            expect(scores[d]![filter]!.answers).toEqual([text]);
          const hashes = documentHashes(task.examples[d]!);
          if (line.hashes) expect([hashes.prompt, hashes.target]).toEqual(line.hashes.slice(1));
          if (!unlikeThePublished.has(file) && !line.race_version)
            expect(hashes.document, JSON.stringify(row)).toBe(line.hashes[0]);
        }
      });
    }
  }
});

/** Files whose rows are not as their data set has them, or hold less than the harness hashes. */
const unlikeThePublished = new Set(['hellaswag_cleaned']);

function requestShown(request: BuiltTask['examples'][number]['requests'][number]): unknown {
  if (!('settings' in request)) return request;
  const { until, do_sample } = request.settings;
  return { context: request.context, until, do_sample };
}

function goldenRequest({ contexts }: GoldenLine, request: GoldenLine['requests'][number]): unknown {
  const context = contexts?.[request.context!];
  if (request.type === 'loglikelihood_rolling') return { text: request.text };
  if (request.type === 'loglikelihood') return { context, continuation: request.continuation };
  return { context, until: request.gen_kwargs!.until, do_sample: request.gen_kwargs!.do_sample };
}

function answerShown(answer: ReturnType<typeof fakeAnswer>): unknown {
  if ('losses' in answer) return -answer.losses[0]!;
  return 'text' in answer ? answer.text : [answer.logLikelihood, answer.isGreedy];
}

interface GoldenRun {
  tasks: string[];
  num_fewshot: number | null;
  limit: number | null;
  race_version?: string;
  results: Record<string, Record<string, number | string>>;
  groups?: Record<string, Record<string, number | string>>;
}

describe.skipIf(!goldens)(`figures of the harness${unlessSkipped}`, () => {
  const runs = goldens ? Object.entries(goldenJson<Record<string, GoldenRun>>('results.json')) : [];
  it.each(runs)('%s', (name, run) => {
    const suite = suiteOf({ harness: run.race_version ? '0.4.4' : '0.4.13' });
    const resolved = resolveTasks(suite, run.tasks.join());
    const results = new Map<string, TaskResult>();
    for (const { name: task, shots } of resolved.tasks) {
      const file = ['mmlu', 'minerva_math'].find((one) => task.startsWith(one)) ?? task;
      const shotsAsked = run.num_fewshot ?? shots?.count ?? 0;
      const lines = [...runsIn(file)]
        .filter(([key]) => key.startsWith(`${task}, ${shotsAsked}-shot`))
        .flatMap(([, found]) => found);
      // Of RACE only what differs is there a second time.
      const documents = run.race_version ? lines.filter((one) => one.race_version === '3.0') : lines;
      const race3 = lines.filter((one) => one.race_version !== '2.0');
      const used = (run.race_version ? documents.map((one) => ({ ...one, race_version: '2.0' })) : race3).slice(
        0,
        run.limit ?? undefined,
      );
      results.set(task, evaluated(build(used), used).result);
    }
    for (const [task, result] of results)
      expectFigures(result, run.results[run.race_version ? `${task}_v2` : task]!, name);
    for (const group of resolved.groups) {
      const members = resolveTasks(suite, group.name).tasks.map((task) => results.get(task.name)!);
      expectFigures(groupResult(group, members), (run.groups ?? run.results)[group.name]!, group.name);
    }
  });
});

function expectFigures(result: TaskResult, expected: Record<string, number | string>, name: string): void {
  expect(result.figures.length, name).toBeGreaterThan(0);
  for (const { metric, filter, value, standardError } of result.figures) {
    expect(value, `${name} ${metric}`).toBe(expected[`${metric},${filter}`]);
    expect(standardError ?? 'N/A', `${name} ${metric}`).toBe(expected[`${metric}_stderr,${filter}`]);
  }
}

describe.skipIf(!goldens)(`WikiText by hash${unlessSkipped}`, () => {
  const raw = goldens && goldenPath('../../data/wikitext-2-raw/wiki.test.raw');
  it.skipIf(!raw || !existsSync(raw))('gives the texts and counts of every page', async () => {
    const pages: Row[] = [];
    for await (const page of wikiTextPages(readFileSync(raw!, 'utf8').split('\n'))) pages.push({ page });
    expect(pages).toHaveLength(62);
    const task = buildTask(suiteOf({ harness: '0.4.13' }).tasks.get('wikitext')!, { documents: pages });
    const known = goldenLines<GoldenLine & { text_sha256: string; doc_sha256: string; resp: number }>('wikitext.jsonl');
    for (const line of known.filter((one) => one.text_sha256)) {
      const document = task.examples[line.doc_id]!;
      expect(documentHashes(document).prompt).toBe(line.text_sha256);
      const answer = fakeAnswer(document.requests[0]!, undefined);
      expect(answerShown(answer)).toBe(line.resp);
      expect(task.score(document, [answer]).none!.metrics).toEqual(line.metrics);
    }
  });
});

interface Sampling {
  case: string;
  sampler: 'default' | 'first_n';
  pool: number;
  k: number;
  seed?: number;
  eval_doc_passed?: boolean | string;
  eval_doc?: number;
  selected: number[][];
}

describe.skipIf(!goldens)(`choice of examples${unlessSkipped}`, () => {
  it.each(goldens ? goldenLines<Sampling>('fewshot_sampling.jsonl') : [])('$case', (one) => {
    const pool = Array.from({ length: one.pool }, (_, i) => i);
    const passed = Boolean(one.eval_doc_passed) || one.eval_doc !== undefined;
    const sampler = shotSampler({
      sampler: one.sampler,
      pool,
      count: one.k,
      seed: one.seed ?? 1234,
      drawsOneMore: passed,
      same: (a, b) => a === b,
      task: one.case,
    });
    for (const [j, selected] of one.selected.entries()) {
      const document = typeof one.eval_doc_passed === 'string' ? j : (one.eval_doc ?? -1);
      expect(sampler.next(document)).toEqual(selected);
    }
  });
});
