import { fileURLToPath } from 'node:url';
import { defineConfig, type ViteUserConfig } from 'vitest/config';
import { chooseSeed, SEED_VARIABLE } from './packages/base/src/random.js';
import { LONGEST, LongestFirst } from './vitest.sequence.js';

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

const tests = ['packages/*/src/**/*.test.ts', 'packages/*/backends/*/src/**/*.test.ts', 'scripts/**/*.test.ts'];

/**
 * These have a process each. All others share two, one after another, which saves loading the sources and TensorFlow.js
 * again for every file, a second each; vitest.restore.ts puts back what one of them changed.
 */
const alone = [
  'scripts/**/*.test.ts', // load built packages beside the sources
  ...LONGEST.map((name) => `packages/**/${name}.test.ts`), // nothing to be saved
  // What these do, a process does once: load the C++ library as the environment says, register a backend, warn.
  'packages/core/backends/native/src/{kernels,library}.test.ts',
  'packages/core/backends/cuda/src/parallel/sharded_weights.test.ts',
  'packages/core/backends/cuda/src/ops/fallback.test.ts',
  'packages/core/src/reference/register.test.ts',
  'packages/model/src/gpu_{alone,memory}.test.ts',
];

// One seed for the random inputs of all tests of a run.
process.env[SEED_VARIABLE] ||= String(chooseSeed());
console.info(`${SEED_VARIABLE}=${process.env[SEED_VARIABLE]} repeats this run's random inputs`);

const common = {
  resolve: {
    alias: Object.entries({ ...entries, 'fast-check': '../vitest.fast_check.ts' }).map(([name, path]) => ({
      find: new RegExp(`^${name}$`),
      replacement: source(path),
    })),
  },
  test: {
    pool: 'forks',
    // The kernels of tfjs's CPU backend make arrays by the million: a larger nursery takes an eighth off their tests.
    execArgv: ['--max-semi-space-size=64'],
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
} satisfies ViteUserConfig;

export default defineConfig({
  ...common,
  test: {
    ...common.test,
    globalSetup: fileURLToPath(new URL('./vitest.scratch.ts', import.meta.url)),
    sequence: { sequencer: LongestFirst },
    projects: [
      { ...common, test: { ...common.test, name: 'alone', include: alone } },
      {
        ...common,
        test: {
          ...common.test,
          name: 'together',
          include: tests,
          exclude: alone,
          isolate: false,
          setupFiles: [fileURLToPath(new URL('./vitest.restore.ts', import.meta.url))],
        },
      },
    ],
  },
});
