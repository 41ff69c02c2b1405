// The conformance suite on the GPU, with bfloat16's tolerances and fresh random inputs; the fused kernels twice, which must
// give the same bits; and one head of 65,536 tokens. Runs where vitest does not, such as from the bundle on a cluster: `bin/cuda-check [part of a case's name] [--once]`. STICKBREAKING_SEED repeats a run's inputs.
import { stickBreakingAttention } from '@stickbreaking/core';
import { bfloat16Tolerances, runConformance } from '@stickbreaking/core/conformance';
import * as tf from '@tensorflow/tfjs-core';
import { openGpu } from './gpu.mjs';

await openGpu();

const once = process.argv.includes('--once');
const [filter] = process.argv.slice(2).filter((one) => one !== '--once');
const wanted = ({ name }) => !filter || name.includes(filter);
let failed = 0;

const results = await runConformance('cuda', bfloat16Tolerances, {
  bfloat16Inputs: true,
  only: wanted,
  onResult(result) {
    if (result.failures.length === 0) return;
    failed++;
    console.log(`FAIL ${result.name}: ${result.failures.join('; ')}`);
  },
});
const largest = Math.max(...results.flatMap((one) => Object.values(one.errors)));
console.log(`${results.length} cases, ${failed} failed, largest error relative in norm ${largest.toExponential(2)}`);

if (!once) await twice();
if (!filter) longContext();
process.exitCode = failed > 0 ? 1 : 0;

/** The same inputs again: errors that are equal to the last digit come from equal bits. */
async function twice() {
  const options = {
    seed: 7,
    bfloat16Inputs: true,
    only: (one) => wanted(one) && /D (32|64|128)|fp8|moments/.test(one.name),
  };
  const [first, second] = [
    await runConformance('cuda', bfloat16Tolerances, options),
    await runConformance('cuda', bfloat16Tolerances, options),
  ];
  const changed = first.filter((one, i) => JSON.stringify(one.errors) !== JSON.stringify(second[i].errors));
  failed += changed.length;
  console.log(`${first.length} cases twice: ${changed.length} differ ${changed.map(({ name }) => name).join('; ')}`);
}

/** 65,536 tokens of one head, some rows against float64. */
function longContext() {
  const [length, dim] = [65_536, 64];
  const draw = () => tf.randomNormal([length, 1, dim]);
  const round = (x) => {
    const bits = new Uint32Array(Float32Array.from(x.dataSync()).buffer);
    for (let i = 0; i < bits.length; i++) bits[i] = (bits[i] + 0x8000) & 0xffff0000;
    x.dispose();
    return new Float32Array(bits.buffer);
  };
  // Logits around −7, so that sticks last for thousands of tokens.
  const [q, k, v] = [0, 1, 2].map(() => round(draw()));
  for (let i = 0; i < q.length; i += dim) [q[i], k[i]] = [8, -7];
  const tensors = [q, k, v].map((values) => tf.tensor3d(values, [length, 1, dim]));
  const { output, remainder } = stickBreakingAttention(...tensors, { cuSeqlens: [0, length] });
  const [got, left] = [output.dataSync(), remainder.dataSync()];
  let [worst, worstLeft] = [0, 0];
  for (const row of [0, 1, 63, 64, 4097, 32_768, 65_535]) {
    let broken = 0;
    const want = new Float64Array(dim);
    for (let i = row - 1; i >= 0; i--) {
      let z = 0;
      for (let d = 0; d < dim; d++) z += (q[row * dim + d] * k[i * dim + d]) / Math.sqrt(dim);
      broken += Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
      const weight = Math.exp(z - broken);
      for (let d = 0; d < dim; d++) want[d] += weight * v[i * dim + d];
    }
    const distance = Math.hypot(...want.map((x, d) => x - got[row * dim + d]));
    worst = Math.max(worst, distance / Math.max(Math.hypot(...want), 1e-3));
    worstLeft = Math.max(worstLeft, Math.abs(Math.exp(-broken) - left[row]));
  }
  const good = worst < 1e-2 && worstLeft < 1e-4;
  if (!good) failed++;
  console.log(
    `${good ? 'ok  ' : 'FAIL'} 65,536 tokens of one head: rows within ${worst.toExponential(2)}, remainders within ${worstLeft.toExponential(1)}`,
  );
}
