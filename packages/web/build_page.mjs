// Builds the page of sb-web: one HTML file, dist/model.html, with its scripts and styles inside. The model runs in a worker,
// whose program is a text in the page's.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));

/** @returns what esbuild makes of one file of the page, by its ending */
export async function bundle(entry, options = {}) {
  const { outputFiles } = await build({
    entryPoints: [join(here, 'page', entry)],
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    legalComments: 'inline',
    // Of TensorFlow.js's parts the page takes those that it uses; what is loaded only under Node is left where it is.
    alias: { '@tensorflow/tfjs': join(here, 'page/tfjs.ts') },
    external: ['@stickbreaking/core/native', '@stickbreaking/core/cuda'],
    outdir: 'page',
    write: false,
    logLevel: 'warning',
    ...options,
  });
  return (ending) => outputFiles.find(({ path }) => path.endsWith(ending)).text;
}

/** @returns the page's HTML */
export async function buildPage() {
  const worker = await bundle('worker.ts', { format: 'iife' });
  const made = await bundle('main.tsx', { define: { WORKER: JSON.stringify(worker('.js')) } });
  return readFileSync(join(here, 'page/index.html'), 'utf8')
    .replace('/*style*/', () => made('.css'))
    .replace('/*script*/', () => made('.js').replaceAll('</script', '<\\/script').replaceAll('<!--', '<\\!--'));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(join(here, 'dist'), { recursive: true });
  writeFileSync(join(here, 'dist/model.html'), await buildPage());
}
