/** Figures of a group over the tasks in it. */
import type { GroupDefinition } from './definition.js';
import type { TaskResult } from './scores.js';
import { groupMean, pooledStandardError } from './statistics.js';

/** The figures of a group over all tasks in it that were evaluated, those of its subgroups among them. */
export function groupResult({ aggregate = [] }: GroupDefinition, tasks: readonly TaskResult[]): TaskResult {
  const figures = aggregate.flatMap(({ metric, filters, weightBySize }) =>
    filters.flatMap((filter) => {
      const found = tasks.flatMap(({ documents, figures }) =>
        figures
          .filter((one) => one.metric === metric && one.filter === filter)
          .map((figure) => ({ documents, figure })),
      );
      if (found.length === 0) return [];
      const sizes = found.map(({ documents }) => documents);
      const values = found.map(({ figure }) => figure.value);
      const errors = found.map(({ figure }) => figure.standardError);
      const value = groupMean(values, sizes, weightBySize);
      const { higherIsBetter } = found[0]!.figure;
      return [{ metric, filter, value, standardError: pooledStandardError(errors, sizes), higherIsBetter }];
    }),
  );
  return { documents: tasks.reduce((total, { documents }) => total + documents, 0), figures };
}
