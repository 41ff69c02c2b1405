// Builds the page of sb-board and sb-report: one HTML file, dist/page.html, with its scripts and styles inside.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const { outputFiles } = await build({
  entryPoints: [join(here, 'page/main.tsx')],
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'inline',
  outdir: 'page',
  write: false,
  logLevel: 'warning',
});
const made = (ending) => outputFiles.find(({ path }) => path.endsWith(ending)).text;
const html = readFileSync(join(here, 'page/index.html'), 'utf8')
  .replace('/*style*/', () => made('.css'))
  .replace('/*script*/', () => made('.js').replaceAll('</script', '<\\/script'));
mkdirSync(join(here, 'dist'), { recursive: true });
writeFileSync(join(here, 'dist/page.html'), html);
