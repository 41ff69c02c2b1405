/** Prompts of a JSON lines file, and what an output file has of them already. */
import { createReadStream, existsSync, truncateSync } from 'node:fs';
import { EXIT, explainSystemError, UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';
import type { ContinuationRecord } from './continuation.js';
import type { Settings } from './settings.js';

export interface Prompt {
  /** Of the line, from 0. */
  index: number;
  prompt: string;
  id?: unknown;
  seed?: number | undefined;
}

/**
 * Reads prompts one by one, those of standard input where the path is `-`: each line a JSON string, or an object with `prompt` and, if wanted, `id` and `seed`.
 *
 * @throws UserError that names the file and the line
 */
export async function* readPrompts(path: string): AsyncGenerator<Prompt> {
  const stream = path === '-' ? process.stdin.setEncoding('utf8') : createReadStream(path, 'utf8');
  let index = 0;
  let line = 0;
  try {
    for await (const text of linesOf(stream, path)) {
      line++;
      if (text.trim() === '') continue;
      yield { index: index++, ...parsePrompt(text, `${path}, line ${line}`) };
    }
  } catch (error) {
    throw explainSystemError(error, `cannot read ${path}`);
  }
}

/** Characters of a line at most: a device such as /dev/zero ends none. */
const LONGEST_LINE = 2 ** 24;

/** Cut at line feeds alone: JSON may hold other characters that some take for the end of a line. */
async function* linesOf(stream: AsyncIterable<string>, path: string): AsyncGenerator<string> {
  let rest = '';
  let line = 1;
  for await (const text of stream) {
    const [first, ...others] = text.split('\n');
    rest += first;
    for (const next of others) {
      yield rest;
      line++;
      rest = next;
    }
    if (rest.length > LONGEST_LINE)
      throw new UserError(`${path}, line ${line}: more than ${LONGEST_LINE} characters; expected a prompt a line.`);
  }
  if (rest !== '') yield rest;
}

/** Settings that a line might be thought to have of its own; other fields are the user's. */
const OF_ALL_LINES = new Map(
  Object.entries({
    ...{ max_new_tokens: 'max-new-tokens', maxNewTokens: 'max-new-tokens', max_tokens: 'max-new-tokens' },
    ...{ temperature: 'temperature', top_k: 'top-k', topK: 'top-k', top_p: 'top-p', topP: 'top-p', min_p: 'min-p' },
    ...{
      minP: 'min-p',
      repetition_penalty: 'repetition-penalty',
      repetitionPenalty: 'repetition-penalty',
      stop: 'stop',
    },
  }),
);

function parsePrompt(text: string, where: string): Omit<Prompt, 'index'> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${where}: ${(error as Error).message}; expected JSON.`);
  }
  const { prompt, id, seed } = typeof json === 'string' ? { prompt: json } : ((json ?? {}) as Partial<Prompt>);
  const setting = json !== null && typeof json === 'object' && Object.keys(json).find((key) => OF_ALL_LINES.has(key));
  if (setting) {
    throw new UserError(
      `${where}: "${setting}" is not read here; --${OF_ALL_LINES.get(setting)} sets it for all prompts.`,
    );
  }
  if (typeof prompt === 'string' && (seed === undefined || Number.isSafeInteger(seed))) return { prompt, id, seed };
  throw new UserError(`${where}: expected a string, or an object whose "prompt" is one (and "seed" a whole number).`);
}

/** A continuation that an output file has. */
export interface Finished {
  prompt: string;
  /** What it was made with, where it says so. */
  settings?: Settings | undefined;
}

/**
 * The prompts that an output file has the continuations of, by index. A line that was cut off is taken away.
 *
 * @throws UserError if the file holds something else
 */
export function readFinished(path: string): Map<number, Finished> {
  const finished = new Map<number, Finished>();
  if (!existsSync(path)) return finished;
  const bytes = readWhole(path);
  const end = bytes.lastIndexOf(10) + 1;
  if (end < bytes.length) truncateSync(path, end);
  const lines = bytes.toString('utf8', 0, end).split('\n').slice(0, -1);
  for (const [i, text] of lines.entries()) {
    const record = recordIn(text);
    const fault = !record
      ? 'is no continuation that sb-generate wrote'
      : finished.has(record.index)
        ? 'is there twice'
        : '';
    if (!record || fault) {
      throw new UserError(`${path}, line ${i + 1} ${fault}; name another file with --output.`, {
        exitCode: EXIT.refused,
      });
    }
    finished.set(record.index, record);
  }
  return finished;
}

function recordIn(text: string): (Finished & { index: number }) | undefined {
  try {
    const { index, prompt, settings } = JSON.parse(text) as ContinuationRecord & { settings?: Settings | null };
    const isTold = settings === undefined || (typeof settings === 'object' && settings !== null);
    return Number.isSafeInteger(index) && index >= 0 && typeof prompt === 'string' && isTold
      ? { index, prompt, settings }
      : undefined;
  } catch {
    return undefined;
  }
}
