// Conformance cases on the native backend of whatever machine this runs on, as JSON: the test of ARM runs it emulated.
// node scripts/arm/conformance.mjs [--only PATTERN]
import { parseArgs } from 'node:util';
import { selectBackend } from '@stickbreaking/core';
import { float32Tolerances, runConformance } from '@stickbreaking/core/conformance';

const { values } = parseArgs({ options: { only: { type: 'string', default: '' } } });
const { description } = await selectBackend('native');
const only = ({ name }) => new RegExp(values.only).test(name);
const begin = performance.now();
const results = await runConformance('native', float32Tolerances, { only });
const failures = results.flatMap((one) => one.failures.map((failure) => `${one.name}: ${failure}`));
const seconds = (performance.now() - begin) / 1000;
process.stdout.write(
  `${JSON.stringify({ arch: process.arch, description, cases: results.length, failures, seconds })}\n`,
);
