// Makes a release, in two steps (docs/releasing.md):
//   npm run release -- prepare 0.2.0 [--repository https://github.com/OWNER/NAME]
//   npm run release -- publish [--dry-run]
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { dependenciesFirst, faultsOf, manifestsOf, prepare, tarballOf } from './release/packages.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { repository: { type: 'string' }, 'dry-run': { type: 'boolean', default: false } },
});
const [step, version] = positionals;

function fail(line) {
  console.error(line);
  process.exit(1);
}

function run(command, args, stdio = 'inherit') {
  return spawnSync(command, args, { cwd: root, stdio, encoding: 'utf8', shell: process.platform === 'win32' });
}

function publish(dryRun) {
  const manifests = manifestsOf(root);
  const { version } = manifests[0];
  // npm signs where a tarball was built, and who vouches for that is the host of the build.
  const canProve =
    process.env.ACTIONS_ID_TOKEN_REQUEST_URL !== undefined || process.env.SIGSTORE_ID_TOKEN !== undefined;
  const faults = faultsOf(root);
  if (run('git', ['status', '--porcelain'], 'pipe').stdout.trim() !== '')
    faults.push('there are changes without a commit');
  if (!canProve)
    faults.push('nothing here can vouch for where it is built; publish from the workflow of docs/releasing.md');
  if (faults.length > 0) {
    const list = faults.map((fault) => `  ${fault}`).join('\n');
    if (!dryRun) fail(`${version} cannot be published:\n${list}`);
    console.log(`${version} could not be published yet:\n${list}`);
  }
  const out = mkdtempSync(join(tmpdir(), 'stickbreaking-release-'));
  try {
    if (run('node', ['scripts/pack.mjs', '--out', out]).status !== 0) process.exit(1);
    for (const { name } of dependenciesFirst(manifests)) {
      const isThere = run('npm', ['view', `${name}@${version}`, 'version'], 'pipe').stdout.trim() === version;
      console.log(`\n${name} ${version}${isThere ? ': published before' : ''}`);
      if (isThere) continue; // an earlier attempt came this far
      const tag = version.includes('-') ? 'next' : 'latest';
      const args = [join(out, tarballOf(name, version)), '--access=public', `--tag=${tag}`, '--loglevel=error'];
      if (canProve) args.push('--provenance');
      if (dryRun) args.push('--dry-run');
      if (run('npm', ['publish', ...args]).status !== 0)
        fail(`${name} was not published; the same command goes on from here.`);
    }
  } finally {
    rmSync(out, { recursive: true });
  }
}

if (step === 'prepare' && version !== undefined) {
  try {
    prepare(root, version, { repository: values.repository, date: new Date().toISOString().slice(0, 10) });
  } catch (error) {
    fail(error.message);
  }
  const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const lock = ['--yes', packageManager, 'install', '--lockfile-only', '--prefer-offline', '--reporter=silent'];
  if (run('npx', lock).status !== 0) fail('pnpm-lock.yaml could not be brought up to date.');
  console.log(`Versions and CHANGELOG.md say ${version}. Next: npm test, then commit, tag v${version}, push the tag.`);
} else if (step === 'publish') publish(values['dry-run']);
else fail("Name a step: 'prepare VERSION [--repository URL]' or 'publish [--dry-run]'.");
