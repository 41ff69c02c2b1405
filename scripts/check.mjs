// Everything that must hold before a change lands: types, lint and format, tests. Run by `npm test`.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const steps = [
  ['types', ['tsc', '-p', 'tsconfig.tests.json']],
  ['lint and format', ['biome', 'ci', '.']],
  ['tests', ['vitest', 'run', ...process.argv.slice(2)]],
];
for (const [name, args] of steps) {
  const start = Date.now();
  console.log(`\n▸ ${name}: ${args.join(' ')}`);
  const { status } = spawnSync('npx', ['--no-install', ...args], {
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
