// A small transformer trained through the public ops and the tape, on `cpu` (the float32 reference) and on `cuda`, from
// the same weights and data: prints both loss curves and their largest difference, and whether memory stays put.
import * as tf from '@tensorflow/tfjs-core';
import * as core from '../../packages/core/dist/index.js';

const [V, C, H, D, I, LAYERS, STEPS] = [61, 32, 2, 16, 48, 2, Number(process.argv[2] ?? 40)];
const cuSeqlens = Int32Array.of(0, 5, 29, 48);
const N = cuSeqlens.at(-1);
let state = 12345;
const uniform = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return (state + 0.5) / 2 ** 32;
};
const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
const matrix = (...shape) => ({
  shape,
  values: Float32Array.from({ length: shape[0] * shape[1] }, () => normal() * 0.15),
});
const start = { embedding: matrix(V, C) };
for (let l = 0; l < LAYERS; l++) {
  for (const name of ['q', 'k', 'v', 'o']) start[`${name}${l}`] = matrix(C, C);
  Object.assign(start, { [`gate${l}`]: matrix(I, C), [`up${l}`]: matrix(I, C), [`down${l}`]: matrix(C, I) });
  for (const name of ['a', 'b']) start[`${name}${l}`] = { shape: [C], values: new Float32Array(C).fill(1) };
  start[`bias${l}`] = matrix(H, D);
}
const batches = Array.from({ length: STEPS }, () => {
  const ids = Int32Array.from({ length: N + 1 }, (_, i) => Math.floor(uniform() ** 2 * 8) + (i % 7) * 7);
  return [ids.slice(0, N), ids.slice(1).map((id, i) => (i % 11 === 3 ? -1 : id))];
});

function losses(w, kind, tokens, targets) {
  let x = core.embedding(tokens, w.embedding);
  for (let l = 0; l < LAYERS; l++) {
    const n = core.rmsNorm(x, w[`a${l}`]);
    const [q, k, v] = ['q', 'k', 'v'].map((name) => core.linear(n, w[`${name}${l}`]).reshape([N, H, D]));
    let output;
    if (kind === 'stick-breaking') {
      const stick = core.stickBreakingAttention(q, k, v, { cuSeqlens });
      output = core.remainderBias(stick.output, stick.remainder, w[`bias${l}`]);
    } else output = core.softmaxAttention(q, k, v, { cuSeqlens, position: { kind: 'rope' } });
    x = x.add(core.linear(output.reshape([N, C]), w[`o${l}`]));
    const m = core.rmsNorm(x, w[`b${l}`]);
    x = x.add(core.linear(core.swiGlu(core.linear(m, w[`gate${l}`]), core.linear(m, w[`up${l}`])), w[`down${l}`]));
  }
  return core.linearCrossEntropy(x, w.embedding, targets).mean();
}

async function train(backend, kind) {
  const { description } = await core.selectBackend(backend);
  const names = Object.keys(start);
  const fresh = (make) => names.map((name) => tf.variable(make(start[name])));
  const parameters = fresh((s) => tf.tensor(s.values, s.shape));
  const [firstMoments, secondMoments] = [0, 1].map(() => fresh((s) => tf.zeros(s.shape)));
  const w = Object.fromEntries(names.map((name, i) => [name, parameters[i]]));
  const curve = [];
  const tensors = [];
  for (const [i, batch] of batches.entries()) {
    const [tokens, targets] = batch.map((ids) => tf.tensor1d(ids, 'int32'));
    const { value, grads } = tf.variableGrads(() => losses(w, kind, tokens, targets), parameters);
    const gradients = parameters.map((p) => grads[p.name] ?? tf.zerosLike(p));
    const norm = core.globalNorm(gradients);
    const gradientScale = Math.min(1, 1 / norm.dataSync()[0]);
    core.adamW({
      parameters,
      gradients,
      firstMoments,
      secondMoments,
      gradientScale,
      step: i + 1,
      weightDecays: names.map(() => 0.1),
      learningRate: 0.01,
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
    });
    curve.push(value.dataSync()[0]);
    tf.dispose([tokens, targets, value, norm, gradients, grads]);
    tensors.push(tf.memory().numTensors, tf.memory().numBytesInGpu ?? 0);
  }
  tf.dispose([parameters, firstMoments, secondMoments]);
  console.log(description, kind, '| tensors, GPU bytes after step 2 and last:', tensors.slice(2, 4), tensors.slice(-2));
  return curve;
}

for (const kind of ['stick-breaking', 'softmax']) {
  const reference = await train('cpu', kind);
  if (process.argv[3] === 'cpu') continue;
  const measured = await train('cuda', kind);
  const again = await train('cuda', kind);
  const gap = Math.max(...reference.map((x, i) => Math.abs(x - measured[i])));
  const same = measured.every((x, i) => x === again[i]);
  console.log(
    `${kind}: cpu ${reference[0].toFixed(4)} → ${reference.at(-1).toFixed(4)}, cuda ${measured[0].toFixed(4)} → ${measured.at(-1).toFixed(4)}, largest gap ${gap.toFixed(4)}, two runs ${same ? 'identical' : 'DIFFER'}`,
  );
  if (gap > 0.02 || !same) process.exitCode = 1;
}
