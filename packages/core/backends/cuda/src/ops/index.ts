/** Every kernel of the backend, then the CPU's for the rest. */
import { attentionKernels } from './attention.js';
import { registerTable } from './define.js';
import { elementwiseKernels } from './elementwise.js';
import { registerFallbacks } from './fallback.js';
import { lossKernels } from './loss.js';
import { matmulKernels } from './matmul.js';
import { normKernels } from './norms.js';
import { optimizerKernels } from './optimizer.js';
import { reduceKernels } from './reduce.js';
import { rotaryKernels } from './rotary.js';
import { shapeKernels } from './shape.js';
import { transformerKernels } from './transformer.js';

export function registerKernels(): void {
  for (const table of [
    elementwiseKernels,
    shapeKernels,
    reduceKernels,
    matmulKernels,
    normKernels,
    rotaryKernels,
    transformerKernels,
    lossKernels,
    attentionKernels,
    optimizerKernels,
  ])
    registerTable(table);
  registerFallbacks();
}
