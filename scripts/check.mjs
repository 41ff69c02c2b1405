// Everything that must hold before a change lands: types, lint and format, tests, docstrings. Run by `npm test`.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const npx = (...args) => ['npx', '--no-install', ...args];
const steps = [
  ['types', npx('tsc', '-p', 'tsconfig.tests.json')],
  ['lint and format', npx('biome', 'ci', '.')],
  ['tests', npx('vitest', 'run', ...process.argv.slice(2))],
];
// Not where some tests were named.
if (process.argv.length === 2) {
  steps.push(
    ['docstrings', ['npm', 'run', 'docs:api', '--', '--emit', 'none']],
    ['mutated inputs', ['node', 'scripts/fuzz.mjs', '--seed', '1', '--count', '2000']],
    ['kills', ['node', 'scripts/torture.mjs', '--seed', '1', '--count', '20']],
  );
}
for (const [name, [command, ...args]] of steps) {
  const start = Date.now();
  console.log(`\n▸ ${name}: ${[command, ...args].join(' ')}`);
  const { status } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (status !== 0) {
    console.error(`✗ ${name} failed`);
    process.exit(status ?? 1);
  }
  console.log(`✓ ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
}
