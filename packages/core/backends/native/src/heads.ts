/** The norm of each head's output and the remainder's learned vector on the C++ library. */
import { type NativeKernels, sizeOf } from './backend.js';
import { nativeFunction } from './library.js';

const sizes = 'int64_t rows, int64_t heads, int64_t headDim';

export const headKernels = {
  HeadNorm({ x, weight, bias }, attrs, { read, make, allocate }) {
    const [rows, heads, headDim] = x.shape as [number, number, number];
    const y = allocate(sizeOf(x));
    const mean = allocate(rows * heads);
    const inverseStd = allocate(rows * heads);
    const run = nativeFunction(
      `void sb_head_norm(${sizes}, float epsilon, void *x, void *weight, void *bias, void *y, void *mean, void *inverseStd)`,
    );
    run(rows, heads, headDim, attrs.epsilon, read(x), read(weight), read(bias), y, mean, inverseStd);
    return [
      make(x.shape, 'float32', y),
      make([rows, heads], 'float32', mean),
      make([rows, heads], 'float32', inverseStd),
    ];
  },

  HeadNormGrad({ x, weight, mean, inverseStd, dy }, _attrs, { read, make, allocate }) {
    const [rows, heads, headDim] = x.shape as [number, number, number];
    const dx = allocate(sizeOf(x));
    const dWeight = allocate(heads * headDim);
    const dBias = allocate(heads * headDim);
    const run = nativeFunction(
      `void sb_head_norm_grad(${sizes}, void *x, void *weight, void *mean, void *inverseStd, void *dy, void *dx, void *dWeight, void *dBias)`,
    );
    run(rows, heads, headDim, read(x), read(weight), read(mean), read(inverseStd), read(dy), dx, dWeight, dBias);
    return [make(x.shape, 'float32', dx), make(weight.shape, 'float32', dWeight), make(weight.shape, 'float32', dBias)];
  },

  RemainderBias({ output, remainder, bias }, _attrs, { read, make, allocate }) {
    const y = allocate(sizeOf(output));
    const run = nativeFunction(`void sb_remainder_bias(${sizes}, void *output, void *remainder, void *bias, void *y)`);
    run(...(output.shape as [number, number, number]), read(output), read(remainder), read(bias), y);
    return [make(output.shape, 'float32', y)];
  },

  RemainderBiasGrad({ remainder, bias, dy }, _attrs, { read, make, allocate }) {
    const dRemainder = allocate(sizeOf(remainder));
    const dBias = allocate(sizeOf(bias));
    const run = nativeFunction(
      `void sb_remainder_bias_grad(${sizes}, void *remainder, void *bias, void *dy, void *dRemainder, void *dBias)`,
    );
    run(...(dy.shape as [number, number, number]), read(remainder), read(bias), read(dy), dRemainder, dBias);
    return [make(remainder.shape, 'float32', dRemainder), make(bias.shape, 'float32', dBias)];
  },
} satisfies NativeKernels;
