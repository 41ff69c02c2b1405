/**
 * What `npm run pack` makes is installed by npm in an empty folder and used there as its users would. Slow tests of one
 * build: they are skipped where no registry answers, for the packages of others that ours depend on.
 */
import { execFile, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { VERSION } from '@stickbreaking/base';
import { globSync } from 'tinyglobby';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { manifestsOf, tarballOf } from './release/packages.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const manifests = manifestsOf(root);
const commands = [...new Set(manifests.flatMap(({ bin = {} }) => Object.keys(bin)))].sort();
const types = `@types/node@${JSON.parse(read('node_modules/@types/node/package.json')).version}`;

const shell = process.platform === 'win32'; // finds npm.cmd
const asked = ['view', types, 'version', '--fetch-retries=0', '--fetch-timeout=10000', '--prefer-online'];
const answers = spawnSync('npm', asked, { shell }).status === 0;
if (!answers) console.warn('No npm registry answers: the tests of the packed packages are skipped.');

const temporary = join(tmpdir(), `stickbreaking-pack-${process.pid}`);
const app = join(temporary, 'app');
const installed = (name: string, ...path: string[]) => join(app, 'node_modules', name, ...path);

/** As at a prompt in the folder where the packages are installed. */
async function run(command: string, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const file = join(app, 'node_modules/.bin', command);
  try {
    return { code: 0, ...(await promisify(execFile)(file, args, { cwd: app, shell, maxBuffer: 2 ** 26 })) };
  } catch (error) {
    return error as { code: number; stdout: string; stderr: string };
  }
}

const node = (code: string) =>
  promisify(execFile)(process.execPath, ['--input-type=module', '--eval', code], { cwd: app });

describe.skipIf(!answers)('the packed packages', () => {
  beforeAll(() => {
    mkdirSync(app, { recursive: true });
    writeFileSync(join(app, 'package.json'), '{ "private": true, "type": "module" }\n');
    const out = join(temporary, 'tarballs');
    const steps: [string, ...string[]][] = [[process.execPath, join(root, 'scripts/pack.mjs'), '--out', out]];
    const quick = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
    steps.push([
      'npm',
      'install',
      ...quick,
      types,
      ...manifests.map(({ name }) => join(out, tarballOf(name, VERSION))),
    ]);
    for (const [command, ...args] of steps) {
      const { status, stdout, stderr } = spawnSync(command, args, { cwd: app, shell, encoding: 'utf8' });
      expect(status, `${command} ${args.join(' ')}\n${stdout}${stderr}`).toBe(0);
    }
  }, 300_000);
  afterAll(() => rmSync(temporary, { recursive: true }));

  it.each(manifests.map((manifest) => [manifest.name, manifest] as const))('%s has what it names', (name, manifest) => {
    const folder = installed(name);
    const packed = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    expect(packed.version).toBe(VERSION);
    expect(JSON.stringify(packed)).not.toContain('workspace:');
    const own = pathsIn([packed.exports, packed.imports ?? {}, packed.bin ?? {}]).filter((path) =>
      path.startsWith('./'),
    );
    for (const path of [...own, 'LICENSE', 'README.md']) expect(existsSync(join(folder, path)), path).toBe(true);
    const files = globSync('**', { cwd: folder, dot: true, ignore: 'node_modules/**' });
    expect(files.filter((file) => /\.(test|fixture)\.|tsbuildinfo|^node_modules/.test(file))).toEqual([]);
    expect(manifest.files).toContain('src');
    for (const file of files.filter((one) => one.endsWith('.map'))) {
      const { sources } = JSON.parse(readFileSync(join(folder, file), 'utf8'));
      for (const source of sources)
        expect(existsSync(join(folder, dirname(file), source)), `${file}: ${source}`).toBe(true);
    }
  });

  it('have the kernels, run files, study files and Python code of the clone', () => {
    const within = (folder: string, pattern: string) =>
      globSync(pattern, { cwd: folder })
        .sort()
        .map((file) => [file, readFileSync(join(folder, file), 'utf8')]);
    for (const [name, ours, pattern] of [
      ['@stickbreaking/core', 'packages/core', 'backends/*/kernels/*'],
      ['@stickbreaking/model', 'packages/model', 'python/*.py'],
      ['@stickbreaking/train', '.', 'configs/*.yaml'],
      ['@stickbreaking/study', '.', 'configs/studies/*.yaml'],
    ] as const) {
      const expected = within(join(root, ours), pattern);
      expect(expected.length).toBeGreaterThan(name === '@stickbreaking/model' ? 0 : 5);
      expect(within(installed(name), pattern)).toEqual(expected);
    }
  });

  it('can be imported, every entry', async () => {
    const entries = manifests.flatMap(({ name, exports }) =>
      Object.keys(exports)
        .filter((subpath) => subpath !== './package.json')
        .map((subpath) => name + subpath.slice(1)),
    );
    const { stdout } = await node(
      `for (const entry of ${JSON.stringify(entries)}) console.log(Object.keys(await import(entry)).length > 0)`,
    );
    expect(stdout.trim().split('\n')).toEqual(entries.map(() => 'true'));
  });

  it.concurrent.each(commands)('%s says its version and its options', async (command) => {
    if (!shell) accessSync(join(app, 'node_modules/.bin', command), constants.X_OK);
    const [version, help] = await Promise.all([run(command, '--version'), run(command, '--help')]);
    expect(version).toMatchObject({ code: 0, stdout: `${VERSION}\n` });
    expect(help.code).toBe(0);
    expect(help.stdout).toContain(command);
  });

  it('find run files and study files by name', async () => {
    const plan = await run('sb-train', '--config', '350m', '--plan', '--json', '--backend', 'cpu');
    expect(JSON.parse(plan.stdout).parameters).toBe(367_526_912);
    const study = await run('sb-study', '--config', 'length-extrapolation-small', '--plan');
    expect(study.stdout).toMatch(/stick-breaking.*to be run/);
  });

  it('bring the quickstart, with its text', async () => {
    await node(`
      import { readFileSync, writeFileSync } from 'node:fs';
      import { defaultText } from '@stickbreaking/study';
      for (const file of Object.values(await defaultText('quickstart/data')))
        writeFileSync(file, readFileSync(file, 'utf8').split('\\n').slice(0, 4).join('\\n') + '\\n');`);
    const small = [
      'vocabSize=300',
      'hiddenSize=16',
      'intermediateSize=32',
      'numLayers=1',
      'numHeads=2',
      'contextLength=16',
    ];
    const short = ['batchTokens=64', 'microBatchTokens=64', 'stages.0.steps=8', 'stages.1.steps=2'];
    const rest = ['stages.0.schedule.warmupSteps=2', 'validation.tokens=64'];
    const overrides = [...small.map((one) => `model.${one}`), ...short, ...rest];
    const { code, stdout, stderr } = await run('stickbreaking', 'quickstart', ...overrides, '--json');
    expect(code, stdout + stderr).toBe(0);
    const report = readFileSync(join(app, 'quickstart/report.html'), 'utf8');
    expect(report).toContain('1 layers of 16');
    expect(stderr).toMatch(/stick-breaking: perplexity (falls|rises) by \d+ % from 16 tokens/);
    const { report: path, models } = JSON.parse(stdout);
    expect(path).toBe('quickstart/report.html');
    expect(models).toMatchObject([{ name: 'stick-breaking', results: [{ length: 16 }, {}, {}, {}, {}] }, {}]);
  });

  it('let the examples of every README pass tsc --strict', () => {
    const readmes = ['README.md', ...globSync('packages/*/README.md', { cwd: root }).sort()];
    const examples = readmes.flatMap((readme) =>
      [...read(readme).matchAll(/```[jt]s\n([\s\S]*?)```/g)].map(([, code], i) => {
        const name = `${readme.replace(/\W/g, '-')}-${i + 1}.ts`;
        writeFileSync(join(app, name), code!);
        return name;
      }),
    );
    expect(examples.length).toBeGreaterThan(8);
    const options = ['--ignoreConfig', '--noEmit', '--strict', '--target', 'es2023', '--module', 'nodenext'];
    const args = [join(root, 'node_modules/typescript/bin/tsc'), ...options, '--types', 'node', ...examples];
    const { stdout } = spawnSync(process.execPath, args, { cwd: app, encoding: 'utf8', maxBuffer: 2 ** 26 });
    // What tfjs-core 4.22 declares of WebGPU clashes with the lib.dom of TypeScript 7; nothing else is amiss.
    const errors = stdout.split('\n').filter((line) => /: error TS/.test(line));
    expect(errors.filter((line) => !/^[^(]*(@webgpu.types.dist.index|lib\.dom)\.d\.ts\(/.test(line))).toEqual([]);
  });
});

/** Every string in it. */
function pathsIn(value: unknown): string[] {
  return typeof value === 'string' ? [value] : Object.values(value as object).flatMap(pathsIn);
}
