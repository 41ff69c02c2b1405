// Which stored tensor costs a bfloat16 run its distance from float32? Rounds the outputs of chosen kernels of the native backend.

import { readFileSync } from 'node:fs';
import { selectBackend } from '@stickbreaking/core';
import { train } from '@stickbreaking/train';
import * as tf from '@tensorflow/tfjs-core';

await selectBackend('native');
const round = (v) => {
  const b = new Uint32Array(v.buffer, v.byteOffset, v.length);
  for (let i = 0; i < b.length; i++) {
    const x = b[i];
    b[i] = (x + 0x7fff + ((x >>> 16) & 1)) & 0xffff0000;
  }
};
const groups = {
  embedding: { Embedding: [0] },
  residual: { ResidualRMSNorm: [0] },
  norm: { ResidualRMSNorm: [1], RMSNorm: [0] },
  linears: { Linears: 'all' },
  attention: { StickBreakingAttention: [0], RotarySoftmaxAttention: [0], SoftmaxAttention: [0] },
  swiglu: { SwiGLU: [0] },
  dNorm: { ResidualRMSNormGrad: [0, 2], RMSNormGrad: [0] },
  dLinears: { LinearsGrad: [0] },
  dAttention: {
    StickBreakingAttentionGrad: [0, 1, 2],
    RotarySoftmaxAttentionGrad: [0, 1, 2],
    SoftmaxAttentionGrad: [0, 1, 2],
  },
  dSwiglu: { SwiGLUGrad: [0, 1] },
  dHead: { LinearCrossEntropyGrad: [0] },
};
let active = new Set();
// weights: rounded copies for Linears & head, by wrapping inputs
for (const [group, kernels] of Object.entries(groups))
  for (const [name, which] of Object.entries(kernels)) {
    const k = tf.getKernel(name, 'native');
    if (!k) {
      continue;
    }
    tf.unregisterKernel(name, 'native');
    const f = k.kernelFunc;
    tf.registerKernel({
      ...k,
      kernelFunc: (call) => {
        const inputs = call.inputs;
        const out = f({ ...call, inputs });
        if (!active.has(group)) return out;
        const list = Array.isArray(out) ? out : [out];
        list.forEach((t, i) => {
          if (which === 'all' || which.includes(i)) {
            const v = call.backend.readSync(t.dataId);
            round(v);
          }
        });
        return out;
      },
    });
  }
const ids = Uint16Array.from(JSON.parse(readFileSync('/tmp/perf18/ids.json')));
const args = process.argv.slice(2);
const seeds = [0, 1, 2, 3, 4].slice(0, Number(process.env.SEEDS ?? 5));
async function run(set, seed, attention = 'stick-breaking') {
  active = new Set(set);
  const losses = [];
  const T = 128,
    B = 1024,
    steps = 60;
  const cuSeqlens = Int32Array.from({ length: B / T + 1 }, (_, i) => i * T);
  const open = () => {
    let at = 0;
    return {
      cursor: () => at,
      next: () => {
        const [tokens, targets] = [0, 1].map((s) => Int32Array.from(ids.subarray(at + s, at + s + B)));
        at += B;
        return { tokens, targets, cuSeqlens };
      },
    };
  };
  const { model } = await train({
    model: {
      vocabSize: 2048,
      hiddenSize: 128,
      intermediateSize: 352,
      numLayers: 4,
      numHeads: 4,
      contextLength: T,
      attention,
    },
    seed,
    optimizer: {},
    stages: [
      {
        steps,
        contextLength: T,
        batchTokens: B,
        microBatchTokens: B,
        schedule: { kind: 'constant', peak: 3e-3 },
        data: { open },
      },
    ],
    hooks: { onStep: ({ loss }) => void losses.push(loss) },
  });
  model.dispose();
  return losses;
}
const all = Object.keys(groups);
const sets = {
  all,
  ...Object.fromEntries(all.map((one) => [`only ${one}`, [one]])),
  'all but residual': all.filter((x) => !['residual', 'embedding'].includes(x)),
  'all but residual, dNorm': all.filter((x) => !['residual', 'embedding', 'dNorm'].includes(x)),
  forward: ['embedding', 'residual', 'norm', 'linears', 'attention', 'swiglu'],
  backward: all.filter((x) => x.startsWith('d')),
};
const chosen = args.length ? args : Object.keys(sets);
const median = (v) => [...v].sort((a, b) => a - b)[v.length >> 1];
const base = [];
for (const s of seeds) base.push(await run([], s));
console.log('f32', base.map((l) => l.at(-1).toFixed(3)).join(' '));
for (const name of chosen) {
  const d = [];
  for (const s of seeds) {
    const l = await run(sets[name], s);
    d.push(Math.max(...l.map((x, i) => Math.abs(x - base[s][i]))));
  }
  console.log(name.padEnd(28), median(d).toFixed(4), d.map((x) => x.toFixed(3)).join(' '));
}
