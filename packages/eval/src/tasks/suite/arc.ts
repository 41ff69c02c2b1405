/** ARC, the AI2 Reasoning Challenge: questions of school examinations in science (Clark et al. 2018). */
import { defineTask, type Row } from '../definition.js';
import { answerByLabel, labelledChoices } from '../rows.js';

function arc(name: string, config: string) {
  return defineTask({
    kind: 'multiple_choice',
    name,
    version: 1,
    dataset: { path: 'allenai/ai2_arc', name: config },
    split: 'test',
    columns: ['question', 'choices', 'answerKey'],
    released: { test: [`**/${config}-Test.jsonl`], train: [`**/${config}-Train.jsonl`] },
    adapt: (row) => {
      const { question } = row;
      return typeof question === 'object' && question !== null
        ? { ...row, question: (question as Row).stem, choices: (question as Row).choices }
        : row;
    },
    shots: { from: 'train', sampler: 'default' },
    text: (row) => `Question: ${row.question}\nAnswer:`,
    choices: (row) => labelledChoices(row).text,
    gold: (row) => answerByLabel(row, String(row.answerKey)),
    metrics: ['acc', 'acc_norm'],
  });
}

export const arcEasy = arc('arc_easy', 'ARC-Easy');
export const arcChallenge = arc('arc_challenge', 'ARC-Challenge');
