/** All kernels of the backend: those of this package and, separately, those of tfjs that it replaces. */
import type { BackendKernels } from '@stickbreaking/core/backend';
import type { KernelTools } from './backend.js';
import { decodeKernels } from './decode.js';
import { elementwiseKernels } from './elementwise.js';
import { headKernels } from './heads.js';
import { layerKernels } from './layers.js';
import { matmulKernels, tfjsMatmulKernels } from './matmul.js';
import { mixtureKernels } from './mixture.js';
import { rotaryKernels } from './rotary.js';
import { softmaxKernels } from './softmax.js';
import { stickBreakingKernels } from './stick_breaking.js';
import { trainingKernels } from './training.js';

export const nativeKernels = {
  own: {
    ...decodeKernels,
    ...headKernels,
    ...layerKernels,
    ...matmulKernels,
    ...mixtureKernels,
    ...rotaryKernels,
    ...softmaxKernels,
    ...stickBreakingKernels,
    ...trainingKernels,
  },
  tfjs: { ...elementwiseKernels, ...tfjsMatmulKernels },
} satisfies BackendKernels<KernelTools>;
