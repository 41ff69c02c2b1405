/**
 * Importing the package loads nothing that a browser lacks: no module of Node's, no native library, neither of the
 * backends that have one. Every import of the built package, and of the packages of this project that it needs, is checked
 * as Node resolves it. TensorFlow.js detects where it runs, and requires `util` and `crypto` itself if that is Node.
 */
import { execFileSync } from 'node:child_process';
import { builtinModules } from 'node:module';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const folder = fileURLToPath(new URL('..', import.meta.url));

/** Node's hook for imports: tells each on standard output. */
const hook = `
import { writeSync } from 'node:fs';
export async function resolve(specifier, context, next) {
  const found = await next(specifier, context);
  writeSync(1, JSON.stringify({ from: context.parentURL, specifier, to: found.url }) + '\\n');
  return found;
}`;
const dataUrl = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`;
const registration = dataUrl(`import { register } from 'node:module'; register(${JSON.stringify(dataUrl(hook))});`);

interface Import {
  from?: string;
  specifier: string;
  to: string;
}

/** What a program imports from the built package on, and the native libraries that it has loaded at its end. */
function importsOf(program: string): { imports: Import[]; libraries: string[] } {
  const end = 'console.log(JSON.stringify({ libraries: process.report.getReport().sharedObjects }));';
  const args = ['--import', registration, '--input-type=module', '-e', `${program}\n${end}`];
  const printed = execFileSync(process.execPath, args, { cwd: folder, encoding: 'utf8' }).trim().split('\n');
  const lines = printed.map((line) => JSON.parse(line) as Import & { libraries?: string[] });
  return { imports: lines.filter(({ to }) => to), libraries: lines.at(-1)!.libraries! };
}

const ours = /\/packages\/[^/]+\/dist\//;
const native = /koffi|\/dist\/(native|cuda)\//;
const isNodes = (specifier: string) => specifier.startsWith('node:') || builtinModules.includes(specifier);

it.each(['@stickbreaking/core', '@stickbreaking/core/backend', '@stickbreaking/core/conformance'])(
  '%s loads nothing of Node and nothing native',
  (entry) => {
    const { imports, libraries } = importsOf(`await import('${entry}');`);
    const own = imports.filter(({ from }) => from && ours.test(from));
    expect(own.length).toBeGreaterThan(20);
    expect(own.filter(({ specifier }) => isNodes(specifier))).toEqual([]);
    expect(imports.filter(({ to }) => native.test(to))).toEqual([]);
    expect(libraries.filter((path) => path.endsWith('.node'))).toEqual([]);
  },
);

it('a backend is loaded when it is chosen', () => {
  const { imports } = importsOf(
    "const { selectBackend } = await import('@stickbreaking/core'); await selectBackend('native').catch(() => {});",
  );
  const loaded = (pattern: RegExp) => imports.some(({ to }) => pattern.test(to));
  expect(loaded(/\/dist\/native\/index\.js$/)).toBe(true);
  expect(loaded(/\/dist\/cuda\//)).toBe(false);
});
