import { describe, expect, it } from 'vitest';
import { type BuildOptions, buildTask } from '../build.js';
import type { Row } from '../definition.js';
import { documentHashes, sha256 } from '../hashes.js';
import { resolveTasks } from '../resolve.js';
import type { AnswerOf, RequestKind } from '../task.js';
import { suiteOf } from './index.js';

const suite = suiteOf({ harness: '0.4.13' });

function built(name: string, rows: readonly Row[], pool: readonly Row[] = [], options: BuildOptions = {}) {
  return buildTask(suite.tasks.get(name)!, { documents: rows, pool }, options);
}

/** Contexts with their continuations, or whole texts. */
function asked(name: string, row: Row, pool: readonly Row[] = [], options: BuildOptions = {}): string[] {
  return built(name, [row], pool, options).examples[0]!.requests.map((one) =>
    'text' in one ? one.text : 'settings' in one ? one.context : `${one.context}|${one.continuation}`,
  );
}

const arcRow = (question: string, answerKey: string) => ({
  question,
  choices: { text: ['up', 'down'], label: ['1', '2'] },
  answerKey,
});
const mmluRow = (question: string, answer: number) => ({ question, choices: ['w', 'x', 'y', 'z'], answer });

describe('requests', () => {
  it('of ARC', () => {
    const shot = 'Question: Where is the sky?\nAnswer: up\n\n';
    const pool = [arcRow('Where is the sky?', '1')];
    expect(asked('arc_easy', arcRow('Where is the sea?', '2'), pool, { numFewshot: 1 })).toEqual([
      `${shot}Question: Where is the sea?\nAnswer:| up`,
      `${shot}Question: Where is the sea?\nAnswer:| down`,
    ]);
    expect(built('arc_challenge', [arcRow('Where?', '2')]).examples[0]!.target).toBe(1);
  });

  it('of ARC as its authors publish it', () => {
    const choices = [
      { text: 'up', label: 'A' },
      { text: 'down', label: 'B' },
    ];
    const row = { question: { stem: 'Where is the sea?', choices }, answerKey: 'B' };
    const { target, requests } = built('arc_easy', [row]).examples[0]!;
    expect([target, requests[1]]).toEqual([
      1,
      { context: 'Question: Where is the sea?\nAnswer:', continuation: ' down' },
    ]);
  });

  it('of HellaSwag', () => {
    const row = {
      activity_label: 'Baking bread',
      ctx_a: 'A baker [title] kneads [step] dough.',
      ctx_b: 'then SHE',
      endings: [' rests   it.', ', the man eats.'],
      label: '1',
    };
    const context = 'Baking bread: A baker. kneads dough. Then she';
    expect(asked('hellaswag', row)).toEqual([`${context}| rests  it.`, `${context}| , the man eats.`]);
    expect(asked('hellaswag', { ...row, ctx_b: '' })[0]).toMatch(/dough\.\| rests/);
  });

  it('of OpenBookQA, PIQA, SciQ', () => {
    const question = {
      question_stem: 'Water is',
      choices: { text: ['wet', 'dry'], label: ['A', 'B'] },
      answerKey: ' A',
    };
    expect(asked('openbookqa', question)).toEqual(['Water is| wet', 'Water is| dry']);
    const goal = { goal: 'Open a jar.', sol1: 'Turn the lid.', sol2: 'Sing.', label: 0 };
    expect(asked('piqa', goal)[0]).toBe('Question: Open a jar.\nAnswer:| Turn the lid.');
    const science = {
      support: '',
      question: 'What falls?',
      distractor1: 'a',
      distractor2: 'b',
      distractor3: 'c',
      correct_answer: 'd',
    };
    expect(asked('sciq', science)).toEqual(
      ['a', 'b', 'c', 'd'].map((one) => `\nQuestion: What falls?\nAnswer:| ${one}`),
    );
    expect(built('sciq', [science]).examples[0]!.target).toBe(3);
  });

  it('of WinoGrande: contexts that differ before one continuation', () => {
    const row = { sentence: "Ann thanked Eve, since _ 's cake was good.", option1: 'Ann', option2: 'Eve', answer: '2' };
    expect(asked('winogrande', row, [row, { ...row, option2: 'Ida' }], { numFewshot: 1 })[1]).toBe(
      "Ann thanked Eve, since Ida 's cake was good.\n\nAnn thanked Eve, since Eve| 's cake was good.",
    );
  });

  it('of RACE, whose gaps an older release garbled', () => {
    const problems = `[{'question': "Where's Tom?", 'answer': 'B', 'options': ['here', 'there', 'up', 'down']},
      {'question': 'Tom is  _  .', 'answer': 'A', 'options': ['tall', 'small', 'old', 'young']},
      {'question': 'Why?', 'answer': 'D', 'options': ['a', 'b', 'c', 'd']}]`;
    const row = { article: 'Tom went.', problems };
    const begin = "Article: Tom went.\n\nQuestion: Where's Tom?\nAnswer: there\n";
    expect(asked('race', row)[3]).toBe(`${begin}Tom is tall\nWhy?| d`);
    const old = buildTask(suiteOf({ harness: '0.4.4' }).tasks.get('race')!, { documents: [row] });
    expect(old.examples[0]!.requests[0]).toEqual({ context: `${begin} _  .tall\nWhy?`, continuation: ' a' });
    const released = {
      article: 'Tom went.',
      questions: ['Why?'],
      options: [['a', 'b', 'c', 'd']],
      answers: ['D'],
    };
    expect(asked('race', released)[3]).toBe('Article: Tom went.\n\nWhy?| d');
  });

  it('of MMLU: the subject, and the first examples in order', () => {
    const begin = 'The following are multiple choice questions (with answers) about college physics.\n\n';
    const question = (text: string) => `${text}\nA. w\nB. x\nC. y\nD. z\nAnswer:`;
    expect(asked('mmlu_college_physics', mmluRow(' Why? ', 0))[2]).toBe(`${begin}${question('Why?')}| C`);
    const pool = [mmluRow('One?', 3), mmluRow('Two?', 1)];
    expect(asked('mmlu_college_physics', mmluRow('Why?', 0), pool, { numFewshot: 1 })[0]).toBe(
      `${begin}${question('One?')} D\n\n${question('Why?')}| A`,
    );
  });

  it('of GSM8K, MATH', () => {
    const row = { question: 'What is 1 + 1?', answer: 'It is <<1+1=2>>2.\n#### 2' };
    expect(asked('gsm8k', row, [row], { numFewshot: 1 })[0]).toBe(
      'Question: What is 1 + 1?\nAnswer: It is <<1+1=2>>2.\n#### 2\n\nQuestion: What is 1 + 1?\nAnswer:',
    );
    const chain = built('gsm8k_cot', [row]);
    expect([chain.numFewshot, chain.examples[0]!.target]).toEqual([8, '2']);
    expect(asked('gsm8k_cot', row)[0]).toMatch(
      /^Q: There are 15 trees.* The answer is 8\.\n\nQ: What is 1 \+ 1\?\nA:$/s,
    );
    const problem = { problem: 'Find $x$.', solution: 'So $x = \\boxed{\\frac12}$.' };
    expect(asked('minerva_math_algebra', problem)[0]).toMatch(
      /^Problem:\nFind the domain.*correct\.\n\nProblem:\nFind \$x\$\.\n\nSolution:$/s,
    );
    expect(built('minerva_math500', [problem]).examples[0]!.target).toBe('\\frac{1}{2}');
  });

  it('of whole texts', () => {
    expect(asked('wikitext', { page: ' = A = \n \n It is 1 @,@ 000 , he said . \n ' })).toEqual([
      ' = A =\n\nIt is 1,000, he said.\n',
    ]);
    expect(asked('pile_10k', { text: 'As it is . ' })).toEqual(['As it is . ']);
  });
});

describe('scores', () => {
  const likelihoods = (...values: number[]) => values.map((logLikelihood) => ({ logLikelihood, isGreedy: false }));
  const metrics = (name: string, row: Row, answers: AnswerOf<RequestKind>[], filter = 'none') => {
    const task = built(name, [row], [], { numFewshot: 0 });
    return task.score(task.examples[0]!, answers)[filter]!.metrics;
  };

  it('divide by characters, and take the first of the best', () => {
    const row = { goal: 'g', sol1: '😀😀', sol2: 'abc', label: 0 };
    expect(metrics('piqa', row, likelihoods(-4, -5.9))).toEqual({ acc: 1, acc_norm: 0 });
    expect(metrics('piqa', row, likelihoods(-2, -2))).toEqual({ acc: 1, acc_norm: 0 });
    expect(
      metrics('winogrande', { sentence: 'a _ b', option1: 'x', option2: 'y', answer: '2' }, likelihoods(-2, -1)),
    ).toEqual({ acc: 1 });
  });

  it('of numbers: the marked one, and the last one', () => {
    const row = { question: 'q', answer: 'so\n#### 1,800' };
    const score = (text: string, filter: string) => metrics('gsm8k', row, [{ text }], filter).exact_match;
    expect(score('thus #### 1800 or so', 'strict-match')).toBe(1);
    expect(score('it is $1800.', 'flexible-extract')).toBe(1);
    expect(score('it is 1800', 'strict-match')).toBe(0);
    // The dot after the number is any character, and here there is none.
    expect(
      metrics('gsm8k_cot', { question: 'q', answer: '#### 18' }, [{ text: 'The answer is 18' }], 'strict-match')
        .exact_match,
    ).toBe(0);
  });

  it('of expressions; tuples only as text where that is asked for', () => {
    const answer = (text: string) => [
      { text: `So.\nFinal Answer: The final answer is $${text}$. I hope it is correct.` },
    ];
    const row = (boxed: string) => ({ problem: 'p', solution: `\\boxed{${boxed}}` });
    expect(metrics('minerva_math_algebra', row('\\frac{1}{2}'), answer('0.5')).exact_match).toBe(1);
    expect(metrics('minerva_math_algebra', row('(1,2)'), answer('(1,2)')).exact_match).toBe(0);
    const kinder = suiteOf({ harness: '0.4.13', equalStrings: true }).tasks.get('minerva_math_algebra')!;
    const task = buildTask(kinder, { documents: [row('(1,2)')] });
    expect(task.score(task.examples[0]!, answer('(1,2)')).none!.metrics.exact_match).toBe(1);
    const undecided = built('minerva_math_algebra', [row('n!')]);
    const score = undecided.score(undecided.examples[0]!, answer('m!'));
    expect(undecided.summarise([score])).toMatchObject({ figures: [{ value: 0 }], remarks: { undecided: 1 } });
  });

  it('of whole texts whose words are too long for a perplexity say so', () => {
    const task = built('wikitext', [{ page: 'a'.repeat(1000) }]);
    const score = task.score(task.examples[0]!, [{ losses: Float64Array.of(720) }]);
    const { figures, remarks } = task.summarise([score]);
    expect(figures.map(({ value }) => Number.isFinite(value))).toEqual([false, true, true]);
    expect(remarks).toEqual({ 'make word_perplexity larger than any number': 1 });
  });

  it('of whole texts: by words and bytes of the original', () => {
    const row = { page: ' a @-@ é ' };
    const found = metrics('wikitext', row, [{ losses: Float64Array.of(1, 2) }]);
    expect(found).toEqual({ word_perplexity: [-3, 5], byte_perplexity: [-3, 10], bits_per_byte: [-3, 10] });
  });

  it('are told apart by hashes', () => {
    const [document] = built('pile_10k', [{ text: 'a' }]).examples;
    expect(documentHashes(document!)).toEqual({
      document: sha256('{\n  "text": "a"\n}'),
      prompt: sha256('a'),
      target: sha256('a'),
    });
  });
});

describe('a part of the documents', () => {
  const rows = ['a', 'b', 'c'].map((text) => ({ text }));
  const ids = (options: BuildOptions) => built('pile_10k', rows, [], options).examples.map(({ id }) => id);

  it('is the first ones, a share rounded up, or those named', () => {
    expect([ids({ limit: 2 }), ids({ limit: 0.4 }), ids({ limit: 9 }), ids({ samples: [2, 0] })]).toEqual([
      [0, 1],
      [0, 1],
      [0, 1, 2],
      [0, 2],
    ]);
    expect(() => ids({ samples: [3] })).toThrow('pile_10k has no document 3; its 3 documents are counted from 0.');
  });

  it('has the examples that it would have among all', () => {
    const pool = ['Where?', 'When?', 'Why?', 'Who?'].map((question) => arcRow(question, '1'));
    const all = ['1', '2', '2'].map((answer, i) => arcRow(`Question ${i}`, answer));
    const whole = built('arc_easy', all, pool, { numFewshot: 2 }).examples;
    expect(built('arc_easy', all, pool, { numFewshot: 2, limit: 2 }).examples).toEqual(whole.slice(0, 2));
    expect(built('arc_easy', all, pool, { numFewshot: 2, seed: 5 }).examples).not.toEqual(whole);
  });
});

describe('mistakes in rows', () => {
  it.each([
    [
      'arc_easy',
      { question: 'q' },
      "arc_easy, document 1: there is no column 'choices'; the task reads question, choices, answerKey, and the row has question.",
    ],
    ['arc_easy', arcRow('q', 'C'), "arc_easy, document 1: the answer 'C' is none of the choices (1, 2)."],
    [
      'piqa',
      { goal: 'g', sol1: 'a', sol2: 'b', label: 'x' },
      `piqa, document 1: column 'label' holds "x"; expected a whole number.`,
    ],
    ['piqa', { goal: 'g', sol1: 'a', sol2: 'b', label: 2 }, 'piqa, document 1: the answer is choice 3 of 2.'],
    ['race', { article: 'a', problems: '[]' }, "race, document 1: column 'problems' holds no list"],
    ['minerva_math500', { problem: 'p', solution: 'none' }, 'minerva_math500, document 1: the solution has no answer'],
    ['pile_10k', { text: '' }, 'pile_10k: every text is empty, so there is nothing to score'],
  ])('%s', (name, row, message) => {
    expect(() => built(name, [row])).toThrow(message);
  });

  it('too few examples', () => {
    expect(() => built('gsm8k_cot', [{ question: 'q', answer: '#### 1' }], [], { numFewshot: 9 })).toThrow(
      'gsm8k_cot: 9 examples are asked for, and there are 8; take a smaller --num-fewshot.',
    );
  });
});

describe('names', () => {
  const names = (text: string) => resolveTasks(suite, text).tasks.map(({ name }) => name);

  it('are those of tasks, groups and globs', () => {
    expect(names('piqa, arc_*  piqa')).toEqual(['piqa', 'arc_challenge', 'arc_easy']);
    expect(names('mmlu')).toHaveLength(57);
    expect(resolveTasks(suite, 'mmlu').groups.map(({ name }) => name)).toEqual([
      'mmlu',
      'mmlu_stem',
      'mmlu_other',
      'mmlu_social_sciences',
      'mmlu_humanities',
    ]);
    expect(names('mmlu_*')).toHaveLength(57);
    expect(names('minerva_math')).toHaveLength(7);
    for (const group of suite.groups.values()) expect(names(group.name).length).toBeGreaterThan(0);
  });

  it('that are unknown come with the nearest', () => {
    expect(() => names('piqa,hellaswg,arc')).toThrow(
      "no tasks or groups are called 'hellaswg' (did you mean 'hellaswag'?), 'arc' (did you mean",
    );
    expect(() => names(' ')).toThrow('--tasks names no task');
  });
});
