// `npm run bench -- golden`: trains each golden run (golden/runs.mjs) on a backend and holds its losses to recorded ones, to show
// that a change which should alter no number alters none. A check, not a timing.
// Options: --backend native|cpu|cuda --out FILE (write this run's losses) --against FILE (default: the recorded ones of the
// backend, or of `native`) --exact (exit code 1 unless every number is the same to the bit)
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    backend: { type: 'string', default: 'native' },
    out: { type: 'string' },
    against: { type: 'string' },
    exact: { type: 'boolean', default: false },
  },
});
// A matmul library's numbers are its own affair; the backend's own are the project's.
process.env.STICKBREAKING_BLAS ??= 'own';
const { selectBackend } = await import('@stickbreaking/core');
const { compare, goldenRun, models, nativeFingerprint } = await import('./golden/runs.mjs');

const { description } = await selectBackend(values.backend);
console.log(description);
const runs = {};
for (const name of Object.keys(models)) runs[name] = await goldenRun(name);

const folder = join(dirname(fileURLToPath(import.meta.url)), 'golden');
const recorded = [values.backend, 'native'].map((name) => join(folder, `${name}.json`));
const against = values.against ?? recorded.find((file) => existsSync(file));
let allExact = true;
if (against !== undefined) {
  const other = JSON.parse(readFileSync(against, 'utf8'));
  console.log(`against ${against}, of ${other.description}`);
  for (const [name, run] of Object.entries(runs)) {
    if (!other.runs[name]) {
      console.log(`${name.padEnd(44)} not recorded`);
      continue;
    }
    const { exact, losses, gradientNorms } = compare(run, other.runs[name]);
    allExact &&= exact;
    const apart = `losses within ${losses.toExponential(1)}, gradient norms within ${gradientNorms.toExponential(1)}`;
    console.log(`${name.padEnd(44)} ${exact ? 'the same to the bit' : apart}`);
  }
}
if (values.out !== undefined) {
  const fingerprint = values.backend === 'native' ? nativeFingerprint() : description;
  const lines = Object.entries(runs).map(([name, run]) => `${JSON.stringify(name)}: ${JSON.stringify(run)}`);
  const head = `{"backend":${JSON.stringify(values.backend)},"description":${JSON.stringify(description)},"fingerprint":${JSON.stringify(fingerprint)}`;
  writeFileSync(values.out, `${head},"runs":{\n${lines.join(',\n')}\n}}\n`);
  console.log(`written to ${values.out}`);
}
process.exitCode = values.exact && !allExact ? 1 : 0;
