// `npm run mutate:sample -- [--share 0.2] [--seed 1] [--concurrency 2] [--prepare]`: the mutation score of model and train
// from a random part of their lines, in minutes where all of them take hours. It works on a copy of the tree under
// .stryker/sample; --prepare stops when the copy is made, so that it can be run elsewhere.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { seededRandom } from '@stickbreaking/base';

const { values } = parseArgs({
  options: {
    share: { type: 'string', default: '0.2' },
    seed: { type: 'string', default: '1' },
    concurrency: { type: 'string', default: '2' },
    prepare: { type: 'boolean', default: false },
  },
});
const share = Number(values.share);
if (!(share > 0 && share <= 1)) {
  console.error(`--share ${values.share}: expected a number above 0 and up to 1`);
  process.exit(2);
}

const copy = join('.stryker', 'sample');
copyTree(copy);
for (const [name, path] of sources(copy)) writeFileSync(path, leaveOut(readFileSync(path, 'utf8'), name));
if (!values.prepare) {
  const stryker = join(process.cwd(), 'node_modules/@stryker-mutator/core/bin/stryker.js');
  const { status } = spawnSync(
    process.execPath,
    [stryker, 'run', 'scripts/mutate/stryker.config.mjs', '--inPlace', '--concurrency', values.concurrency],
    { cwd: copy, stdio: 'inherit' },
  );
  process.exit(status ?? 1);
}

/** What tests of model and train read; the packages' own links to each other lead into the copy. */
function copyTree(to) {
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to, { recursive: true });
  const files = readdirSync('.').filter((name) => /\.(json|ts|yaml)$/.test(name));
  const skipped = /(^|\/)(dist|docs\/api|\.gpu[^/]*)(\/|$)|\.tsbuildinfo$/;
  for (const name of ['packages', 'configs', 'scripts', 'benchmarks', ...files]) {
    cpSync(name, join(to, name), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => !skipped.test(path) || path.includes('node_modules'),
    });
  }
  symlinkSync('../../node_modules', join(to, 'node_modules'));
}

/** The sources of model and train: their names and where they lie. */
function sources(root) {
  return ['model', 'train'].flatMap((name) =>
    readdirSync(join(root, 'packages', name, 'src'), { recursive: true })
      .filter((path) => path.endsWith('.ts') && !path.endsWith('.test.ts'))
      .sort()
      .map((path) => [`${name}/${path}`, join(root, 'packages', name, 'src', path)]),
  );
}

/** The text with Stryker told, above each line outside of the sample, to leave that line as it is. */
function leaveOut(text, name) {
  const random = seededRandom(Number(values.seed), name);
  let inside = false; // a template literal of several lines or a block comment, where a line comment would be text
  const lines = [];
  for (const line of text.split('\n')) {
    const kept = random.uniform() < share;
    if (!kept && !inside && /^\s*(?!\/\/)\S/.test(line)) lines.push('// Stryker disable next-line all');
    lines.push(line);
    const code = line.replace(/'(?:\\.|[^'\\])*'/g, "''").replace(/\/\/.*/, '');
    if ((code.match(/(?<!\\)`/g)?.length ?? 0) % 2 === 1) inside = !inside;
    if (/^\s*\/\*\*?/.test(code)) inside = true;
    if (/\*\//.test(code)) inside = false;
  }
  return lines.join('\n');
}
