/** What the stick-breaking paper (https://arxiv.org/abs/2410.17980) reports in its tables 2 to 4, in percent. */

/** A column of those tables: a figure of a task. */
export interface PaperColumn {
  task: string;
  metric: string;
  /** Examples before each question; undefined for the task's own number. */
  numFewshot: number;
}

const zeroShot = (task: string, metric: string): PaperColumn => ({ task, metric, numFewshot: 0 });

/** The columns, in the order of the scores below. */
export const paperColumns: readonly PaperColumn[] = [
  zeroShot('arc_challenge', 'acc_norm'),
  zeroShot('arc_easy', 'acc_norm'),
  zeroShot('hellaswag', 'acc_norm'),
  zeroShot('openbookqa', 'acc_norm'),
  zeroShot('piqa', 'acc_norm'),
  zeroShot('race', 'acc'),
  zeroShot('sciq', 'acc'),
  zeroShot('winogrande', 'acc'),
  zeroShot('mmlu', 'acc'),
  { task: 'mmlu', metric: 'acc', numFewshot: 5 },
];

/** By model, in the order of `paperColumns`. */
export const paperScores: Readonly<Record<string, readonly number[]>> = {
  'softmax 1B': [35.8, 65.6, 64.8, 38.8, 75.0, 36.5, 90.5, 63.4, 25.7, 25.2],
  'stick-breaking 1B': [37.7, 67.6, 65.4, 36.6, 76.0, 37.4, 91.9, 63.1, 28.4, 29.3],
  'softmax 3B': [42.2, 73.1, 73.2, 40.8, 78.8, 37.4, 93.5, 67.6, 46.1, 49.1],
  'stick-breaking 3B': [44.9, 74.3, 74.1, 40.4, 79.7, 37.8, 93.9, 68.0, 50.8, 52.9],
};

/** What the paper's models score, in percent; empty where it says nothing of the figure. */
export function paperScoresOf(task: string, metric: string, numFewshot: number): Record<string, number> {
  const column = paperColumns.findIndex(
    (one) => one.task === task && one.metric === metric && one.numFewshot === numFewshot,
  );
  if (column < 0) return {};
  return Object.fromEntries(Object.entries(paperScores).map(([model, scores]) => [model, scores[column]!]));
}
