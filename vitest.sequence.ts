import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The files that take half a minute and more, longest first; vitest alone goes by size where it has not timed them. */
const LONGEST = [
  'train/src/parallel/processes',
  'cuda/src/compile',
  'conformance/run_conformance',
  'scripts/pack',
  'train/src/command',
  'study/src/cli',
  'eval/src/command',
  'golden/golden',
];

/** Starts the longest files first, so that no worker is left alone with one at the end. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = (file: TestSpecification) => {
      const index = LONGEST.findIndex((name) => file.moduleId.endsWith(`${name}.test.ts`));
      return index < 0 ? LONGEST.length : index;
    };
    return (await super.sort(files)).sort((a, b) => place(a) - place(b));
  }
}
