/** All tasks of an evaluation, built before the model is busy. */
import type { Tokenizer } from '@stickbreaking/data';
import { type BuildOptions, type BuiltTask, buildTask, numFewshotOf } from '../tasks/build.js';
import type { TaskDefinition } from '../tasks/definition.js';
import type { FoundData } from './data_sets.js';

export interface BuildAllOptions extends Omit<BuildOptions, 'samples'> {
  data: FoundData;
  /** Of all data sets. */
  directory: string;
  /** That texts which are written are counted with. */
  tokenizer: Pick<Tokenizer, 'encodeBatch' | 'addsBos'>;
  /** Documents by task. */
  samples?: ReadonlyMap<string, readonly number[]> | undefined;
  onTask?: (name: string) => void;
}

/** @throws UserError where a row or a file is not as its task expects */
export async function builtTasks(
  definitions: readonly TaskDefinition[],
  { data, directory, tokenizer, samples, onTask, ...options }: BuildAllOptions,
): Promise<BuiltTask[]> {
  const writing = {
    directory,
    count: async (text: string) => (await tokenizer.encodeBatch([text]))[0]!.length,
    encodesBos: tokenizer.addsBos,
  };
  // Side by side: while one counts tokens, which the tokenizer does in threads of its own, another writes.
  const written = await Promise.all(definitions.map((task) => task.write?.(writing)));
  const tasks: BuiltTask[] = [];
  for (const [t, task] of definitions.entries()) {
    onTask?.(task.name);
    const documents = written[t] ?? (await data.rows(task, task.split));
    const from = task.shots?.from;
    const drawn = typeof from === 'string' && numFewshotOf(task, options.numFewshot) > 0;
    const pool = drawn ? await data.rows(task, from) : [];
    tasks.push(buildTask(task, { documents, pool }, { ...options, samples: samples?.get(task.name) }));
  }
  return tasks;
}
