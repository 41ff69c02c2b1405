/** The elementwise operations of tfjs that elementwise.cu has, each at the number that it has there. */
import type { TfjsKernelName } from '@stickbreaking/core/backend';

export const BINARY = [
  'Add',
  'Sub',
  'Multiply',
  'RealDiv',
  'Maximum',
  'Minimum',
  'Greater',
  'GreaterEqual',
  'Less',
  'LessEqual',
  'Equal',
  'NotEqual',
  'SquaredDifference',
  'Pow',
] as const satisfies readonly TfjsKernelName[];

export const UNARY = [
  'Neg',
  'Exp',
  'Log',
  'Sqrt',
  'Rsqrt',
  'Square',
  'Abs',
  'Relu',
  'Sigmoid',
  'Tanh',
  'Softplus',
  'Reciprocal',
  'Log1p',
  'Sign',
] as const satisfies readonly TfjsKernelName[];
