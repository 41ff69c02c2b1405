// Where a backend's time goes, kernel by kernel.
import * as tf from '@tensorflow/tfjs-core';

const attention = /Attention/;
const products = /^(BatchMatMul|Linears|LinearsGrad|WeightGrads|LinearCrossEntropy|LinearCrossEntropyGrad)$/; // the head is a product with a softmax

/**
 * Times every kernel of the active backend from here on. The function that it returns ends that and gives the shares
 * of the whole time, largest first; what no kernel took is the host's: the tape, garbage collection.
 */
export function startProfile() {
  const spent = new Map();
  const restore = [];
  let running = 0;
  for (const kernel of tf.getKernelsForBackend(tf.getBackend())) {
    const run = kernel.kernelFunc;
    restore.push(() => {
      kernel.kernelFunc = run;
    });
    kernel.kernelFunc = (args) => {
      const start = performance.now();
      running++;
      try {
        return run(args);
      } finally {
        running--;
        // A kernel made of others has their time already.
        if (running === 0) {
          const sum = (spent.get(kernel.kernelName) ?? 0) + performance.now() - start;
          spent.set(kernel.kernelName, sum);
        }
      }
    };
  }
  const begin = performance.now();
  return () => {
    const total = performance.now() - begin;
    for (const one of restore) one();
    const kernels = [...spent].map(([kernel, time]) => ({ kernel, share: time / total }));
    kernels.sort((a, b) => b.share - a.share);
    const shareOf = (pattern) =>
      kernels.reduce((sum, { kernel, share }) => sum + (pattern.test(kernel) ? share : 0), 0);
    const host = 1 - shareOf(/./);
    return { milliseconds: total, products: shareOf(products), attention: shareOf(attention), host, kernels };
  };
}

export function printProfile({ products, attention, host, kernels }, most = 10) {
  const percent = (share) => `${(share * 100).toFixed(1).padStart(5)} %`;
  const [both, alone] = [products + attention, products].map(percent);
  console.log(`    ${both} in matmuls (${alone.trim()}, the head's loss included) and attention`);
  for (const { kernel, share } of kernels.slice(0, most)) console.log(`      ${percent(share)} ${kernel}`);
  console.log(`      ${percent(host)} outside kernels`);
}
