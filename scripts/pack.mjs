// Packs every package as npm would get it, into tarballs that install together:
//   npm run pack -- [--out tarballs]        then, anywhere: npm install …/tarballs/*.tgz
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { globSync } from 'tinyglobby';

const root = fileURLToPath(new URL('..', import.meta.url));
const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const { values } = parseArgs({ options: { out: { type: 'string', default: 'tarballs' } } });
const out = resolve(values.out);

function run(command, args) {
  const { status, stdout } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    shell: process.platform === 'win32', // finds npx.cmd
  });
  if (status === 0) return;
  console.error(`${stdout}\nPacking stopped: '${command} ${args.join(' ')}' failed; its message is above.`);
  process.exit(status ?? 1);
}

/** The compiler leaves what it made of a source that is there no more. */
function removeOrphans() {
  const sources = new Set(globSync('packages/**/src/**/*.ts', { cwd: root, ignore: '**/node_modules/**' }));
  for (const file of globSync('packages/*/dist/**/*.{js,d.ts,map}', { cwd: root })) {
    const [, folder, path] = /^(packages\/[^/]+)\/dist\/(.*?)(?:\.d\.ts|\.js)(?:\.map)?$/.exec(file);
    const backend = path.replace(/^([^/]+)\//, `${folder}/backends/$1/src/`);
    if (!sources.has(`${folder}/src/${path}.ts`) && !sources.has(`${backend}.ts`)) rmSync(join(root, file));
  }
}

run('npx', ['--no-install', 'tsc', '-b']);
removeOrphans();
mkdirSync(out, { recursive: true });
for (const file of readdirSync(out)) if (/^stickbreaking.*\.tgz$/.test(file)) rmSync(join(out, file));
run('npx', ['--yes', packageManager, '--recursive', '--filter=./packages/*', 'pack', '--pack-destination', out]);
const made = readdirSync(out).filter((file) => file.endsWith('.tgz'));
const packages = readdirSync(join(root, 'packages')).filter((name) =>
  existsSync(join(root, 'packages', name, 'package.json')),
);
if (made.length < packages.length)
  throw new Error(`${packages.length} packages, but ${made.length} tarballs in ${out}`);
console.log(`${made.length} packages in ${values.out}; to install them: npm install ${join(values.out, '*.tgz')}`);
