// Attention forward and backward by length: stick-breaking without and with block skipping, softmax, and the reference
// kernels where they end soon enough.
import { selectBackend, softmaxAttention, stickBreakingAttention } from '@stickbreaking/core';
import { setBlockSkipping } from '@stickbreaking/core/native';
import * as tf from '@tensorflow/tfjs-core';
import { takeTurns } from '../measure.mjs';

const [heads, headDim] = [4, 64];
const longestForReference = 512;

const attends = {
  stickBreaking: (q, k, v, options) => stickBreakingAttention(q, k, v, options).output,
  softmax: (q, k, v, options) => softmaxAttention(q, k, v, { ...options, position: { kind: 'none' } }),
};

function contender(attend, values, length, skipping) {
  let tensors;
  const options = { cuSeqlens: Int32Array.of(0, length) };
  const step = tf.grads((q, k, v) => attend(q, k, v, options));
  return {
    prepare: () => {
      setBlockSkipping(skipping);
      tensors ??= values.map((one) => tf.tensor3d(one.slice(), [length, heads, headDim]));
    },
    run: () => {
      const [q, k, v, dOutput] = tensors;
      for (const gradient of step([q, k, v], dOutput)) gradient.dataSync();
    },
    dispose: () => tf.dispose(tensors),
  };
}

export async function benchAttention() {
  console.log(`\nAttention forward and backward, ${heads} heads of ${headDim}, normal random inputs, ms`);
  const results = [];
  for (const length of [512, 1024, 2048, 4096, 8192, 16_384]) {
    const values = [0, 1, 2, 3].map(() => tf.tidy(() => tf.randomNormal([length * heads * headDim]).dataSync()));
    await selectBackend('native');
    const contenders = {
      softmax: contender(attends.softmax, values, length, true),
      stickBreaking: contender(attends.stickBreaking, values, length, false),
      stickBreakingSkipping: contender(attends.stickBreaking, values, length, true),
    };
    const times = await takeTurns(contenders, 3, length <= 2048 ? 3 : 1);
    for (const one of Object.values(contenders)) one.dispose();
    setBlockSkipping(true);
    if (length <= longestForReference) {
      await selectBackend('cpu');
      for (const [kind, attend] of Object.entries(attends)) {
        const reference = contender(attend, values, length, true);
        times[`${kind}Reference`] = (await takeTurns({ reference }, 0)).reference;
        reference.dispose();
      }
    }
    const ratio = times.stickBreaking / times.softmax;
    results.push({ length, milliseconds: times, stickBreakingOverSoftmax: ratio });
    const reference = times.softmaxReference
      ? `; reference: stick-breaking ${times.stickBreakingReference.toFixed(0)} (${(times.stickBreakingReference / times.stickBreaking).toFixed(0)}×), softmax ${times.softmaxReference.toFixed(0)} (${(times.softmaxReference / times.softmax).toFixed(0)}×)`
      : '';
    console.log(
      `  ${String(length).padStart(6)}  softmax ${times.softmax.toFixed(1)}, stick-breaking ${times.stickBreaking.toFixed(1)} (${ratio.toFixed(2)}×), with block skipping ${times.stickBreakingSkipping.toFixed(1)} (${(times.stickBreakingSkipping / times.softmax).toFixed(2)}×)${reference}`,
    );
  }
  console.log(
    `  The reference kernels (tfjs's plain cpu backend) are run up to ${longestForReference} tokens: their time grows with the square.`,
  );
  await selectBackend('native');
  return { heads, headDim, results };
}
