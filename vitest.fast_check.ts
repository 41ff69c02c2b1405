/**
 * fast-check as the tests import it: properties draw from the seed of the whole run (`STICKBREAKING_SEED`), and one that
 * fails says how to run it again. What follows a slash in the variable is fast-check's path to the failing example.
 */
import { relative } from 'node:path';
import { expect } from 'vitest';
// By its file: under its name stands this one (vitest.config.ts).
import fc, { type RunDetails } from './node_modules/fast-check/lib/fast-check.js';
import { chooseSeed, SEED_VARIABLE } from './packages/base/src/index.js';

const path = process.env[SEED_VARIABLE]?.split('/')[1];

function report<Ts>(details: RunDetails<Ts>): void {
  if (!details.failed) return;
  const { testPath = '', currentTestName = '' } = expect.getState();
  const name = currentTestName.replaceAll(' > ', ' ').replace(/[^\p{L}\p{N} ,:]/gu, '.'); // -t takes an expression
  const example = `${details.seed}/${details.counterexamplePath}`;
  const again = `${SEED_VARIABLE}=${example} npx vitest run ${relative('', testPath)} -t '${name}'`;
  throw new Error(`${fc.defaultReportMessage(details)}\n\nThis example again: ${again}`, {
    cause: details.errorInstance,
  });
}

fc.configureGlobal({ seed: chooseSeed(), ...(path ? { path, endOnFailure: true } : {}), reporter: report });

export * from './node_modules/fast-check/lib/fast-check.js';
export default fc;
