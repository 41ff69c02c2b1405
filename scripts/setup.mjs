// Installs the workspace's dependencies and builds every package. Needs Node and npm; brings its own pnpm.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`stickbreaking needs Node 20.19 or newer, and this is ${process.versions.node}. Install a newer Node.`);
  process.exit(1);
}

const { packageManager } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));

function run(command, args) {
  // A shell finds npx.cmd on Windows; the arguments are ours and hold no shell characters.
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (error) console.error(`${command} could not be started: ${error.message}`);
  if (status !== 0) {
    console.error(`set-up stopped: '${command} ${args.join(' ')}' failed; its message is above.`);
    process.exit(status ?? 1);
  }
}

// A node_modules that another store's pnpm made is made anew; without a terminal pnpm could not ask whether it may.
const settings = ['--config.confirmModulesPurge=false', '--prefer-offline', '--reporter=append-only'];
run('npx', ['--yes', packageManager, 'install', '--frozen-lockfile', ...settings]);
run('npx', ['--no-install', 'tsc', '-b']);
run(process.execPath, ['scripts/page/build.mjs', 'board', 'web']);
