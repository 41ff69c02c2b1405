/** Which examples stand before a question, chosen as lm-evaluation-harness's samplers choose them. */
import { UserError } from '@stickbreaking/base';
import { PythonRandom } from '../python/random.js';

/** Chooses the examples of one document after the other: its generator runs on from document to document. */
export interface ShotSampler<Row> {
  /** The examples of the next document. */
  next(document: Row): readonly Row[];
}

export interface ShotSamplerOptions<Row> {
  sampler: 'default' | 'first_n';
  pool: readonly Row[];
  count: number;
  /** Of Python's generator. */
  seed: number;
  /** One more is drawn, and the document itself, if it is among them, is left out. */
  drawsOneMore: boolean;
  /** Whether two rows are the same document. */
  same(a: Row, b: Row): boolean;
  /** Names the task in errors. */
  task: string;
}

/**
 * The sampler of a task.
 *
 * @throws UserError if there are fewer examples than asked for
 */
export function shotSampler<Row>(options: ShotSamplerOptions<Row>): ShotSampler<Row> {
  const { sampler, pool, count, seed, drawsOneMore, same, task } = options;
  const needed = count === 0 ? 0 : count + (drawsOneMore && sampler === 'default' ? 1 : 0);
  if (needed > pool.length) {
    throw new UserError(
      `${task}: ${count} examples are asked for, and there are ${pool.length}; take a smaller --num-fewshot.`,
    );
  }
  if (count === 0) return { next: () => [] };
  const without = (rows: readonly Row[], document: Row) => rows.filter((row) => !same(row, document)).slice(0, count);
  if (sampler === 'first_n') {
    const first = pool.slice(0, count);
    return { next: (document) => (drawsOneMore ? without(pool.slice(0, count + 1), document) : first) };
  }
  const random = new PythonRandom(seed);
  return {
    next: (document) => {
      const drawn = random.sample(pool, needed);
      return drawsOneMore ? without(drawn, document) : drawn;
    },
  };
}
