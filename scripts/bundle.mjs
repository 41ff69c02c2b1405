// Makes one folder that trains on a host with no network: the programs (bundled by esbuild), this machine's Node binary,
// koffi's native part, the GPU kernels' and CPU kernels' sources and the run files. `--archive` packs it as .tar.xz.
// Usage: node scripts/bundle.mjs [--out bundle] [--no-node] [--archive] [extra-entry.mjs …]
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { defaultText } from '@stickbreaking/study';
import { build } from 'esbuild';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { out: { type: 'string', default: 'bundle' }, 'no-node': { type: 'boolean' }, archive: { type: 'boolean' } },
});
const out = resolve(values.out);
rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, 'program'), { recursive: true });

// Commands: those of the package that brings them all, and what was asked for besides.
const folder = join(root, 'packages/stickbreaking/bin');
const commands = readdirSync(folder).map((file) => join(folder, file));
const entries = [...commands, ...positionals.map((path) => resolve(path))];

function git(args) {
  try {
    return execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}

/** Packages with a native part stay packages: they travel whole. */
const native = ['koffi', 'tokenizers'];
await build({
  entryPoints: Object.fromEntries(entries.map((path) => [basename(path).replace(/\.m?js$/, ''), path])),
  outdir: join(out, 'program'),
  outExtension: { '.js': '.mjs' },
  bundle: true,
  ignoreAnnotations: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  external: [...native, '@tensorflow/tfjs-node', '@tensorflow/tfjs-node-gpu'],
  banner: {
    js: "import { createRequire as _createRequire } from 'node:module'; const require = _createRequire(import.meta.url);",
  },
  logLevel: 'warning',
});

/** Copies an installed package and what it depends on into the bundle's node_modules. */
function copyPackage(name, from) {
  const require = createRequire(join(from, 'package.json'));
  let folder;
  for (const path of require.resolve.paths(name) ?? [])
    if (existsSync(join(path, name, 'package.json'))) {
      folder = join(path, name);
      break;
    }
  const target = join(out, 'node_modules', name);
  if (!folder || existsSync(target)) return;
  const skip = /\/(musl_\w+|doc|lib|vendor|node_modules)(\/|$)/;
  const foreign = (path) => /\.\w+-[\w-]+\.node$/.test(path) && !path.includes(`.${process.platform}-${process.arch}`);
  cpSync(folder, target, {
    recursive: true,
    dereference: true,
    filter: (path) => !skip.test(path.slice(folder.length)) && !foreign(path),
  });
  const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
    readFileSync(join(folder, 'package.json'), 'utf8'),
  );
  const real = execFileSync('realpath', [folder], { encoding: 'utf8' }).trim();
  for (const dependency of Object.keys({ ...dependencies, ...optionalDependencies })) copyPackage(dependency, real);
}
for (const name of native)
  for (const owner of readdirSync(join(root, 'packages'))) copyPackage(name, join(root, 'packages', owner));

for (const backend of ['cuda', 'native']) {
  const kernels = join('backends', backend, 'kernels');
  cpSync(join(root, 'packages/core', kernels), join(out, kernels), { recursive: true });
}
cpSync(join(root, 'packages/model/python'), join(out, 'python'), { recursive: true });
execFileSync(process.execPath, [join(root, 'scripts/page/build.mjs'), 'board', 'web']);
for (const page of ['board/dist/page.html', 'web/dist/model.html'])
  cpSync(join(root, 'packages', page), join(out, 'dist', basename(page)));
if (existsSync(join(root, 'configs'))) cpSync(join(root, 'configs'), join(out, 'configs'), { recursive: true });
// The text that studies use by default.
await defaultText(join(out, 'text'));
// What a report says it was made by, where there is no git to ask.
writeFileSync(join(out, 'commit'), `${git(['describe', '--always', '--dirty', '--abbrev=12'])}\n`);
mkdirSync(join(out, 'bin'));
if (!values['no-node']) cpSync(process.execPath, join(out, 'bin', 'node'), { dereference: true });
for (const path of entries) {
  const name = basename(path).replace(/\.m?js$/, '');
  const script = `#!/bin/sh\nhere=$(cd "$(dirname "$0")/.." && pwd)\n[ -x "$here/bin/node" ] && node="$here/bin/node" || node=node\nexec "$node" "$here/program/${name}.mjs" "$@"\n`;
  writeFileSync(join(out, 'bin', name), script);
  chmodSync(join(out, 'bin', name), 0o755);
}
if (values.archive)
  execFileSync('tar', ['-C', dirname(out), '-cJf', `${out}.tar.xz`, basename(out)], {
    env: { ...process.env, XZ_OPT: '-T0 -6' },
  });
process.stdout.write(`${out}${values.archive ? ` and ${out}.tar.xz` : ''}: ${entries.length} commands\n`);
