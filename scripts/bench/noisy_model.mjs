// A model of any size for benches that need its shape alone.
import { LlamaModel } from '@stickbreaking/model';

/**
 * Weights of a little noise, repeated: made once on the host, for all of a size, so that billions of weights need no drawing and no
 * memory of their own.
 */
export function noisyModel(config, random) {
  const noise = Float32Array.from(
    { length: 2 ** 20 + 7 },
    () => (random.uniform() + random.uniform() + random.uniform() - 1.5) * 0.04,
  );
  const ofSize = new Map();
  return LlamaModel.from(config, (name, shape) => {
    const size = shape.reduce((product, n) => product * n, 1);
    if (/norm/.test(name)) return new Float32Array(size).fill(1);
    const before = ofSize.get(size);
    if (before) return before;
    const values = new Float32Array(size);
    for (let at = 0; at < size; at += noise.length) {
      values.set(noise.subarray(0, Math.min(noise.length, size - at)), at);
    }
    ofSize.set(size, values);
    return values;
  });
}
