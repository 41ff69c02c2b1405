/** How the packages may lean on each other, read from their sources: CONTRIBUTING.md, "House rules, Imports". */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { globSync } from 'tinyglobby';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const find = (pattern: string) => globSync(pattern, { cwd: root, ignore: '**/{node_modules,dist}/**' }).sort();

/** The packages that each one may import. */
const mayImport: Record<string, readonly string[]> = {
  base: [],
  core: ['base'],
  data: ['base'],
  model: ['base', 'core'],
  train: ['base', 'core', 'data', 'model'],
  eval: ['base', 'core', 'data', 'model'],
  serve: ['base', 'core', 'data', 'model', 'eval'],
  study: ['base', 'core', 'data', 'model', 'train', 'eval'],
  board: ['base', 'train'],
  web: ['base', 'core', 'data', 'model'],
  stickbreaking: ['base', 'core', 'data', 'model', 'train', 'eval', 'serve', 'study', 'board', 'web'],
};

/** What the command of a package may load on top of that, when it is asked to: an optional peer dependency. */
const commandMayLoad: Record<string, readonly string[]> = { train: ['eval'], board: ['eval', 'web'] };

const packages = find('packages/*/package.json').map((path) => {
  const manifest = JSON.parse(read(path));
  const entries = Object.keys(manifest.exports).map((subpath) => manifest.name + subpath.slice(1));
  return { folder: dirname(path), name: dirname(path).split('/')[1]!, entries, manifest };
});

interface Import {
  file: string;
  specifier: string;
  /** Loaded with the file: neither a type nor an `import()`. */
  atOnce: boolean;
}

const statement = /^(?:import|export)\b(?:([^;'`=]*?)\bfrom)?\s*'([^']+)'|\bimport\('([^'$]+)'/gm;

const packageOf = (file: string) => /^packages\/([^/]+)\//.exec(file)?.[1];

/** A name that begins with # stands for what the package's manifest says it does. */
const standsFor = (file: string, specifier: string): string =>
  specifier.startsWith('#')
    ? JSON.parse(read(`packages/${packageOf(file)}/package.json`)).imports[specifier].default
    : specifier;

function importsOf(file: string): Import[] {
  const code = read(file).replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
  return [...code.matchAll(statement)].map(([, names = '', specifier, later]) => {
    return {
      file,
      specifier: standsFor(file, (specifier ?? later)!),
      atOnce: later === undefined && !/^\s+type\b/.test(names),
    };
  });
}

const files = find('{packages,scripts}/**/*.{ts,tsx,mjs,js}');
const imports = files.flatMap(importsOf);
const isTest = (file: string) => /\.(test|fixture)\.ts$/.test(file);
const isOurs = (specifier: string) => specifier.startsWith('@stickbreaking/');
const isRelative = (specifier: string) => specifier.startsWith('.');
const target = ({ file, specifier }: Import) => normalize(join(dirname(file), specifier));
const told = (list: readonly Import[]) => list.map(({ file, specifier }) => `${file}: ${specifier}`);

/** A part of the code that only its index speaks for: one backend, one package, or the scripts and what the root sets. */
const roomOf = (file: string) =>
  /^packages\/core\/backends\/[^/]+/.exec(file)?.[0] ?? /^packages\/[^/]+/.exec(file)?.[0] ?? 'scripts';

it('reads imports', () => {
  expect(imports.length).toBeGreaterThan(500);
  const here = importsOf('scripts/architecture.test.ts').map(({ specifier }) => specifier);
  expect(here).toEqual(['node:fs', 'node:path', 'node:url', 'tinyglobby', 'vitest']);
});

describe('imports between packages', () => {
  it('never run upwards', () => {
    const upwards = imports.filter(({ file, specifier, atOnce }) => {
      const from = packageOf(file);
      if (from === undefined || !isOurs(specifier)) return false;
      const to = specifier.split('/')[1]!;
      const isAsked = file.startsWith(`packages/${from}/bin/`) && !atOnce && commandMayLoad[from]?.includes(to);
      return to !== from && !mayImport[from]?.includes(to) && !isAsked;
    });
    expect(told(upwards)).toEqual([]);
    expect(packages.map(({ name }) => name)).toEqual(Object.keys(mayImport).sort());
  });

  it('name an entry of the package', () => {
    const entries = new Set(packages.flatMap((one) => one.entries));
    expect(told(imports.filter(({ specifier }) => isOurs(specifier) && !entries.has(specifier)))).toEqual([]);
  });

  it('never reach by a path into another package, a backend, or what was built', () => {
    const reaching = imports.filter((one) => {
      if (!isRelative(one.specifier)) return one.specifier.includes('/dist/') && isOurs(one.specifier);
      const path = target(one);
      if (/^packages\/[^/]+\/bin\//.test(one.file)) return !path.startsWith(`packages/${packageOf(one.file)}/dist/`);
      const isToolOfTests = isTest(one.file) && roomOf(path) === 'scripts';
      return (roomOf(path) !== roomOf(one.file) && !isToolOfTests) || path.split('/').includes('dist');
    });
    expect(told(reaching)).toEqual([]);
  });

  it('of core load no backend, and a backend loads no other', () => {
    const loading = imports.filter(({ file, specifier, atOnce }) => {
      if (packageOf(file) !== 'core' || isTest(file) || !atOnce) return false;
      const isBackend = file.startsWith('packages/core/backends/');
      return specifier.startsWith('@stickbreaking/core') && (!isBackend || /\/(native|cuda)$/.test(specifier));
    });
    expect(told(loading)).toEqual([]);
  });
});

it.each([
  ['core', 'index'],
  ['base', 'index'],
  ['model', 'browser'],
  ['data', 'browser'],
])('what %s has for browsers (%s) loads neither a module of Node nor a native part', (name, entry) => {
  const seen = new Set<string>();
  const loaded = new Set<string>();
  const walk = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const one of importsOf(file).filter(({ atOnce }) => atOnce)) {
      if (isRelative(one.specifier)) walk(target(one).replace(/\.js$/, '.ts'));
      else if (/^@stickbreaking\/(base|core)$/.test(one.specifier))
        walk(`packages/${one.specifier.split('/')[1]}/src/index.ts`);
      else loaded.add(one.specifier);
    }
  };
  walk(`packages/${name}/src/${entry}.ts`);
  const forBrowsers = ['zod', '@huggingface/tokenizers'];
  const others = [...loaded].filter((specifier) => !forBrowsers.includes(specifier));
  expect(others.filter((specifier) => !specifier.startsWith('@tensorflow/tfjs'))).toEqual([]);
});

describe('paths, which Windows writes with backslashes and drives', () => {
  /** What is no path of the file system: of repositories, addresses, names of data sets, seeds, or of Linux alone. */
  const noPaths = [
    'packages/base/src/node/hub/address.ts',
    'packages/base/src/node/hub/cache.ts',
    'packages/base/src/node/hub/repository.ts',
    'packages/base/src/random.ts',
    'packages/core/backends/native/src/blas.ts',
    'packages/data/src/hub_files.ts',
    'packages/eval/src/runner/data_sets.ts',
  ];
  const sources = files.filter((file) => /^packages\/[^/]+\/(src|page|bin|backends)\//.test(file) && !isTest(file));

  it.each([
    ['are not taken apart at slashes alone', /\.(split|lastIndexOf|replace|replaceAll)\('\/'/],
    ['do not come from an address without being decoded', /import\.meta\.url\)\.pathname/],
    ['are no addresses of modules', /import\((join|resolve|file|path)\b/],
  ])('%s', (_, pattern) => {
    const found = sources.filter((file) => pattern.test(read(file)) && !noPaths.includes(file));
    expect(found).toEqual([]);
  });
});

describe.each(packages.map((one) => [one.folder, one] as const))('%s', (folder, { name, manifest }) => {
  const dependencies = Object.keys(manifest.dependencies ?? {});
  const sources = files.filter((file) => file.startsWith(`${folder}/`) && !isTest(file));

  it('declares what it imports, and nothing else', () => {
    const packageName = (specifier: string) => /^(?:@[^/]+\/)?[^/]+/.exec(specifier)![0];
    const used = sources
      .flatMap(importsOf)
      .map(({ specifier }) => specifier)
      .filter((specifier) => !isRelative(specifier) && !specifier.startsWith('node:'))
      .map(packageName)
      .filter((one) => one !== manifest.name);
    // What a package builds into a page of its own, nobody has to install with it.
    const builtIn = existsSync(join(root, folder, 'page')) ? Object.keys(manifest.devDependencies) : [];
    const optional = [...Object.keys(manifest.peerDependencies ?? {}), ...builtIn];
    expect([...new Set(used)].filter((one) => !dependencies.includes(one) && !optional.includes(one))).toEqual([]);
    // One that is loaded only when it is needed is named all the same.
    const code = sources.map(read).join('\n');
    const isNeeded = (one: string) => {
      if (one.startsWith('@types/')) {
        const name = one.slice('@types/'.length);
        return dependencies.includes(name) || code.includes(`<reference types="${name}"`);
      }
      return used.includes(one) || code.includes(`'${one}'`) || code.includes(`'${one}/`);
    };
    expect(dependencies.filter((one) => !isNeeded(one))).toEqual([]);
  });

  it('is built after the packages that it imports', () => {
    const { references } = JSON.parse(read(`${folder}/tsconfig.json`));
    const built: string[] = references.map(({ path }: { path: string }) => path.replace('../', ''));
    const ours = dependencies.filter(isOurs).map((one) => one.split('/')[1]!);
    // A backend of core's that is loaded when chosen is a project of its own.
    const backends = built.filter((path) => path.startsWith('core/backends/'));
    expect(built.filter((path) => !backends.includes(path)).sort()).toEqual(ours.sort());
    const code = sources.map(read).join('\n');
    for (const path of backends) expect(code).toContain(`'@stickbreaking/core/${path.split('/')[2]}'`);
    expect(read('tsconfig.json')).toContain(`"packages/${name}"`);
  });

  it('has a licence and a README', () => {
    for (const file of ['LICENSE', 'README.md']) expect(existsSync(join(root, folder, file)), file).toBe(true);
  });
});

it('no room has more than 35 % of the lines', () => {
  const lines = new Map<string, number>();
  for (const file of find('packages/**/*.{ts,cpp,h,cu,cuh}'))
    lines.set(roomOf(file), (lines.get(roomOf(file)) ?? 0) + read(file).split('\n').length);
  const total = [...lines.values()].reduce((sum, one) => sum + one, 0);
  const shares = [...lines].map(([room, count]) => [room, count / total] as const);
  expect(shares.length).toBe(packages.length + 2);
  for (const [room, share] of shares) expect(share, room).toBeLessThanOrEqual(0.35);
});
