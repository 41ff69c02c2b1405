import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { pythonRegex } from '../../python/regex.js';
import { buildTask } from '../build.js';
import type { Row } from '../definition.js';
import { resolveTasks } from '../resolve.js';
import { suiteOf } from '../suite/index.js';
import { withTaskFiles } from './load.js';
import { templateOf } from './template.js';

const folder = mkdtempSync(join(tmpdir(), 'sb-yaml-'));
afterAll(() => rmSync(folder, { recursive: true }));
const suite = suiteOf({ harness: '0.4.13' });

function file(name: string, text: string): string {
  const path = join(folder, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, text);
  return path;
}

const arc = file(
  'arc/arc_own.yaml',
  `tag: [science, own]
task: arc_own
dataset_path: allenai/ai2_arc
dataset_name: ARC-Easy
output_type: multiple_choice
training_split: train
validation_split: validation
test_split: test
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{choices.label.index(answerKey)}}"
doc_to_choice: "{{choices.text}}"
should_decontaminate: true
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
`,
);
const gsm = file(
  'gsm_own.yaml',
  `include: _base.yaml
task: gsm_own
num_fewshot: 1
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
metric_list:
  - metric: exact_match
    ignore_case: true
    regexes_to_ignore: [",", "\\\\$", "(?s).*#### ", "\\\\.$"]
filter_list:
  - name: strict-match
    filter:
      - {function: regex, regex_pattern: "#### (\\\\-?[0-9\\\\.\\\\,]+)"}
      - {function: take_first}
  - name: flexible-extract
    filter:
      - {function: regex, group_select: -1, regex_pattern: "(-?[$0-9.,]{2,})|(-?[0-9]+)"}
      - {function: take_first}
`,
);
file(
  '_base.yaml',
  `task: never
dataset_path: openai/gsm8k
dataset_name: main
fewshot_split: train
test_split: test
generation_kwargs: {until: ["Question:", "</s>", "<|im_end|>"], do_sample: false}
`,
);

const loaded = () => withTaskFiles(suite, [folder]);
const rowOf = (question: string, answerKey: string) => ({
  question,
  choices: { text: ['up', 'down'], label: ['A', 'B'] },
  answerKey,
});

describe('task files', () => {
  it('make the same requests as our own task of the same fields', () => {
    const rows = {
      documents: [rowOf('Where?', 'B'), rowOf('When?', 'A')],
      pool: [rowOf('Why?', 'A'), rowOf('Who?', 'B')],
    };
    const [theirs, ours] = [loaded().tasks.get('arc_own')!, suite.tasks.get('arc_easy')!].map((task) =>
      buildTask(task, rows, { numFewshot: 1 }),
    );
    expect(theirs!.examples).toEqual(ours!.examples);
  });

  it('score generated answers by their filters and patterns', () => {
    const row = { question: 'How many?', answer: 'They are <<1+1=2>>2.\n#### 1,800' };
    const [theirs, ours] = [loaded().tasks.get('gsm_own')!, suite.tasks.get('gsm8k')!].map((task) =>
      buildTask(task, { documents: [row], pool: [row] }, { numFewshot: 1 }),
    );
    const [mine] = theirs!.examples;
    expect(mine!.requests).toEqual(ours!.examples[0]!.requests);
    for (const text of ['so #### 1800', 'it is $1,800.', 'none', '#### 5 and 1800.']) {
      expect(theirs!.score(mine!, [{ text }]), text).toEqual(ours!.score(ours!.examples[0]!, [{ text }]));
    }
  });

  it('go by tag, by group and by name, and include others', () => {
    file(
      'group.yaml',
      'group: own_group\ntask: [arc_own, gsm_own]\naggregate_metric_list: [{metric: acc, weight_by_size: false}]\n',
    );
    const whole = loaded();
    expect(resolveTasks(whole, 'science').tasks.map(({ name }) => name)).toEqual(['arc_own']);
    expect(resolveTasks(whole, 'own_group').tasks.map(({ name }) => name)).toEqual(['arc_own', 'gsm_own']);
    expect(whole.groups.get('own_group')!.aggregate).toEqual([
      { metric: 'acc', filters: ['none'], weightBySize: false },
    ]);
    expect(withTaskFiles(suite, [arc]).added).toEqual(['arc_own']);
    expect(whole.tasks.has('never')).toBe(false);
    rmSync(join(folder, 'group.yaml'));
  });

  it.each([
    ['itself', { 'a.yaml': 'group: a\ntask: [a]\n' }, /the group 'a' contains itself \(a > a\)/],
    [
      'one that contains it',
      { 'a.yaml': 'group: a\ntask: [b]\n', 'b.yaml': 'group: b\ntask: [arc_easy, a]\n' },
      /the group 'a' contains itself \(a > b > a\)/,
    ],
    [
      'a tag of its own name',
      {
        'a.yaml':
          'task: a\ntag: a\ndataset_path: json\ntest_split: test\noutput_type: loglikelihood_rolling\ndoc_to_target: x\n',
      },
      /the group 'a' contains itself/,
    ],
  ])('are refused where a group contains %s', (_, files, message) => {
    const paths = Object.entries(files).map(([name, text]) => file(`cycle/${name}`, text));
    expect(() => resolveTasks(withTaskFiles(suite, paths), 'a')).toThrow(message);
    rmSync(join(folder, 'cycle'), { recursive: true });
  });

  it('name their files of data, with choices and delimiters of their own', () => {
    const path = file(
      'own/own.yaml',
      `task: own\ndataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\ntest_split: test
output_type: multiple_choice\ndoc_to_text: question\ndoc_to_choice: [yes, no]\ndoc_to_target: "{{ 'yes' if good else 'no' }}"
target_delimiter: ""\ndescription: "Say. "\n`.replace('[yes, no]', '["yes", "no"]'),
    );
    writeFileSync(join(folder, 'own/rows.jsonl'), '{}\n');
    const task = withTaskFiles(suite, [path]).tasks.get('own')!;
    expect(task.files).toEqual({ test: [join(folder, 'own/rows.jsonl')] });
    const [example] = buildTask(task, { documents: [{ question: 'Is it?', good: false }] }).examples;
    expect([example!.target, example!.requests]).toEqual([
      1,
      ['yes', 'no'].map((continuation) => ({ context: 'Say. Is it?', continuation })),
    ]);
  });

  it.each([
    [
      'task: t\ndataset_path: d\ntest_split: test\nprocess_docs: !function utils.process\n',
      'process_docs is the Python function utils.process, which cannot run here; write the task with defineTask.',
    ],
    [
      'task: t\ndataset_path: d\ntest_split: test\ndoc_to_target: x\nmetric_list: [{metric: bleu}]\n',
      "metric_list: there is no metric 'bleu' here; known: exact_match.",
    ],
    [
      'task: t\ndataset_path: d\noutput_type: multiple_choice\n',
      'test_split: neither it nor validation_split names a split.',
    ],
    ['include: {a: b}\ntask: t\n', 'include: expected the name of a file, or a list of names'],
    ['task: t\ndataset_path: d\ntest_split: test\noutput_type: loglikelihood\n', 'output_type'],
    ['task: t\ndataset_path: d\ntest_split: test\ndoc_to_text: "{{ a"\ndoc_to_target: x\n', 'doc_to_text: '],
    ['task: t\ndataset_path: d\nmetric_list: []\n', 'bad.yaml:3: metric_list: '],
    ['task: t\ndataset_path: d\nfilter_list: []\n', 'bad.yaml:3: filter_list: '],
    [
      'task: t\ndataset_path: d\nfilter_list: [{ name: a, filter: [{ function: take_first }] }, { name: a, filter: [{ function: lowercase }] }]\n',
      'filter_list: two have the same name',
    ],
    [
      'task: t\ndataset_path: d\ngeneration_kwargs: { num_beams: 4 }\n',
      "key 'generation_kwargs.num_beams' is not known",
    ],
    ['task: t\ndataset_path: d\ngeneration_kwargs: { temperature: -1 }\n', 'generation_kwargs.temperature: '],
    ['task: t\ndataset_path: d\ndoc_too_text: q\n', "key 'doc_too_text' is not known; did you mean 'doc_to_text'?"],
    ['task: t\ndataset_path: d\nfewshot_config: { doc_to_text: q }\n', "key 'fewshot_config.doc_to_text' is not known"],
    ['task: t\ndataset_path: d\ngen_prefix: So\n', 'gen_prefix: cannot be given here; write the task with defineTask'],
    ['task: t\ndataset_path: d\nrepeats: 8\n', 'repeats: is 1 here: each question is asked once'],
    ['x: 1\n', "defines no task: it has neither 'task' nor 'group'."],
  ])('%j is refused', (text, message) => {
    expect(() => withTaskFiles(suite, [file('refused/bad.yaml', text)])).toThrow(message);
    rmSync(join(folder, 'refused'), { recursive: true });
  });

  it('of a folder are refused when they are asked for', () => {
    file('mixed/python.yaml', 'task: arc_easy\ndataset_path: d\nprocess_docs: !function utils.process\n');
    file('mixed/good.yaml', 'task: good\ndataset_path: d\ntest_split: test\ndoc_to_target: x\n');
    const mixed = withTaskFiles(suite, [join(folder, 'mixed')]);
    expect(resolveTasks(mixed, 'good').tasks).toHaveLength(1);
    // Its own text goes before the suite's task of that name.
    for (const name of ['arc_easy', 'arc_*']) {
      expect(() => resolveTasks(mixed, name)).toThrow('process_docs is the Python function utils.process');
    }
    const named = file('mixed/python.yaml', 'task: arc_easy\ndataset_path: d\ntest_split: test\ndoc_to_target: x\n');
    expect(resolveTasks(withTaskFiles(mixed, [named]), 'arc_easy').tasks[0]!.split).toBe('test');
    rmSync(join(folder, 'mixed'), { recursive: true });
  });

  it('say which column a template misses', () => {
    const task = withTaskFiles(suite, [gsm]).tasks.get('gsm_own')!;
    expect(() => buildTask(task, { documents: [{ answer: 'a' }] as Row[] }, { numFewshot: 0 })).toThrow(
      /gsm_own, document 1: .*gsm_own\.yaml, doc_to_text: there is no column 'question'; the row has answer\.$/,
    );
  });
});

describe('templates', () => {
  const render = (source: string, row: Row) => templateOf(source, 'it').render(row);

  it('have the methods and filters of task files', () => {
    const row = { a: ' x ', list: ['p', 'q'], n: 3, o: { k: 'v' } };
    expect(render('{{a.strip()}}|{{a.lstrip()}}|{{list[1]}}|{{list|join(", ")}}|{{o.k}}|{{n + 1}}\n', row)).toBe(
      'x|x |q|p, q|v|4\n',
    );
    expect(render('{% for one in list %}{{loop.index}}. {{one}}\n{% endfor %}end', row)).toBe('1. p\n2. q\nend');
    expect(render("{{ list.index('q') }}{{ a.replace('x', 'y')|trim }}{{ list|length }}{{ a[1:2]|upper }}", row)).toBe(
      '1y2X',
    );
    expect(templateOf('{{list}}', 'it').value(row)).toEqual(['p', 'q']);
    expect(() => render('{{b}}', row)).toThrow("it: there is no column 'b'; the row has a, list, n, o.");
  });

  it('print values as Jinja2 does', () => {
    const row = { list: ['a', "b'c", 'd\n"\\'], o: { x: 1, y: [true, null] }, f: 0.1, e: 1e-7, b: true, nul: null };
    // By Jinja2 3.1 of the same.
    const printed = `['a', "b'c", 'd\\n"\\\\']|{'x': 1, 'y': [True, None]}|0.1|1e-07|True|None|2.0|1|('a', 'b')`;
    const source = "{{list}}|{{o}}|{{f}}|{{e}}|{{b}}|{{nul}}|{{4/2}}|{{b and 1}}|{{('a', 'b')}}";
    expect(render(source, row)).toBe(printed);
    expect(render('{% for one in list[:1] %}{% if b %}{{b}}{% else %}-{% endif %}{% endfor %}', row)).toBe('True');
  });

  it.each([
    [{ label: { a: 1 } }, /doc_to_target: it gives \{"a":1\}; expected text\.$/],
    [{ choices: ['p', null] }, /doc_to_choice: it gives nothing; expected text\.$/],
    [{ question: ['p'] }, /doc_to_text: it gives \["p"\]; expected text\.$/],
  ])('whose value is no text are refused: %j', (change, message) => {
    const path = file(
      'kinds/typed.yaml',
      `task: typed\ndataset_path: d\ntest_split: test\noutput_type: multiple_choice
doc_to_text: question\ndoc_to_target: "{{label}}"\ndoc_to_choice: "{{choices}}"\n`,
    );
    const task = withTaskFiles(suite, [path]).tasks.get('typed')!;
    const row = { question: 'q', choices: ['p', 'r'], label: 'r' };
    expect(buildTask(task, { documents: [row] }).examples[0]!.target).toBe(1);
    expect(() => buildTask(task, { documents: [{ ...row, ...change }] })).toThrow(message);
  });
});

describe("Python's patterns", () => {
  it.each([
    ['a.b', 'a\rb', true],
    ['a.b', 'a\nb', false],
    ['(?s)a.b', 'a\nb', true],
    ['x$', 'x\n', true],
    ['x$', 'x\n\n', false],
    ['\\s', '\x1c', true],
    ['\\s', '\ufeff', false],
    ['[\\s,]', '\u0085', true],
    ['(?i)ABC', 'abc', true],
    ['(?P<n>1)', '1', true],
    ['\\-?[0-9\\.\\,]+', '-1,5', true],
  ])('%s in %j: %s', (pattern, text, matches) => {
    expect(pythonRegex(pattern, 'it').test(text)).toBe(matches);
  });

  it('that JavaScript lacks are refused', () => {
    expect(() => pythonRegex('(?>a)', 'it')).toThrow("it: the pattern '(?>a)' cannot be read");
  });
});
