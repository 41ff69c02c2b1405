/** RACE: reading comprehension of English examinations (Lai et al. 2017), the last question about each article. */
import { UserError } from '@stickbreaking/base';
import { parseLiteral } from '../../python/literal.js';
import { defineTask, type Row } from '../definition.js';

interface Problem {
  question: string;
  options: string[];
  answer: string;
}

/** Ends a question with a gap at its end. */
const GAP = '  _  .';

/** RACE as a version of the harness asks it: 2.0 put the end of a question with a gap in place of its beginning. */
export function race(version: 2 | 3) {
  return defineTask({
    kind: 'multiple_choice',
    name: 'race',
    version,
    dataset: { path: 'EleutherAI/race', name: 'high' },
    split: 'test',
    columns: ['article', 'problems'],
    released: { test: ['**/test/high/*.txt'] },
    adapt: withProblems,
    text: (row) => {
      const problems = problemsOf(row);
      const asked = problems.slice(0, -1).map((problem) => answered(problem, version));
      return `Article: ${row.article}\n\n${asked.join('')}${problems.at(-1)!.question}`;
    },
    choices: (row) => problemsOf(row).at(-1)!.options,
    gold: (row) => goldOf(problemsOf(row).at(-1)!),
    metrics: ['acc'],
  });
}

function answered(problem: Problem, version: 2 | 3): string {
  const { question } = problem;
  const option = problem.options[goldOf(problem)]!;
  if (!question.endsWith(GAP)) return `Question: ${question}\nAnswer: ${option}\n`;
  return `${version === 2 ? question.slice(-5) : question.slice(0, -5)}${option}\n`;
}

function goldOf({ answer }: Problem): number {
  return 'ABCD'.indexOf(answer);
}

function problemsOf(row: Row): Problem[] {
  const { problems: given } = row;
  const problems = (typeof given === 'string' ? parseLiteral(given, "a row's column 'problems'") : given) as Problem[];
  const fits = (one: Problem) =>
    typeof one?.question === 'string' && Array.isArray(one.options) && one.options[goldOf(one)] !== undefined;
  if (Array.isArray(problems) && problems.length > 0 && problems.every(fits)) return problems;
  throw new UserError("column 'problems' holds no list of { question, answer (A to D), options }.");
}

/** The archive has a file an article, with its questions, options and answers side by side. */
function withProblems(row: Row): Row {
  const { questions, options, answers } = row as Record<string, unknown[]>;
  if (![questions, options, answers].every(Array.isArray)) return row;
  const problems = questions!.map((question, i) => ({ question, answer: answers![i], options: options![i] }));
  return { ...row, problems };
}
