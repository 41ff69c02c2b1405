// What makes one HTML file of a page: from a folder `page` with an index.html that has /*style*/ and /*script*/ where they go.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

/**
 * @param folder the page's
 * @param options of esbuild, beside those that all pages have
 * @returns what esbuild makes of one file of the page, by its ending
 */
export async function bundle(folder, entry, options = {}) {
  const { outputFiles } = await build({
    entryPoints: [join(folder, entry)],
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
    ...options,
  });
  return (ending) => outputFiles.find(({ path }) => path.endsWith(ending)).text;
}

/** @returns the HTML of a page; its script may hold texts that would end a script, or begin a comment, in HTML */
export function pageOf(folder, made) {
  return readFileSync(join(folder, 'index.html'), 'utf8')
    .replace('/*style*/', () => made('.css'))
    .replace('/*script*/', () => made('.js').replaceAll('</script', '<\\/script').replaceAll('<!--', '<\\!--'));
}
