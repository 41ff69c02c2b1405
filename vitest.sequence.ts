import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The files that take half a minute and more, longest first; vitest alone goes by size where it has not timed them. */
export const LONGEST = [
  'conformance/run_conformance',
  'train/src/parallel/processes',
  'scripts/pack',
  'cuda/src/compile',
  'model/src/gpu_memory',
  'golden/golden',
  'data/src/prepare_shards',
  'study/src/resume',
  'train/src/command',
  'eval/src/command',
  'study/src/cli',
];

/**
 * Starts the longest files first, so that no worker is left alone with one at the end; and those that share processes last,
 * one after another, as a worker goes on only with what is next to it.
 */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId, project }: TestSpecification) => {
      const index = LONGEST.findIndex((name) => moduleId.endsWith(`${name}.test.ts`));
      if (index >= 0) return index;
      return project.config.isolate ? LONGEST.length : LONGEST.length + 1;
    };
    return (await super.sort(files)).sort((a, b) => place(a) - place(b));
  }
}
