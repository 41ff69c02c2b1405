/** All kernels of the backend: those of this package and, separately, those of tfjs that it replaces. */
import type { BackendKernels } from '@stickbreaking/core/backend';
import type { CudaBackend } from '../backend.js';
import { attentionKernels } from './attention.js';
import { decodeKernels } from './decode.js';
import { tfjsElementwiseKernels } from './elementwise.js';
import { lossKernels } from './loss.js';
import { matmulKernels, tfjsMatmulKernels } from './matmul.js';
import { mixtureKernels } from './mixture.js';
import { normKernels } from './norms.js';
import { optimizerKernels } from './optimizer.js';
import { reduceKernels, tfjsReduceKernels } from './reduce.js';
import { rotaryKernels } from './rotary.js';
import { tfjsShapeKernels } from './shape.js';
import { transformerKernels } from './transformer.js';

export const cudaKernels = {
  own: {
    ...attentionKernels,
    ...decodeKernels,
    ...lossKernels,
    ...matmulKernels,
    ...mixtureKernels,
    ...normKernels,
    ...optimizerKernels,
    ...reduceKernels,
    ...rotaryKernels,
    ...transformerKernels,
  },
  tfjs: { ...tfjsElementwiseKernels, ...tfjsMatmulKernels, ...tfjsReduceKernels, ...tfjsShapeKernels },
} satisfies BackendKernels<CudaBackend>;
