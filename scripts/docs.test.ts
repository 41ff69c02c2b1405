/** What the documents name must exist: files, commands, scripts, packages, settings; and the figures of the speed table. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { globSync } from 'tinyglobby';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const find = (pattern: string) => globSync(pattern, { cwd: root, ignore: '**/node_modules/**' }).sort();

const documents = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  ...find('docs/*.md'),
  ...find('packages/*/README.md'),
];
const packages = find('packages/*/package.json').map((path) => JSON.parse(read(path)));
const scripts = Object.keys(JSON.parse(read('package.json')).scripts);
const commands = new Set(packages.flatMap(({ bin = {} }) => Object.keys(bin)));
const entries = new Set(
  packages.flatMap(({ name, exports }) => Object.keys(exports).map((subpath) => name + subpath.slice(1))),
);
const sources = find('{packages/*/{src,backends},scripts}/**/*.{ts,mjs,cpp,cu,cuh}').map(read).join('\n');

/** The parts in which names stand as code, without their back-ticks. */
const codeOf = (text: string) =>
  [...text.matchAll(/```[^\n]*\n([\s\S]*?)```|`([^`\n]+)`/g)].map(([, block, span]) => block ?? span ?? '');

const matchesOf = (text: string, pattern: RegExp) => [
  ...new Set([...text.matchAll(pattern)].map((match) => match[1]!)),
];

/** What commands write and git ignores, such as docs/api/. */
const generated = read('.gitignore').split('\n');

/** Whether `a/{b,c}/*.ts` or `a/<kind>.ts` stands for at least one file for each of its alternatives. */
function exists(path: string): boolean {
  const braces = /\{([^{}]*)\}/.exec(path);
  if (braces) return braces[1]!.split(',').every((one) => exists(path.replace(braces[0], one)));
  return (
    generated.includes(`/${path}`) || existsSync(join(root, path)) || find(path.replace(/<[^<>]*>|…/g, '*')).length > 0
  );
}

describe.each(documents)('%s', (document) => {
  const text = read(document);
  const code = codeOf(text).join('\n');

  it('links to files and headings that exist', () => {
    const missing = matchesOf(text.replace(/```[\s\S]*?```/g, ''), /\]\(([^)\s]+)\)/g).filter((link) => {
      if (/^https?:/.test(link)) return false;
      const [path, heading] = link.split('#');
      const target = path ? join(dirname(document), path) : document;
      if (!existsSync(join(root, target))) return true;
      if (heading === undefined) return false;
      const anchors = [...read(target).matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
        title!
          .toLowerCase()
          .replace(/[^\p{L}\p{N} _-]/gu, '')
          .replace(/ /g, '-'),
      );
      return !anchors.includes(heading);
    });
    expect(missing).toEqual([]);
  });

  it('names paths that exist', () => {
    const paths = matchesOf(
      code,
      /(?<![\w/.@-])((?:packages|configs|scripts|docs|benchmarks)\/[\w./*{},<>…-]*[\w*}>/])/g,
    );
    expect(paths.filter((path) => !exists(path))).toEqual([]);
  });

  it('names commands and scripts that exist', () => {
    expect(matchesOf(code, /(?<![\w/.@-])(sb-[a-z]+)/g).filter((name) => !commands.has(name))).toEqual([]);
    expect(matchesOf(code, /npm run (?:-s )?([\w:-]+)/g).filter((name) => !scripts.includes(name))).toEqual([]);
    const benches = matchesOf(code, /npm run bench -- ([a-z][\w-]*)/g);
    expect(benches.filter((name) => !existsSync(join(root, `scripts/bench/${name}.mjs`)))).toEqual([]);
  });

  it('names packages and their entries that exist', () => {
    const names = matchesOf(code, /(?<!node_modules\/)(@stickbreaking\/[a-z]+(?:\/[a-z]+)*)/g);
    expect(names.filter((name) => !entries.has(name))).toEqual([]);
  });

  it('names environment variables that the code reads', () => {
    const variables = matchesOf(code, /\b(STICKBREAKING_[A-Z_]+)/g);
    expect(variables.filter((name) => !sources.includes(name))).toEqual([]);
  });
});

describe('the speed table of README.md', () => {
  const table = read('README.md').split('## Speed')[1]!.split('\n## ')[0]!;
  const rows = table.split('\n').filter((line) => /^\| (GPU|CPU):/.test(line));

  it('has rows', () => expect(rows.length).toBeGreaterThan(5));

  it.each(rows.map((row) => [row.split('|')[1]!.trim(), row] as const))('%s', (_, row) => {
    const [, , ours, alsoOurs, peers, from] = row.split('|');
    const source = /\]\(([^)]+)\)/.exec(from!)![1]!;
    const known = [...read(source).matchAll(/\d[\d,]*(?:\.\d+)?/g)].map(([number]) =>
      Number(number.replaceAll(',', '')),
    );
    // Without names such as FlashAttention-2.
    const figures = `${ours} ${alsoOurs} ${peers}`.match(/(?<![\w-])\d[\d,]*(?:\.\d+)?/g) ?? [];
    expect(figures.length).toBeGreaterThan(0);
    for (const figure of figures) {
      const digits = figure.split('.')[1]?.length ?? 0;
      const value = Number(figure.replaceAll(',', '')).toFixed(digits);
      expect(
        known.some((number) => number.toFixed(digits) === value),
        `${figure} in ${source}`,
      ).toBe(true);
    }
  });
});
