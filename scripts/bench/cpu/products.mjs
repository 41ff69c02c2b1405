// Square matrix products: our own kernel against OpenBLAS, where the machine has it, and tfjs's backends.
import { createRequire } from 'node:module';
import { selectBackend } from '@stickbreaking/core';
import * as tf from '@tensorflow/tfjs-core';
import { getThreads, setBlas } from '../../../packages/core/dist/backends/native/index.js';
import { takeTurns } from '../measure.mjs';

const koffi = createRequire(new URL('../../../packages/core/package.json', import.meta.url))('koffi');

/** OpenBLAS as a program would call it, on its own threads. */
function openBlas() {
  for (const name of ['libopenblas.so.0', 'libopenblas.so', '/opt/homebrew/opt/openblas/lib/libopenblas.dylib']) {
    try {
      const library = koffi.load(name);
      library.func('void openblas_set_num_threads(int threads)')(getThreads());
      return library.func(
        'void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, void *a, int lda, void *b, int ldb, float beta, void *c, int ldc)',
      );
    } catch {
      // Not this one.
    }
  }
  return undefined;
}

function onBackend(backend, a, b, size) {
  let tensors;
  return {
    prepare: async () => {
      if (tf.getBackend() !== backend) {
        await (['native', 'cpu'].includes(backend) ? selectBackend(backend) : tf.setBackend(backend));
      }
      tensors ??= [a, b].map((values) => tf.tensor2d(values.slice(), [size, size]));
    },
    run: () => tf.matMul(...tensors).dataSync(),
  };
}

export async function benchProducts() {
  console.log('\nMatrix products, GFLOP/s');
  const hasWasm = await import('@tensorflow/tfjs-backend-wasm').then(
    () => tf.setBackend('wasm'),
    () => false,
  );
  const results = [];
  await selectBackend('native');
  const chosen = await setBlas('own');
  const sgemm = openBlas();
  if (!sgemm) console.log('  OpenBLAS was not found: apt-get install libopenblas0');
  for (const size of [256, 512, 1024]) {
    const [a, b] = [0, 1].map(() => Float32Array.from({ length: size * size }, () => Math.random() - 0.5));
    const c = new Float32Array(size * size);
    const fast = { native: onBackend('native', a, b, size) };
    if (sgemm) {
      fast.openBlas = {
        run: () => sgemm(101, 111, 111, size, size, size, 1, a, size, b, size, 0, c, size),
      };
    }
    if (hasWasm) fast.wasm = onBackend('wasm', a, b, size);
    const times = await takeTurns(fast, 5);
    Object.assign(times, await takeTurns({ cpu: onBackend('cpu', a, b, size) }, 0));
    const gflops = Object.fromEntries(
      Object.entries(times).map(([name, time]) => [name, (2 * size ** 3) / time / 1e6]),
    );
    const ratios = Object.fromEntries(
      Object.entries(gflops)
        .filter(([name]) => name !== 'native')
        .map(([name, value]) => [name, gflops.native / value]),
    );
    results.push({ size, gflops, nativeOver: ratios });
    const parts = Object.entries(ratios).map(
      ([name, ratio]) => `${ratio.toFixed(2)}× ${name} (${gflops[name].toFixed(1)})`,
    );
    console.log(`  ${String(size).padStart(5)}  native, own kernel ${gflops.native.toFixed(1)}: ${parts.join(', ')}`);
  }
  await setBlas();
  await selectBackend('native');
  return { native: chosen, results };
}
