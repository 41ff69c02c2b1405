// The page of sb-web. The model runs in a worker, whose program is a text in the page's.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle, pageOf } from './bundle.mjs';

const folder = fileURLToPath(new URL('../../packages/web/page', import.meta.url));

/** @returns what esbuild makes of one file of the page, by its ending */
export function bundleWeb(entry, options = {}) {
  return bundle(folder, entry, {
    // Of TensorFlow.js's parts the page takes those that it uses; what is loaded only under Node is left where it is.
    alias: { '@tensorflow/tfjs': join(folder, 'tfjs.ts') },
    external: ['@stickbreaking/core/native', '@stickbreaking/core/cuda'],
    ...options,
  });
}

/** @returns the page's HTML */
export async function webPage() {
  const worker = await bundleWeb('worker.ts', { format: 'iife' });
  return pageOf(folder, await bundleWeb('main.tsx', { define: { WORKER: JSON.stringify(worker('.js')) } }));
}
