// Square matmuls: our own kernel against OpenBLAS, where the machine has it, both called directly; and the whole
// op, tensors and all, against tfjs's backends.
import { createRequire } from 'node:module';
import { selectBackend } from '@stickbreaking/core';
import { getThreads, nativeFunction, setBlas } from '@stickbreaking/core/native';
import * as tf from '@tensorflow/tfjs-core';
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
    run: () => tf.matMul(...tensors), // all of these backends return when it is done
  };
}

export async function benchProducts() {
  console.log('\nMatmul, GFLOP/s');
  const hasWasm = await import('@tensorflow/tfjs-backend-wasm').then(
    () => tf.setBackend('wasm'),
    () => false,
  );
  const results = [];
  await selectBackend('native');
  const chosen = await setBlas('own');
  const kernel = nativeFunction(
    'void sb_gemm(int32_t ta, int32_t tb, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc, int32_t accumulate)',
  );
  const sgemm = openBlas();
  if (!sgemm) console.log('  OpenBLAS was not found: apt-get install libopenblas0');
  for (const size of [256, 512, 1024]) {
    const [a, b] = [0, 1].map(() => Float32Array.from({ length: size * size }, () => Math.random() - 0.5));
    const c = new Float32Array(size * size);
    const fast = { kernel: { run: () => kernel(0, 0, size, size, size, a, size, b, size, c, size, 0) } };
    if (sgemm) {
      fast.openBlas = { run: () => sgemm(101, 111, 111, size, size, size, 1, a, size, b, size, 0, c, size) };
    }
    fast.native = onBackend('native', a, b, size);
    if (hasWasm) fast.wasm = onBackend('wasm', a, b, size);
    const times = await takeTurns(fast, 5);
    Object.assign(times, await takeTurns({ cpu: onBackend('cpu', a, b, size) }, 0));
    const gflops = Object.fromEntries(
      Object.entries(times).map(([name, time]) => [name, (2 * size ** 3) / time / 1e6]),
    );
    const result = { size, gflops, kernelOverOpenBlas: gflops.kernel / gflops.openBlas };
    result.nativeOverWasm = gflops.native / gflops.wasm;
    result.nativeOverCpu = gflops.native / gflops.cpu;
    results.push(result);
    const against = (ratio, name) =>
      Number.isFinite(ratio) ? `${ratio.toFixed(2)}× ${name} (${gflops[name].toFixed(1)})` : `no ${name}`;
    console.log(
      `  ${String(size).padStart(5)}  own kernel ${gflops.kernel.toFixed(1)}: ${against(result.kernelOverOpenBlas, 'openBlas')}; tf.matMul on native ${gflops.native.toFixed(1)}: ${against(result.nativeOverWasm, 'wasm')}, ${against(result.nativeOverCpu, 'cpu')}`,
    );
  }
  await setBlas();
  await selectBackend('native');
  return { native: chosen, results };
}
