import type { ReferenceKernel } from '../kernels.js';
import { bfloat16 } from './fewer_bits.js';

export const toBfloat16: ReferenceKernel<'ToBfloat16'> = ({ x }) => [bfloat16(x)];
