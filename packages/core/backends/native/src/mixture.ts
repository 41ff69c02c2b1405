/** A mixture of experts on the C++ library. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { isUnseen, type KernelTools, type NativeKernels, share, sizeOf, type Values } from './backend.js';
import { nativeFunction } from './library.js';
import { matmulKernels } from './matmul.js';

const sizes = 'int64_t tokens, int64_t width, int64_t units, int64_t experts, int64_t active';
const signatures = {
  route: 'void sb_route(int64_t tokens, int64_t experts, int64_t active, void *logits, void *choices, void *routing)',
  forward: `void sb_mixture(${sizes}, void *x, void *input, void *output, void *logits, void *choices, void *kept, void *y)`,
  backward: `void sb_mixture_grad(${sizes}, float balanceWeight, float zWeight, int32_t accumulate, void *balanceCounts, void *x, void *router, void *input, void *output, void *logits, void *choices, void *kept, void *dy, void *dx, void *dRouter, void *dInput, void *dOutput)`,
};

/** Memory for a gradient: the sum's own where nothing else has it, and then the gradient is that tensor. */
function target(like: TensorInfo, sum: TensorInfo | undefined, { read, make, allocate }: KernelTools) {
  if (sum && isUnseen(sum)) return { values: read(sum), result: () => share(sum) };
  const values: Values = allocate(sizeOf(like));
  if (sum) values.set(read(sum));
  return { values, result: () => make(like.shape, 'float32', values) };
}

export const mixtureKernels = {
  MixtureOfExperts({ x, router, input, output }, { active }, tools) {
    const { read, make, allocate } = tools;
    const [tokens, width] = x.shape as [number, number];
    const [experts, , units] = output.shape as [number, number, number];
    // In inference too: which experts a token has must not depend on the other tokens either.
    const [logits] = matmulKernels.Linears([x, router], {}, tools) as [TensorInfo];
    const choices = new Int32Array(tokens * active);
    const routing = allocate(2 + experts);
    nativeFunction(signatures.route)(tokens, experts, active, read(logits), choices, routing);
    const [kept, y] = [allocate(tokens * active * 2 * units), allocate(tokens * width)];
    nativeFunction(signatures.forward)(
      ...[tokens, width, units, experts, active],
      ...[read(x), read(input), read(output), read(logits), choices, kept, y],
    );
    return [
      make(x.shape, 'float32', y),
      make([2 + experts], 'float32', routing),
      make([tokens, active], 'int32', choices),
      logits,
      make([tokens * active, 2 * units], 'float32', kept),
    ];
  },

  MixtureOfExpertsGrad(inputs, { active, balanceWeight, zWeight, balanceCounts }, tools) {
    const { x, router, input, output, choices, logits, saved, dy, sumRouter, sumInput, sumOutput } = inputs;
    const { read, make, allocate } = tools;
    const [tokens, width] = x.shape as [number, number];
    const [experts, , units] = output.shape as [number, number, number];
    const dx = allocate(tokens * width);
    const [ofRouter, ofInput, ofOutput] = [
      target(router, sumRouter, tools),
      target(input, sumInput, tools),
      target(output, sumOutput, tools),
    ];
    const accumulate = (sumRouter ? 1 : 0) + (sumInput ? 2 : 0) + (sumOutput ? 4 : 0);
    nativeFunction(signatures.backward)(
      ...[tokens, width, units, experts, active, balanceWeight, zWeight, accumulate],
      balanceCounts ? Float64Array.from(balanceCounts) : null,
      ...[x, router, input, output, logits, choices, saved, dy].map(read),
      ...[dx, ofRouter.values, ofInput.values, ofOutput.values],
    );
    return [make(x.shape, 'float32', dx), ofRouter.result(), ofInput.result(), ofOutput.result()];
  },
} satisfies NativeKernels;
