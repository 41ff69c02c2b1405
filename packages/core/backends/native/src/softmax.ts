/** Softmax attention with its windows and biases on the C++ library. */

import { fireInputNames, fireInputsOf, type KernelInputs, type SoftmaxAttributes } from '@stickbreaking/core/backend';
import { type KernelTools, type NativeKernels, sizeOf } from './backend.js';
import { nativeFunction } from './library.js';
import { packedArguments, packedParameters } from './packed.js';

const parameters = `${packedParameters}, int64_t window, void *slopes, int64_t fireWidth, float fireInitialThreshold, ${fireInputNames.map((name) => `void *${name}`).join(', ')}, void *keyBias, void *q, void *k, void *v`;

function commonArguments(inputs: KernelInputs<'SoftmaxAttention'>, attrs: SoftmaxAttributes, { read }: KernelTools) {
  const { q, k, v } = inputs;
  const fire = attrs.bias === 'fire';
  return [
    ...packedArguments(q, k, attrs),
    ...[attrs.window, attrs.bias === 'alibi' ? attrs.alibiSlopes! : null],
    ...[fire ? inputs.fireB1!.shape[0]! : 0, fire ? attrs.fireInitialThreshold! : 0],
    ...(fire ? fireInputsOf(inputs).map(read) : fireInputNames.map(() => null)),
    attrs.bias === 'keys' ? read(inputs.keyBias!) : null,
    ...[read(q), read(k), read(v)],
  ];
}

export const softmaxKernels = {
  SoftmaxAttention(inputs, attrs, tools) {
    const { q } = inputs;
    const [rows, heads] = q.shape as [number, number, number];
    const output = tools.allocate(sizeOf(q));
    const logSumExp = tools.allocate(rows * heads);
    const run = nativeFunction(`void sb_softmax(${parameters}, void *output, void *logSumExp)`);
    run(...commonArguments(inputs, attrs, tools), output, logSumExp);
    return [tools.make(q.shape, 'float32', output), tools.make([rows, heads], 'float32', logSumExp)];
  },

  SoftmaxAttentionGrad(inputs, attrs, tools) {
    const { q, k, v, output, logSumExp, dOutput } = inputs;
    const fire = attrs.bias === 'fire' ? fireInputsOf(inputs) : [];
    const keyBias = attrs.bias === 'keys' ? [inputs.keyBias!] : [];
    const of = [q, k, v, ...fire, ...keyBias];
    const gradients = of.map((one) => tools.zeros(sizeOf(one)));
    const ofFire = fire.length > 0 ? gradients.slice(3) : fireInputNames.map(() => null);
    const given = [...gradients.slice(0, 3), ...ofFire, keyBias.length > 0 ? gradients[3]! : null];
    const outputs = ['q', 'k', 'v', ...fireInputNames, 'keyBias'].map((name) => `void *d_${name}`).join(', ');
    const run = nativeFunction(
      `void sb_softmax_grad(${parameters}, void *output, void *logSumExp, void *dOutput, ${outputs})`,
    );
    run(
      ...commonArguments(inputs, attrs, tools),
      ...[tools.read(output), tools.read(logSumExp), tools.read(dOutput), ...given],
    );
    const [dq, dk, dv, ...dBias] = of.map((one, i) => tools.make(one.shape, 'float32', gradients[i]!));
    return [dq!, dk!, dv!, ...dBias];
  },
} satisfies NativeKernels;
