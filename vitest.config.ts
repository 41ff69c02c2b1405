import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { chooseSeed, SEED_VARIABLE } from './packages/base/src/random.js';
import { LongestFirst } from './vitest.sequence.js';

const source = (path: string) => fileURLToPath(new URL(`./packages/${path}`, import.meta.url));

/** Tests run on the sources; only tests of the commands need the build. */
const entries: Record<string, string> = {
  '@stickbreaking/base': 'base/src/index.ts',
  '@stickbreaking/base/node': 'base/src/node/index.ts',
  '@stickbreaking/core': 'core/src/index.ts',
  '@stickbreaking/core/backend': 'core/src/backend.ts',
  '@stickbreaking/core/conformance': 'core/src/conformance/index.ts',
  '@stickbreaking/core/native': 'core/backends/native/src/index.ts',
  '@stickbreaking/core/cuda': 'core/backends/cuda/src/index.ts',
  '@stickbreaking/data': 'data/src/index.ts',
  '@stickbreaking/data/browser': 'data/src/browser.ts',
  '@stickbreaking/model': 'model/src/index.ts',
  '@stickbreaking/model/browser': 'model/src/browser.ts',
  '@stickbreaking/eval': 'eval/src/index.ts',
  '@stickbreaking/serve': 'serve/src/index.ts',
  '@stickbreaking/train': 'train/src/index.ts',
  '@stickbreaking/study': 'study/src/index.ts',
  '@stickbreaking/board': 'board/src/index.ts',
  '@stickbreaking/web': 'web/src/index.ts',
  stickbreaking: 'stickbreaking/src/index.ts',
};

// One seed for the random inputs of all tests of a run.
process.env[SEED_VARIABLE] ||= String(chooseSeed());
console.info(`${SEED_VARIABLE}=${process.env[SEED_VARIABLE]} repeats this run's random inputs`);

export default defineConfig({
  resolve: {
    alias: Object.entries({ ...entries, 'fast-check': '../vitest.fast_check.ts' }).map(([name, path]) => ({
      find: new RegExp(`^${name}$`),
      replacement: source(path),
    })),
  },
  test: {
    include: ['packages/*/src/**/*.test.ts', 'packages/*/backends/*/src/**/*.test.ts', 'scripts/**/*.test.ts'],
    globalSetup: fileURLToPath(new URL('./vitest.scratch.ts', import.meta.url)),
    pool: 'forks',
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
