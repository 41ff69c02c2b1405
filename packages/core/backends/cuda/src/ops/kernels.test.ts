/** Which kernels the backend has of its own, and which of tfjs's: the list changes on purpose alone. No GPU is opened. */
import { kernelNames } from '@stickbreaking/core/backend';
import { expect, it } from 'vitest';
import { cudaKernels } from './index.js';

it('has a kernel of its own for every one of the contract', () => {
  expect(Object.keys(cudaKernels.own).sort()).toEqual([...kernelNames].sort());
});

it("takes these of tfjs's own kernels over; the rest runs on the CPU and says so", () => {
  expect(Object.keys(cudaKernels.tfjs).sort()).toEqual([
    'Abs',
    'Add',
    'AddN',
    'BatchMatMul',
    'BroadcastTo',
    'Cast',
    'Concat',
    'Cumsum',
    'Equal',
    'Exp',
    'ExpandDims',
    'Fill',
    'GatherV2',
    'Greater',
    'GreaterEqual',
    'Identity',
    'Less',
    'LessEqual',
    'Log',
    'Log1p',
    'Max',
    'Maximum',
    'Mean',
    'Minimum',
    'Multiply',
    'Neg',
    'NotEqual',
    'OnesLike',
    'Pow',
    'RealDiv',
    'Reciprocal',
    'Relu',
    'Reshape',
    'Rsqrt',
    'Sigmoid',
    'Sign',
    'Slice',
    'Softmax',
    'Softplus',
    'SplitV',
    'Sqrt',
    'Square',
    'SquaredDifference',
    'Sub',
    'Sum',
    'Tanh',
    'Tile',
    'Transpose',
    'ZerosLike',
  ]);
});
