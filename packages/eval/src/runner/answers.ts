/**
 * Answers of the model as they come, a line each, in a file that outlives a kill: whoever evaluates the same model again
 * goes on from there.
 */
import { existsSync, rmSync } from 'node:fs';
import { shown, UserError } from '@stickbreaking/base';
import { AppendFile, readWhole } from '@stickbreaking/base/node';
import { z } from 'zod';

/** A log-likelihood, and whether each of its tokens is the likeliest one at its place. */
export type LikelihoodAnswer = readonly [logLikelihood: number, isGreedy: boolean];
/** What is kept of a request: a likelihood, or a generated text. */
export type Answer = LikelihoodAnswer | string;

/** Answers by the key of what was asked. */
export interface Answers {
  get(key: string): Answer | undefined;
  /** Keeps answers; once this returns they are on the disk, if there is a file. */
  add(answers: readonly (readonly [key: string, answer: Answer])[]): void;
  close(): void;
}

/** Answers that are kept in memory alone. */
export function answersInMemory(): Answers {
  const known = new Map<string, Answer>();
  return {
    get: (key) => known.get(key),
    add: (answers) => {
      for (const [key, answer] of answers) known.set(key, answer);
    },
    close: () => {},
  };
}

/**
 * The answer to a request whose likelihood was asked for, if it is known.
 *
 * @throws UserError where a text is kept in its place
 */
export function likelihoodIn(answers: Pick<Answers, 'get'>, key: string): LikelihoodAnswer | undefined {
  const answer = answers.get(key);
  if (typeof answer === 'string') throw wrongKind(key, 'a text where a likelihood belongs');
  return answer;
}

/**
 * The answer to a request that wanted a text, if it is known.
 *
 * @throws UserError where a likelihood is kept in its place
 */
export function textIn(answers: Pick<Answers, 'get'>, key: string): string | undefined {
  const answer = answers.get(key);
  if (typeof answer === 'object') throw wrongKind(key, 'a likelihood where a text belongs');
  return answer;
}

const wrongKind = (key: string, what: string) =>
  new UserError(`The saved answer '${shown(key)}' is ${what}; the file of answers is damaged, remove it.`);

/**
 * Answers kept in a file. A line that a kill cut short is taken out.
 *
 * @param model what the answers are of; it stands in the first line
 * @param others files whose answers are known too
 * @throws UserError if a file holds answers of another model
 */
export function answersInFile(path: string, model: string, others: readonly string[] = []): Answers {
  const known = answersInMemory();
  const header = `${JSON.stringify({ answersOf: model })}\n`;
  for (const other of others) if (existsSync(other)) read(other, header, known);
  const whole = existsSync(path) ? read(path, header, known) : 0;
  const file = new AppendFile(path, shown(path));
  file.cutTo(whole);
  if (whole === 0) file.append(header);
  return {
    get: known.get,
    add: (answers) => {
      file.append(answers.map((one) => `${JSON.stringify(one)}\n`).join(''));
      file.sync();
      known.add(answers);
    },
    close: () => file.close(),
  };
}

/** Moves the answers of parts into a file. */
export function gatherAnswers(answers: Answers, parts: readonly string[]): void {
  for (const path of parts.filter(existsSync)) {
    const lines = readWhole(path, shown(path)).toString().split('\n').slice(1, -1);
    answers.add(lines.map((line, i) => parse(line, `${shown(path)}, line ${i + 2}`)));
    rmSync(path);
  }
}

/** @returns the bytes of the lines that are whole */
function read(path: string, header: string, known: Answers): number {
  const bytes = readWhole(path, shown(path));
  const end = bytes.lastIndexOf(0x0a) + 1;
  const [first = '', ...lines] = bytes.subarray(0, end).toString().split('\n');
  if (end === 0) return 0;
  if (`${first}\n` !== header) {
    throw new UserError(
      `${shown(path)} holds answers of another model, tokenizer or rule; name another --output, or remove the file.`,
    );
  }
  for (const [i, line] of lines.slice(0, -1).entries()) known.add([parse(line, `${shown(path)}, line ${i + 2}`)]);
  return end;
}

const LineSchema = z.tuple([z.string(), z.union([z.string(), z.tuple([z.number(), z.boolean()])])]);

function parse(line: string, where: string): [string, Answer] {
  try {
    return LineSchema.parse(JSON.parse(line));
  } catch {
    // told below
  }
  throw new UserError(`${where}: this is no answer; the file is damaged, remove it.`);
}
