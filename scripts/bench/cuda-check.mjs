// The conformance suite on the GPU, with bfloat16's tolerances and fresh random inputs; the fused kernels twice, which must
// give the same bits; stick-breaking with rows that look far gathered; looked-up weights rounded; tokens drawn on the GPU against those of
// float64 on the host; sums in order to the last bit; grouped matmuls by lasting blocks and by blocks of few tiles; small models beside
// the CPU; and one head of 65,536 tokens. Runs where vitest does not, such as from the bundle on a cluster:
// `bin/cuda-check [parts of cases' names, separated by |] [--once] [--share 1/4]`, the first of four that are checked side by side.
// STICKBREAKING_SEED repeats a run's inputs.
import { parseArgs } from 'node:util';
import { UserError } from '@stickbreaking/base';
import { embedding, residual, sampleTokens, selectBackend, stickBreakingAttention } from '@stickbreaking/core';
import { bfloat16Tolerances, conformanceCases, roundToBfloat16, runConformance } from '@stickbreaking/core/conformance';
import { ranOnCpu } from '@stickbreaking/core/cuda';
import * as tf from '@tensorflow/tfjs-core';
import { checkBlockSkipping } from './check/block_skipping.mjs';
import { expertsInBlocks } from './check/experts_in_blocks.mjs';
import { checkModel, models } from './check/models.mjs';
import { openGpu } from './gpu.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { once: { type: 'boolean', default: false }, share: { type: 'string', default: '1/1' } },
});
const { once } = values;
const [filter] = positionals;
const [share, shares] = /^\d+\/\d+$/.test(values.share) ? values.share.split('/').map(Number) : [0, 0];
if (share < 1 || share > shares) throw new UserError(`--share is ${values.share}; expected one such as 1/4.`);
const parts = filter?.split('|') ?? [''];
const isAskedFor = (name) => parts.some((part) => name.includes(part));

/** What is checked beside the suite. */
const others = [
  { name: 'embedding', run: roundedEmbeddings },
  { name: 'sampling', run: sampling },
  { name: 'sums in order', run: sumsInOrder },
  { name: 'experts in blocks', run: experts },
  { name: 'axes and rows that tfjs refuses', run: beyondTfjs },
  ...models.map((one) => ({ name: `model: ${one.name}`, run: () => model(one) })),
  { name: '65,536 tokens of one head', run: longContext },
].filter(({ name }) => isAskedFor(name));
const cases = conformanceCases().filter(({ name }) => isAskedFor(name));
if (cases.length + others.length === 0) throw new UserError(`No case's name has '${filter}' in it.`);
// Neighbours, which take about as long, go to different shares.
const dealt = (_, i) => i % shares === share - 1;
const own = new Set(cases.filter(dealt).map(({ name }) => name));
const wanted = ({ name }) => own.has(name);

const backend = await openGpu();
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
const largest = Math.max(0, ...results.flatMap((one) => Object.values(one.errors)));
console.log(`${results.length} cases, ${failed} failed, largest error relative in norm ${largest.toExponential(2)}`);
const onCpu = [...ranOnCpu()].map(([name, calls]) => `${name} (${calls})`);
if (onCpu.length > 0) failed++;
console.log(`${onCpu.length > 0 ? 'FAIL' : 'ok  '} ops on the CPU: ${onCpu.join(', ') || 'none'}`);

if (!once) await twice();
if (cases.some((one) => wanted(one) && one.name.startsWith('stick-breaking')))
  failed += await checkBlockSkipping(backend, { wanted, once });
for (const { run } of others.filter(dealt)) await run();
process.exitCode = failed > 0 ? 1 : 0;

/** The same inputs again: errors that are equal to the last digit come from equal bits. */
async function twice() {
  const options = {
    seed: 7,
    bfloat16Inputs: true,
    only: (one) => wanted(one) && /D (32|64|128)|fp8|moments|experts|running sums|softmax of/.test(one.name),
  };
  const [first, second] = [
    await runConformance('cuda', bfloat16Tolerances, options),
    await runConformance('cuda', bfloat16Tolerances, options),
  ];
  const changed = first.filter((one, i) => JSON.stringify(one.errors) !== JSON.stringify(second[i].errors));
  failed += changed.length;
  console.log(`${first.length} cases twice: ${changed.length} differ ${changed.map(({ name }) => name).join('; ')}`);
}

/** A whole model beside the CPU. */
async function model(one) {
  const count = () => [...ranOnCpu().values()].reduce((sum, calls) => sum + calls, 0);
  const { good, line } = await checkModel(one, 'cuda', count);
  await selectBackend('cuda');
  if (!good) failed++;
  console.log(`${good ? 'ok  ' : 'FAIL'} ${line}`);
}

function experts() {
  for (const { tiles, different, of } of expertsInBlocks(backend)) {
    if (different > 0) failed++;
    console.log(
      `${different > 0 ? 'FAIL' : 'ok  '} experts in blocks of ${tiles} tiles: ${different} of ${of} results differ from those of lasting blocks`,
    );
  }
}

/** What tfjs's CPU backend refuses, and the suite cannot have: axes of running sums from behind, and rows that do not exist. */
function beyondTfjs() {
  const x = tf.tensor2d([1, 2, 3, 4, 5, 6], [2, 3]);
  const known = tf.tensor1d([1, 2, 0, -1], 'int32');
  const found = {
    'sums from behind': [tf.cumsum(x, -1), [1, 3, 6, 4, 9, 15]],
    'rows of numbers that the host does not know': [
      tf.gather(x, tf.sub(known, tf.zerosLike(known))),
      [4, 5, 6, 0, 0, 0, 1, 2, 3, 0, 0, 0],
    ],
  };
  for (const [name, [y, want]] of Object.entries(found)) {
    const good = y.dataSync().join() === want.join();
    if (!good) failed++;
    console.log(`${good ? 'ok  ' : 'FAIL'} ${name}: ${y.dataSync().join(' ')}`);
  }
  let error;
  try {
    tf.gather(x, known);
  } catch (thrown) {
    error = thrown;
  }
  if (!error) failed++;
  console.log(`${error ? 'ok  ' : 'FAIL'} rows that do not exist: ${error?.message ?? 'taken'}`);
}

/** float32 weights are looked up as several GPUs have them, in bfloat16, however many bits the stream has. */
function roundedEmbeddings() {
  for (const columns of [64, 70])
    for (const residualType of ['bfloat16', 'fp24']) {
      const weight = Float32Array.from({ length: 9 * columns }, () => Math.random() - 0.5);
      const tokens = [3, 8, 0, 3];
      const found = embedding(tf.tensor1d(tokens, 'int32'), tf.tensor2d(weight, [9, columns]), { residualType });
      const rounded = roundToBfloat16(weight.slice());
      const want = tokens.flatMap((token) => [...rounded.subarray(token * columns, (token + 1) * columns)]);
      const different = found.dataSync().filter((x, i) => x !== want[i]).length;
      if (different > 0) failed++;
      console.log(`embedding of ${columns} columns, ${residualType}: ${different} of ${want.length} not rounded`);
    }
}

/** Draws from logits with many that are equal, beside the same draws in float64 from sorted tokens. */
async function sampling() {
  const [vocabSize, rows] = [49_152, 16];
  const settings = [
    { temperature: 0 },
    { temperature: 1 },
    { temperature: 0.8, topK: 50 },
    { temperature: 1.3, topP: 0.9 },
    { temperature: 1, minP: 0.02 },
    { temperature: 0.7, topK: 1000, topP: 0.95, minP: 0.001 },
    { temperature: 1, topK: 1 },
    { temperature: 2, topP: 0.001 },
  ];
  const plain = { topK: vocabSize, topP: 1, minP: 0 };
  for (const type of ['float32', 'bfloat16']) {
    const drawn = Float32Array.from({ length: rows * vocabSize }, () => {
      const x = 3 * (Math.random() + Math.random() + Math.random() + Math.random() - 2);
      return Math.random() < 0.3 ? Math.round(x * 4) / 4 : x;
    });
    const given = tf.tensor2d(drawn, [rows, vocabSize]);
    // A residual connection gives bfloat16.
    const logits = type === 'float32' ? given : residual(given, tf.zerosLike(given));
    const values = logits.dataSync();
    const own = Array.from({ length: rows }, (_, r) => values.subarray(r * vocabSize, (r + 1) * vocabSize));
    const orders = own.map((one) => [...one.keys()].sort((a, b) => one[b] - one[a] || a - b));
    let [equal, all, worst] = [0, 0, 0];
    for (const [i, setting] of settings.entries()) {
      const asked = Array.from({ length: rows }, (_, r) => ({
        ...plain,
        ...setting,
        uniform: setting.temperature === 0 ? 0 : (r + (i + 1) / 9) / rows,
      }));
      const { tokens, logProbabilities } = await sampleTokens(logits, asked);
      for (let r = 0; r < rows; r++) {
        all++;
        if (drawIn64(own[r], orders[r], asked[r]) === tokens[r]) equal++;
        const most = own[r][orders[r][0]];
        const total = own[r].reduce((sum, x) => sum + Math.exp(x - most), 0);
        worst = Math.max(worst, Math.abs(own[r][tokens[r]] - most - Math.log(total) - logProbabilities[r]));
      }
    }
    // Where a draw falls on the border of two tokens, the rounding of an exponential decides.
    const good = equal >= all * 0.98 && worst < 1e-3;
    if (!good) failed++;
    console.log(
      `${good ? 'ok  ' : 'FAIL'} sampling from ${type}: ${equal} of ${all} tokens as in float64, log-probabilities within ${worst.toExponential(1)}`,
    );
    logits.dispose();
  }
}

/** The token that a row's draw gives by the rules of `model`, from the tokens in falling order of their logits. */
function drawIn64(logits, order, { temperature, topK, topP, minP, uniform }) {
  if (temperature === 0) return order[0];
  const weight = (token) => Math.exp((logits[token] - logits[order[0]]) / temperature);
  let kept = order.slice(0, topK);
  const mass = kept.reduce((sum, token) => sum + weight(token), 0);
  if (topP < 1) {
    let [count, sum] = [0, 0];
    while (sum < topP * mass) {
      sum += weight(kept[count]);
      count++;
    }
    kept = kept.slice(0, count);
  }
  kept = kept.filter((token) => weight(token) >= minP).sort((a, b) => a - b);
  let point = uniform * kept.reduce((total, token) => total + weight(token), 0);
  for (const token of kept) {
    point -= weight(token);
    if (point < 0) return token;
  }
  return kept.at(-1);
}

/** What several GPUs have sent, added on this one (sums.cu): every bit as the same additions in float32 on the host have it. */
function sumsInOrder() {
  const sizes = [
    { count: 64, number: 1 },
    { count: 8 * 127, number: 2 },
    { count: 8 * 2048, number: 4 },
    { count: 8 * 350_001, number: 8 }, // more than all threads take at once
  ];
  for (const size of sizes)
    for (const type of ['f32', 'bf16'])
      for (const goesOn of [false, true]) {
        const different = differingSums(type, goesOn, size);
        if (different > 0) failed++;
        console.log(
          `${different > 0 ? 'FAIL' : 'ok  '} sums in order, ${type}: ${size.number} × ${size.count.toLocaleString('en')}` +
            `${goesOn ? ', added to what was there' : ''}: ${different} differ`,
        );
      }
}

/** How many of the sums of `number` lists are others than the host's. In bfloat16 they are rounded on the GPU first. */
function differingSums(type, goesOn, { count, number }) {
  const { driver } = backend;
  // Of many sizes, so that another order gives other bits; some are subnormal, −0, or beyond the largest bfloat16.
  const odd = [-0, 1e-40, -3e-39, 3.4e38, -3.4e38, 2 ** -133];
  const draw = (n) =>
    Float32Array.from({ length: n }, (_, i) =>
      i % 97 === 5 ? odd[i % odd.length] : (Math.random() - 0.5) * 2 ** (24 * Math.random() - 12),
    );
  const [before, parts, after] = [draw(count), draw(number * count), new Float32Array(count)];
  const [sum, sent, narrow] = [before, parts, parts].map(({ byteLength }) => driver.allocate(byteLength));
  backend.upload(sum, before);
  backend.upload(sent, parts);
  const rest = [{ i64: count }, { i32: number }, { i32: goesOn ? 1 : 0 }];
  const grid = (each) => ({ grid: [Math.min(Math.ceil(count / each / 256), 132 * 16)], block: 256 });
  if (type === 'bf16') {
    const cast = [{ pointer: narrow }, { pointer: sent }, { i64: number * count }];
    const blocks = [Math.ceil((number * count) / 8 / 256)];
    backend.launch('elementwise.cu', 'cast_to_bf16', { grid: blocks, block: 256 }, cast);
    backend.launch('sums.cu', 'ordered_sum_bf16', grid(8), [{ pointer: sum }, { pointer: narrow }, ...rest]);
    const bits = new Uint32Array(parts.buffer);
    for (let i = 0; i < bits.length; i++) bits[i] = ((bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) >>> 16) << 16;
  } else backend.launch('sums.cu', 'ordered_sum', grid(4), [{ pointer: sum }, { pointer: sent }, ...rest]);
  driver.call('cuMemcpyDtoHAsync_v2', after, sum, after.byteLength, driver.stream);
  driver.synchronize();
  for (const address of [sum, sent, narrow]) driver.release(address);
  let different = 0;
  for (let i = 0; i < count; i++) {
    let want = goesOn ? before[i] : parts[i];
    for (let p = goesOn ? 0 : 1; p < number; p++) want = Math.fround(want + parts[p * count + i]);
    if (!Object.is(want, after[i])) different++;
  }
  return different;
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
