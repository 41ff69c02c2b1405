/** MMLU: 57 subjects of school and profession (Hendrycks et al. 2020). */
import { shown, UserError } from '@stickbreaking/base';
import { strip } from '../../python/text.js';
import { defineTask, type GroupDefinition, type MultipleChoiceDefinition, type Row } from '../definition.js';
import { integerOf, textOf, textsOf } from '../rows.js';
import { mmluSubjects } from './mmlu_subjects.js';

const LETTERS = ['A', 'B', 'C', 'D'];

function subject(name: string): MultipleChoiceDefinition {
  return defineTask({
    kind: 'multiple_choice',
    name: `mmlu_${name}`,
    alias: name,
    version: 1,
    dataset: { path: 'cais/mmlu', name },
    split: 'test',
    columns: ['question', 'choices', 'answer'],
    released: { test: [`**/test/${name}_test.csv`], dev: [`**/dev/${name}_dev.csv`] },
    adapt: fromCells,
    description: `The following are multiple choice questions (with answers) about ${name.replaceAll('_', ' ')}.\n\n`,
    shots: { from: 'dev', sampler: 'first_n' },
    text: (row) => {
      const choices = textsOf(row, 'choices');
      const lines = LETTERS.map((letter, i) => `${letter}. ${choices[i]}`);
      return [strip(textOf(row, 'question')), ...lines, 'Answer:'].join('\n');
    },
    choices: () => LETTERS,
    gold: (row) => integerOf(row, 'answer'),
    metrics: ['acc'],
  });
}

/** The original release has a line for each question: the question, four choices, the letter of the answer. */
function fromCells(row: Row): Row {
  const { cells } = row;
  if (!Array.isArray(cells)) return row;
  if (cells.length !== 6 || !LETTERS.includes(cells[5])) {
    throw new UserError(
      `the line has ${cells.length} fields, the last '${shown(String(cells.at(-1)))}'; expected a question, four choices and the letter of the answer.`,
    );
  }
  return { question: cells[0], choices: cells.slice(1, 5), answer: LETTERS.indexOf(cells[5]) };
}

const parts = Object.entries(mmluSubjects);

export const mmluTasks = parts.flatMap(([, subjects]) => subjects.map(subject));

const aggregate = [{ metric: 'acc', filters: ['none'], weightBySize: true }];

export const mmluGroups: readonly GroupDefinition[] = [
  { name: 'mmlu', alias: 'mmlu', version: 2, members: parts.map(([part]) => `mmlu_${part}`), aggregate },
  ...parts.map(([part, subjects]) => ({
    name: `mmlu_${part}`,
    alias: part.replaceAll('_', ' '),
    version: 2,
    members: subjects.map((name) => `mmlu_${name}`),
    aggregate,
  })),
];
