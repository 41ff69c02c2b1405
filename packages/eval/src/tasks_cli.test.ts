/** sb-eval --tasks as a user runs it: a tiny checkpoint on data sets of our own making. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lockOrRefuse } from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import { openTokenizer, trainTokenizer } from '@stickbreaking/data';
import { LlamaModel } from '@stickbreaking/model';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main } from './cli.js';
import { exactMcNemar } from './results/compare.js';
import { runHere } from './run_here.fixture.js';

const folder = mkdtempSync(join(tmpdir(), 'sb-tasks-'));
const at = (name: string) => join(folder, name);
const data = at('data');

function put(path: string, rows: readonly object[]): void {
  mkdirSync(join(data, path, '..'), { recursive: true });
  writeFileSync(join(data, path), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
}

const things = ['stone', 'river', 'cloud', 'candle', 'garden', 'engine'];
const question = (thing: string, i: number) => `What is a ${thing} made of, ${i}?`;
const arc = things.map((thing, i) => ({
  id: `${i}`,
  question: question(thing, i),
  choices: { text: ['water and air', 'earth', 'wax'], label: ['A', 'B', 'C'] },
  answerKey: 'ABC'[i % 3]!,
}));

beforeAll(async () => {
  await selectBackend('native');
  const text = [
    ...arc.map((row) => `${row.question} ${row.choices.text.join(', ')}.`),
    'Question: Answer: 0 1 2 3 4 5',
  ].join('\n');
  writeFileSync(at('text.txt'), text);
  await trainTokenizer({ sources: [{ path: at('text.txt') }], vocabSize: 300, output: at('tokenizer.json') });
  const sizes = { vocabSize: 300, hiddenSize: 24, intermediateSize: 32, numLayers: 2, numHeads: 4, numKvHeads: 2 };
  for (const [name, contextLength] of [
    ['model', 128],
    ['short', 24],
  ] as const) {
    LlamaModel.create(
      { ...sizes, contextLength, attention: 'stick-breaking', initializerRange: 0.3 },
      { seed: 1 },
    ).save(at(name));
    cpSync(at('tokenizer.json'), join(at(name), 'tokenizer.json'));
  }
  put('allenai/ai2_arc/ARC-Easy/test.jsonl', arc);
  put('allenai/ai2_arc/ARC-Easy/train.jsonl', [...arc].reverse());
  put(
    'baber__piqa/train.jsonl',
    things.map((goal, i) => ({ goal: `${goal}s`, sol1: 'wash them', sol2: 'burn them', label: i % 2 })),
  );
  put(
    'baber__piqa/validation.jsonl',
    things.map((goal, i) => ({ goal, sol1: 'wash it', sol2: 'burn it down', label: i % 2 })),
  );
  put(
    'cais/mmlu/anatomy/dev.jsonl',
    things.map((thing, i) => ({ question: question(thing, i), choices: ['4', '3', '2', '1'], answer: i % 4 })),
  );
  put(
    'gsm8k/main/test.jsonl',
    things.slice(0, 2).map((thing, i) => ({ question: question(thing, i), answer: `#### ${i}` })),
  );
  const columnData = [
    {
      name: 'page',
      data: things.map((thing) => ` = ${thing} = \n \n A ${thing} , they say , is old . \n `),
      type: 'STRING' as const,
    },
  ];
  mkdirSync(join(data, 'wikitext_document_level/wikitext-2-raw-v1'), { recursive: true });
  writeFileSync(
    join(data, 'wikitext_document_level/wikitext-2-raw-v1/test-00000-of-00001.parquet'),
    Buffer.from(parquetWriteBuffer({ columnData })),
  );
  put(
    'cais/mmlu/anatomy/test.jsonl',
    things.map((thing, i) => ({ question: question(thing, i), choices: ['1', '2', '3', '4'], answer: i % 4 })),
  );
  put(
    'cais/mmlu/virology/test.jsonl',
    things.slice(1).map((thing, i) => ({ question: question(thing, i), choices: ['1', '2', '3', '4'], answer: i % 4 })),
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

const run = (...argv: string[]) => runHere(main, ...argv);
const evaluating = (tasks: string, ...more: string[]) =>
  run('--backend', 'native', '--checkpoint', at('model'), '--data-dir', data, '--tasks', tasks, ...more);

type Results = {
  results: Record<string, Record<string, number | string>>;
  stickbreaking: Record<string, unknown>;
} & Record<string, unknown>;

async function results(tasks: string, ...more: string[]): Promise<Results> {
  const { code, stdout, stderr } = await evaluating(tasks, '--json', ...more);
  expect(stderr.replaceAll(/^(?:building|\d+ %).*\n/gm, '')).toBe('');
  expect(code).toBe(0);
  return JSON.parse(stdout) as Results;
}

describe('sb-eval --tasks', () => {
  it('scores choices as the model, asked one by one, finds them likely', async () => {
    const found = await results('arc_easy', '--output', at('out'), '--log-samples');
    const tokenizer = openTokenizer(at('model/tokenizer.json'));
    const model = LlamaModel.load(at('model'));
    const [file] = readdirSync(join(at('out'), readdirSync(at('out'))[0]!)).filter((name) =>
      name.startsWith('samples_arc_easy'),
    );
    const lines = readFileSync(join(at('out'), readdirSync(at('out'))[0]!, file!), 'utf8')
      .trim()
      .split('\n');
    let right = 0;
    for (const [i, line] of lines.entries()) {
      const { answers, acc, prompt_hash, resps } = JSON.parse(line);
      const likelihoods: number[] = [];
      const greedy: boolean[] = [];
      for (const choice of arc[i]!.choices.text) {
        const context = tokenizer.encode(`Question: ${arc[i]!.question}\nAnswer:`);
        const whole = tokenizer.encode(`Question: ${arc[i]!.question}\nAnswer: ${choice}`);
        const logits = model.forward(whole).logSoftmax();
        const values = (await logits.array()) as number[][];
        logits.dispose();
        greedy.push(
          whole.slice(context.length).every((token, k) => {
            const row = values[context.length - 1 + k]!;
            return row[token] === Math.max(...row);
          }),
        );
        likelihoods.push(
          whole.slice(context.length).reduce((sum, token, k) => sum + values[context.length - 1 + k]![token]!, 0),
        );
      }
      for (const [c, [value]] of (answers as [number][]).entries()) expect(value).toBeCloseTo(likelihoods[c]!, 4);
      expect((answers as [number, boolean][]).map(([, isGreedy]) => isGreedy)).toEqual(greedy);
      const correct = likelihoods.indexOf(Math.max(...likelihoods)) === 'ABC'.indexOf(arc[i]!.answerKey);
      expect(acc).toBe(correct ? 1 : 0);
      expect(prompt_hash).toMatch(/^[0-9a-f]{64}$/);
      expect(resps[0]).toEqual([[`${answers[0][0]}`, greedy[0] ? 'True' : 'False']]);
      if (correct) right++;
    }
    expect(found.results.arc_easy!['acc,none']).toBe(right / 6);
    model.dispose();
  });

  it('gives the same figures to the digit in other packs, in another order, and alone', async () => {
    const tasks = 'arc_easy,mmlu_anatomy,piqa,wikitext';
    const { results: whole } = await results(tasks, '--num-fewshot', '1', '--batch-tokens', '4096');
    const figures = async (...options: string[]) => (await results(...(options as [string]))).results;
    expect(await figures(tasks, '--num_fewshot', '1', '--batch-tokens', '1')).toEqual(whole);
    expect(await figures(tasks, '--num-fewshot=1', '--batch-tokens', '200')).toEqual(whole);
    expect(await figures('wikitext,piqa,arc_easy,mmlu_anatomy', '--num-fewshot', '1')).toEqual(whole);
    expect((await figures('piqa', '--num-fewshot', '1')).piqa).toEqual(whole.piqa);
  });

  it('goes on where it was killed, to the same digits', async () => {
    const output = at('resumed.json');
    const whole = await results('arc_easy,wikitext', '--batch-tokens', '100', '--output', output);
    const answers = at('resumed.answers.jsonl');
    const lines = readFileSync(answers, 'utf8').split('\n');
    // Half of the answers, the last cut short in the middle of its line.
    writeFileSync(answers, lines.slice(0, 9).join('\n').slice(0, -3));
    const again = await results('arc_easy,wikitext', '--batch-tokens', '100', '--output', output);
    expect(again.results).toEqual(whole.results);
    expect(readFileSync(answers, 'utf8').split('\n').sort()).toEqual(lines.sort());
    expect(JSON.parse(readFileSync(output, 'utf8')).results).toEqual(whole.results);
  });

  it('gives the same digits in two processes', async () => {
    const options = ['--num-fewshot', '0', '--gen-kwargs', 'max_gen_toks=3', '--batch-tokens', '300'];
    const tasks = 'arc_easy,mmlu_anatomy,wikitext,gsm8k';
    const alone = await results(tasks, ...options, '--output', at('one.json'));
    const both = await results(tasks, ...options, '--output', at('two.json'), '--processes', '2');
    expect(both.results).toEqual(alone.results);
    expect(readdirSync(folder).filter((name) => /^two\..*part/.test(name))).toEqual([]);
    const answers = (stem: string) =>
      readFileSync(at(`${stem}.answers.jsonl`), 'utf8')
        .split('\n')
        .sort();
    expect(answers('two')).toEqual(answers('one'));
    const { stderr } = await evaluating('arc_easy', '--processes', '2');
    expect(stderr).toBe('Several processes need --output, where they put their answers together.\n');
  });

  it('locks where it writes', async () => {
    const output = at('locked.json');
    const release = lockOrRefuse(at('locked.running'), 'evaluates');
    const { code, stderr } = await evaluating('piqa', '--output', output);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/^Another process \(\d+ on .*\) evaluates in .*locked\.running and holds .*; wait for it/);
    release();
    await results('piqa', '--output', output);
    expect(
      readdirSync(folder)
        .filter((name) => name.startsWith('locked'))
        .sort(),
    ).toEqual(['locked.answers.jsonl', 'locked.json']);
  });

  it('pools the parts of a group', async () => {
    // Only two subjects are there.
    const { results: found, groups, versions } = await results('mmlu_anatomy,mmlu_virology');
    expect(Object.keys(found)).toEqual(['mmlu_anatomy', 'mmlu_virology']);
    expect([groups, versions]).toEqual([undefined, { mmlu_anatomy: 1, mmlu_virology: 1 }]);
    const { code, stderr } = await evaluating('mmlu');
    expect(code).not.toBe(0);
    expect(stderr).toMatch(
      /^mmlu_abstract_algebra: the split 'test' of cais\/mmlu \(abstract_algebra\) is not under .*; 54 more are missing, of cais\/mmlu\.\n$/,
    );
  });

  it('generates answers, and prints prompts with their tokens', async () => {
    const { code, stdout } = await evaluating(
      'gsm8k',
      '--num-fewshot',
      '0',
      '--gen-kwargs',
      'max_gen_toks=5',
      '--write-out',
      '--limit',
      '1',
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(/\|gsm8k\|\s+3\|strict-match\s*\|\s+0\|exact_match\|↑\s*\|0\.0000\|±\s*\|\s*N\/A\|/);
    expect(stdout).toContain('A part of the documents was scored');
    expect(stdout).toMatch(/--- gsm8k, request 0\nQuestion: What is a stone made of, 0\?\nAnswer:\n--- tokens \d+ /);
  });

  it('generates what the model gives one prompt at a time, in batches and after a common beginning', async () => {
    const [first, second] = [at('whole.json'), at('single.json')];
    const options = ['--gen-kwargs', 'max_gen_toks=6', '--max-length', '4000', '--log-samples'];
    await results('gsm8k_cot', ...options, '--output', first);
    await results('gsm8k_cot', ...options, '--output', second, '--samples', '{"gsm8k_cot":[1]}');
    const samples = (stem: string) => {
      const file = readdirSync(folder).find((name) => name.startsWith(`${stem}_samples_gsm8k_cot`))!;
      return readFileSync(at(file), 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
    };
    const { tokenizer, model } = {
      tokenizer: openTokenizer(at('model/tokenizer.json')),
      model: LlamaModel.load(at('model')),
    };
    const lines = samples('whole').filter((line) => line.filter === 'strict-match');
    expect(lines).toHaveLength(2);
    for (const { answers, arguments: given } of lines) {
      const tokens: number[] = [];
      const prompt = tokenizer.encode(given.gen_args_0.arg_0);
      const stop = [...tokenizer.stopIds];
      for await (const token of model.generate(prompt, { maxNewTokens: 6, temperature: 0, stop })) tokens.push(token);
      expect(answers).toEqual([tokenizer.decode(tokens)]);
    }
    expect(samples('single')[0].answers).toEqual(lines[1]!.answers);
    model.dispose();
  });

  it('writes the texts of RULER, a figure for each length', async () => {
    mkdirSync(join(data, 'ruler'), { recursive: true });
    writeFileSync(join(data, 'ruler/nounlist.txt'), things.join('\n'));
    writeFileSync(join(data, 'ruler/adjectivelist.txt'), 'old\nnew\n');
    const lengths = ['--ruler-lengths', '1500,2000', '--ruler-samples', '2', '--max-length', '2000'];
    const { results: found } = await results('niah_single_1', ...lengths, '--gen-kwargs', 'max_gen_toks=4');
    expect(found.niah_single_1).toMatchObject({
      '1500,none': 0,
      '1500_stderr,none': 'N/A',
      '2000,none': 0,
      sample_len: 4,
    });
  });

  it('says what hangs on more than the task', async () => {
    const { stickbreaking, ...harness } = await results('wikitext', '--harness', '0.4.13', '--limit', '2');
    expect(stickbreaking).toMatchObject({
      harness: 'lm-evaluation-harness 0.4.13',
      bos: { rule: 'auto', put: false },
      tasks: { wikitext: { contextsCut: 0, totals: { bytes: expect.any(Number), words: expect.any(Number) } } },
    });
    const [file] = (stickbreaking.data as Record<string, { sha256: string; path: string }[]>)[
      'EleutherAI/wikitext_document_level wikitext-2-raw-v1 test'
    ]!;
    expect(file).toMatchObject({
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      path: expect.stringContaining('test-00000'),
    });
    expect(harness['n-samples']).toEqual({ wikitext: { original: 6, effective: 2 } });
  });

  it('counts contexts that it cuts, or refuses them', async () => {
    const short = ['--backend', 'native', '--checkpoint', at('short'), '--data-dir', data, '--tasks', 'arc_easy'];
    const { stdout } = await run(...short, '--num-fewshot', '2');
    expect(stdout).toContain('arc_easy: 18 contexts were cut on the left to fit 24 tokens.');
    const { code, stderr } = await run(...short, '--num-fewshot', '2', '--strict-length');
    expect(code).not.toBe(0);
    expect(stderr.split('\n').at(-2)).toBe(
      'arc_easy: 18 of 18 contexts do not fit the 24 tokens of the model; leave out --strict-length to cut them on the left.',
    );
  });

  it.each([
    [['--tasks', 'arc_eazy'], "no task or group is called 'arc_eazy' (did you mean 'arc_easy'?)"],
    [['--tasks', 'sciq'], "sciq: the split 'test' of allenai/sciq is not under"],
    [['--tasks', 'piqa', '--data-dir', at('nowhere')], '--data-dir: there is no directory'],
    [['--tasks', 'piqa', '--fewshot-seed', '1e-39'], '--fewshot-seed is 1e-39; expected a whole number.'],
    [['--tasks', 'piqa', '--seed', '-1'], '--seed is -1; expected a whole number.'],
    [['--tasks', 'piqa', '--limit', '1.5'], '--limit is 1.5; expected a whole number above 0, or a share below 1.'],
    [['--tasks', 'piqa', '--bos', 'always', '--bos-token', ''], '--bos always: the tokenizer has no beginning token'],
    [['--tasks', 'gsm8k', '--gen-kwargs', 'beams=4'], '--gen-kwargs: '],
    [['--tasks', 'piqa', '--gpus', 'some'], "--gpus is 'some'; expected a whole number above 0, or all."],
    [['--tasks', 'piqa', '--gpus', '2', '--processes', '2'], '--processes and --gpus: give one of them.'],
    [['--tasks', 'piqa', '--processes', '99999'], '--processes is 99999; expected a whole number from 1 to '],
    [
      ['--tasks', 'piqa', '--ruler-samples', '1e9'],
      '--ruler-samples is 1000000000; expected a whole number from 1 to ',
    ],
    [['--tasks', 'piqa', '--ruler-lengths', '4096,99999999'], '99999999: a length is at most 4194304.'],
    [['--tasks', 'piqa', '--gpus', '99'], '--gpus 99: this machine shows '],
    [['--tasks', 'piqa', '--samples', '{"sciq":[1]}'], "--samples names 'sciq', which --tasks does not."],
    [['--tasks', 'gsm8k'], "gsm8k: the split 'train' of openai/gsm8k (main) is not under"],
  ])('%j is one line', async (options, message) => {
    const given = ['--data-dir', '--tasks'].filter((name) => !options.includes(name)).flatMap((name) => [name, data]);
    const { code, stdout, stderr } = await run(
      '--backend',
      'native',
      '--checkpoint',
      at('model'),
      ...options,
      ...given,
    );
    expect([code === 0, stdout]).toEqual([false, '']);
    expect(stderr.trim().split('\n').at(-1)).toContain(message);
  });

  it('refuses answers of another model', async () => {
    const output = ['--output', at('shared.json')];
    await results('piqa', ...output);
    const { stderr } = await run(
      '--backend',
      'native',
      '--checkpoint',
      at('short'),
      '--data-dir',
      data,
      '--tasks',
      'piqa',
      ...output,
    );
    expect(stderr).toContain('holds answers of another model');
  });
});

describe('sb-eval --report and compare', () => {
  it('write scores with intervals, beside published ones, and documents', async () => {
    const file = at('report.html');
    await results('arc_easy,mmlu_anatomy', '--num-fewshot', '0', '--report', file);
    const html = readFileSync(file, 'utf8');
    expect(html).toContain('<td>arc_easy</td>');
    expect(html).toMatch(/acc_norm<\/td><td[^>]*>\d+\.\d ± \d+\.\d<\/td><td[^>]*>6<\/td><\/tr>/);
    // arc_easy's two figures, the second of which the paper has; of a subject of MMLU nothing is published.
    expect(html).toMatch(/<th scope="col">model<\/th>.*arc_easy acc<\/th>.*arc_easy acc_norm<\/th><\/tr>/);
    expect(html).toMatch(/<td>this one<\/td><td>\d+\.\d ± \d+\.\d<\/td><td>\d+\.\d ± \d+\.\d<\/td>/);
    expect(html).toContain('<td>stick-breaking 1B</td><td></td><td>67.6</td>');
    expect(html).toContain('<td>Pythia-1B</td><td>56.9</td><td>49.0</td>');
    expect(html).toContain('Of 1 other figure above no published score is known here.');
    expect(html).toContain('What is a stone made of, 0?');
    // One of the three documents' first choices is the right one.
    expect(html).toMatch(/✓.? +-\d+\.\d{3} {2}(?:A|water and air)$/m);
    expect(html).toMatch(/[ ✓]► +-\d+\.\d{3} {2}/);
    expect(html).not.toContain('MMLU by subject');
    await results('mmlu_anatomy,mmlu_virology', '--report', file);
    const subjects = readFileSync(file, 'utf8');
    expect(subjects).toContain('<h2>MMLU by subject</h2>');
    expect(subjects).toMatch(/<th scope="row">anatomy<\/th>.*\d+\.\d \(\d+\.\d to \d+\.\d\) <small>of 6<\/small>/);
  });

  it('tell two evaluations apart: prompts, likelihoods, who is right', async () => {
    const [a, b] = [at('a.json'), at('b.json')];
    const sampled = (stem: string) =>
      at(readdirSync(folder).find((name) => name.startsWith(`${stem}_samples_arc_easy`))!);
    await results('arc_easy', '--output', a, '--log-samples');
    await results('arc_easy', '--num-fewshot', '1', '--output', b, '--log-samples', '--limit', '4');
    const self = await run('compare', '--json', sampled('a'), sampled('a'));
    expect(JSON.parse(self.stdout)).toMatchObject({ common: 6, samePrompts: 6, largestDifference: { value: 0 } });
    const { stdout } = await run('compare', sampled('a'), sampled('b'));
    expect(stdout).toMatch(
      /^4 samples in common, 2 only in the first and 0 only in the second; 0 ask the same\.\nThe first difference is in document 0 at byte \d+: /,
    );
    const { figures } = JSON.parse((await run('compare', '--json', sampled('a'), sampled('b'))).stdout);
    const [{ first, second, discordant, pValue }] = figures;
    expect(4 * (first - second)).toBeCloseTo(discordant[0] - discordant[1], 12);
    expect(pValue).toBeGreaterThan(0);
    expect((await run('compare', at('text.txt'), sampled('b'))).stderr).toMatch(
      /text\.txt, line 1: this is no JSON\.\n$/,
    );
  });

  it('compare two folders task by task, and write it as HTML', async () => {
    const [one, two, report] = [at('compared-1'), at('compared-2'), at('compared.html')];
    await results('arc_easy,piqa', '--output', one, '--log-samples');
    await results('piqa,arc_easy,wikitext', '--num-fewshot', '1', '--output', two, '--log-samples');
    const { stdout } = await run('compare', one, two, '--report', report);
    expect(stdout.match(/^(?:arc_easy|piqa)$/gm)).toEqual(['arc_easy', 'piqa']);
    const json = JSON.parse((await run('compare', one, two, '--json')).stdout);
    expect(json.map(({ task, common }: { task: string; common: number }) => [task, common])).toEqual([
      ['arc_easy', 6],
      ['piqa', 6],
    ]);
    const html = readFileSync(report, 'utf8');
    for (const { figures } of json)
      for (const { pValue } of figures) expect(html).toContain(`>${pValue.toPrecision(2)}</td>`);
    expect(html).toContain('arc_easy: 6 of 6 prompts differ; the first difference is in document 0.');
    expect((await run('compare', one, at('text.txt'))).stderr).toBe(
      `${one} is a folder, and the other is a file; name two of a kind.\n`,
    );
    expect((await run('compare', one, data)).stderr).toMatch(
      /have samples of no task in common: of arc_easy, piqa and of none; sb-eval writes them with --log-samples\.\n$/,
    );
  });

  it('McNemar’s exact test', () => {
    expect([exactMcNemar(0, 0), exactMcNemar(3, 3)]).toEqual([1, 1]);
    // 2 · (1 + 10) / 2^10
    expect(exactMcNemar(9, 1)).toBeCloseTo(22 / 1024, 12);
    expect(exactMcNemar(2000, 2200)).toBeLessThan(0.01);
  });
});

describe('sb-eval tasks and score', () => {
  it.each([
    ['comapre a b', 'Unknown command: comapre; did you mean compare?'],
    ['--json socre a', 'Unknown command: socre; did you mean score?'],
    ['--tasks arc_easy scor', 'Unknown command: scor; did you mean score?'],
    ['--math-equal-strings score none.jsonl', 'cannot read none.jsonl'],
    ['--json compare none.jsonl other.jsonl', 'cannot read none.jsonl'],
  ])('a command after options is found, and one that is misspelt named: %s', async (line, message) => {
    const { code, stdout, stderr } = await run(...line.split(' '));
    expect([code, stdout]).toEqual([/see --help/.test(stderr) ? 2 : 1, '']);
    expect(stderr).toContain(message);
    expect(stderr).toMatch(/^[^\n]*\n$/);
  });

  it('list tasks and groups', async () => {
    const { code, stdout } = await run('tasks');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ *hellaswag +1 +0 +acc, acc_norm +Rowan\/hellaswag validation$/m);
    expect(stdout).toMatch(/^mmlu: mmlu_stem, /m);
  });

  it('list the tasks of task files too', async () => {
    const folder = at('own-tasks');
    mkdirSync(folder);
    const lines = ['task: own', 'dataset_path: someone/own', 'test_split: test', 'output_type: multiple_choice'];
    lines.push('doc_to_text: "{{question}}"', 'doc_to_target: answer', 'doc_to_choice: ["yes", "no"]');
    writeFileSync(join(folder, 'own.yaml'), lines.join('\n'));
    const { stdout, stderr } = await run('tasks', '--include-path', folder, '--json');
    expect(stderr).toBe('');
    const named = JSON.parse(stdout).tasks.map(({ name }: { name: string }) => name);
    expect(named).toEqual(expect.arrayContaining(['own', 'hellaswag']));
  });

  it('scores samples again, also those of the harness', async () => {
    const output = at('again');
    const { results: first } = await results(
      'arc_easy,wikitext,gsm8k',
      '--num-fewshot',
      '0',
      '--gen-kwargs',
      'max_gen_toks=3',
      '--output',
      output,
      '--log-samples',
    );
    const where = join(output, readdirSync(output)[0]!);
    const files = readdirSync(where)
      .filter((name) => name.startsWith('samples_'))
      .map((name) => join(where, name));
    const { stdout, stderr } = await run('score', '--json', ...files);
    expect(stderr).toBe('');
    for (const { task, figures } of JSON.parse(stdout)) {
      for (const { metric, filter, value } of figures)
        expect(value, `${task} ${metric}`).toBe(first[task]![`${metric},${filter}`]);
    }
    const line = JSON.parse(readFileSync(files.find((file) => file.includes('arc_easy'))!, 'utf8').split('\n')[0]!);
    const theirs = join(where, 'samples_arc_easy_2026-01-02T03-04-05.678.jsonl');
    const { answers: _, task: __, ...rest } = line;
    writeFileSync(
      theirs,
      `${JSON.stringify({ ...rest, resps: [[['-1.5', 'False']], [['-9', 'False']], [['-9', 'False']]] })}\n`,
    );
    const scored = await run('score', '--json', theirs);
    expect(JSON.parse(scored.stdout)[0].figures[0]).toMatchObject({ metric: 'acc', value: 1 });
    const wrong = [
      ['x', /line 1: this is no JSON\./],
      ['null', /line 1: this is no sample\./],
      [{ ...rest, resps: [[['-1.5', 'False']]] }, /line 1: it has 1 answers; arc_easy asks 3 of this document\./],
      [{ ...line, doc: { ...line.doc, choices: 5 } }, /line 1: column 'choices' holds 5; expected/],
      [{ ...line, answers: [null, [-1, true], [-2, true]] }, /line 1: the answer is null; expected a log-likelihood\./],
      [`${JSON.stringify(line)}\n\n${JSON.stringify({ ...line, task: 'sciq' })}`, /line 3: this is of 'sciq', not of/],
    ] as const;
    for (const [text, message] of wrong) {
      writeFileSync(theirs, typeof text === 'string' ? text : JSON.stringify(text));
      const { code, stderr } = await run('score', theirs);
      expect([code, stderr]).toEqual([1, expect.stringMatching(new RegExp(`^[^\\n]*${message.source}[^\\n]*\\n$`))]);
    }
  });
});
