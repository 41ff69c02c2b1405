// `npm run docs:api`: pages of every public entry, in docs/api/. The entries are the paths of tsconfig.json.
import { readFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ReflectionKind } from 'typedoc';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = join(here, '../..');
const { compilerOptions } = JSON.parse(readFileSync(join(here, 'tsconfig.json'), 'utf8'));
const entries = Object.entries(compilerOptions.paths).map(([name, [path]]) => ({ name, file: join(here, path) }));

/** TypeDoc calls a module by its file below packages/; here it is called what one imports. */
const names = new Map(
  entries.map(({ name, file }) => {
    const below = relative(join(root, 'packages'), file).split(sep).join('/');
    return [below.replace(/(\/index)?\.ts$/, ''), name];
  }),
);
function namedByEntry({ converter }) {
  converter.on('createDeclaration', (_, reflection) => {
    if (reflection.kind === ReflectionKind.Module) reflection.name = names.get(reflection.name) ?? reflection.name;
  });
}

/** @type {Partial<import('typedoc').TypeDocOptions>} */
export default {
  name: 'stickbreaking',
  tsconfig: join(here, 'tsconfig.json'),
  entryPoints: entries.map(({ file }) => file),
  out: join(root, 'docs/api'),
  readme: 'none',
  excludeInternal: true,
  excludePrivate: true,
  disableSources: true,
  plugin: [namedByEntry],
  // Every public export has a docstring, and nothing in one is taken for what it is not, such as `[N]: …` for a link.
  treatWarningsAsErrors: true,
  validation: { notExported: true, invalidLink: true, notDocumented: true },
  packagesRequiringDocumentation: [...new Set(entries.map(({ name }) => name.split('/').slice(0, 2).join('/')))],
  requiredToBeDocumented: ['Function', 'Class', 'Interface', 'TypeAlias', 'Variable', 'Method'],
};
