// `npm run mutate`: changes the code of model and train in small ways, one at a time, and lists the changes that no test
// notices. Takes hours, so no part of `npm test`; results of code and tests that stayed the same are taken over from the
// last run. One file, and held to its own tests alone, which takes a minute or two:
//   MUTATE_TESTS=packages/train/src/stage.test.ts npm run mutate -- --mutate packages/train/src/stage.ts
export default {
  testRunner: 'vitest',
  vitest: { configFile: 'scripts/mutate/vitest.config.ts', related: true },
  plugins: ['@stryker-mutator/vitest-runner'],
  mutate: [
    'packages/{model,train}/src/**/*.ts',
    '!**/*.test.ts',
    // Lists of exports, types, and what only the tests of the commands reach, which run the build.
    '!packages/*/src/index.ts',
    // Goes to a thread as text, without what mutants need.
    '!packages/model/src/sum.ts',
    '!packages/train/src/{cli,watch,progress,plan_text,run,parallel/{launch,watchdog}}.ts',
  ],
  // Messages for people are not held to the letter.
  mutator: { excludedMutations: ['StringLiteral'] },
  ignoreStatic: true,
  concurrency: 1,
  incremental: true,
  incrementalFile: '.stryker/incremental.json',
  tempDirName: '.stryker/sandbox',
  reporters: ['clear-text', 'progress-append-only', 'html', 'json'],
  htmlReporter: { fileName: '.stryker/report.html' },
  jsonReporter: { fileName: '.stryker/report.json' },
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
  ignorePatterns: ['/docs', '/runs', '/data', '/quickstart', '/coverage'],
  allowConsoleColors: false,
  // Stryker rewrites tsconfig.json by TypeScript's API of before version 7; nothing here is compiled.
  tsconfigFile: 'none',
};
