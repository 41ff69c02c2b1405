/** Softmax attention with its windows and biases on the C++ library. */

import type { SoftmaxAttributes } from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { defineKernel, type KernelTools, sizeOf } from './backend.js';
import { nativeFunction } from './library.js';
import { packedArguments, packedParameters } from './packed.js';

type Inputs = Record<string, TensorInfo>;

const fireNames = ['fireW1', 'fireB1', 'fireW2', 'fireB2', 'fireC', 'fireThreshold'] as const;
const parameters = `${packedParameters}, int64_t window, void *slopes, int64_t fireWidth, float fireInitialThreshold, ${fireNames.map((name) => `void *${name}`).join(', ')}, void *q, void *k, void *v`;

function commonArguments(inputs: Inputs, attrs: SoftmaxAttributes, { read }: KernelTools) {
  const { q, k, v } = inputs as Record<'q' | 'k' | 'v', TensorInfo>;
  const fire = attrs.bias === 'fire';
  return [
    ...packedArguments(q, k, attrs),
    ...[attrs.window, attrs.bias === 'alibi' ? attrs.alibiSlopes! : null],
    ...[fire ? inputs.fireB1!.shape[0]! : 0, fire ? attrs.fireInitialThreshold! : 0],
    ...fireNames.map((name) => (fire ? read(inputs[name]!) : null)),
    ...[read(q), read(k), read(v)],
  ];
}

defineKernel('SoftmaxAttention', (inputs, attributes, tools) => {
  const attrs = attributes as unknown as SoftmaxAttributes;
  const q = inputs.q!;
  const [rows, heads] = q.shape as [number, number, number];
  const output = tools.allocate(sizeOf(q));
  const logSumExp = tools.allocate(rows * heads);
  const run = nativeFunction(`void sb_softmax(${parameters}, void *output, void *logSumExp)`);
  run(...commonArguments(inputs, attrs, tools), output, logSumExp);
  return [tools.make(q.shape, 'float32', output), tools.make([rows, heads], 'float32', logSumExp)];
});

defineKernel('SoftmaxAttentionGrad', (inputs, attributes, tools) => {
  const attrs = attributes as unknown as SoftmaxAttributes;
  const { output, logSumExp, dOutput } = inputs as Record<'output' | 'logSumExp' | 'dOutput', TensorInfo>;
  const of = ['q', 'k', 'v', ...(attrs.bias === 'fire' ? fireNames : [])].map((name) => inputs[name]!);
  const gradients = of.map((one) => tools.zeros(sizeOf(one)));
  const missing = new Array(9 - gradients.length).fill(null);
  const outputs = ['q', 'k', 'v', ...fireNames].map((name) => `void *d_${name}`).join(', ');
  const run = nativeFunction(
    `void sb_softmax_grad(${parameters}, void *output, void *logSumExp, void *dOutput, ${outputs})`,
  );
  run(
    ...commonArguments(inputs, attrs, tools),
    ...[tools.read(output), tools.read(logSumExp), tools.read(dOutput), ...gradients, ...missing],
  );
  return of.map((one, i) => tools.make(one.shape, 'float32', gradients[i]!));
});
