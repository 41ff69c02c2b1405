/** Softmax attention with FIRE's bias: its network is evaluated on the blocks of logits of plain_attention.ts. */
import type { KernelInputs } from '@stickbreaking/core/backend';
import type { CudaBackend } from '../backend.js';
import { MOST_UNITS, THREADS } from '../kernel_interface.js';
import { type Argument, i32, pointer } from '../launch.js';
import type { CudaKernel } from './define.js';
import { fireCall, networkArgument, parameterGradients } from './fire_table.js';
import { plainSoftmax, plainSoftmaxGrad, WARPS } from './plain_attention.js';
import { blocksOf, shapeOf } from './plain_blocks.js';
import { sumPartials } from './reduce.js';

const FILE = 'fire.cu';

export function servesFire({ fireW1 }: KernelInputs<'SoftmaxAttention'>): boolean {
  return fireW1!.shape[0]! <= MOST_UNITS;
}

export const fireSoftmax: CudaKernel<'SoftmaxAttention'> = (inputs, attrs, backend) =>
  backend.withScratch((scratch) => {
    const fire = fireCall(inputs, attrs);
    const argument = networkArgument(fire, backend, scratch);
    return plainSoftmax(inputs, attrs, backend, { logits: addBias(backend, attrs.window, argument, fire.units) });
  });

export const fireSoftmaxGrad: CudaKernel<'SoftmaxAttentionGrad'> = (inputs, attrs, backend) => {
  const shape = shapeOf(inputs, attrs);
  return backend.withScratch((scratch) => {
    const fire = fireCall(inputs, attrs);
    const argument = networkArgument(fire, backend, scratch);
    const columns = 3 * fire.units + 3;
    const window = i32(attrs.window);
    // One line of sums for each run of rows and kv head, by the number of the query head in its group.
    let lines = 0;
    for (const { rows } of blocksOf(shape)) lines += Math.ceil(rows / WARPS);
    const bytes = lines * shape.kvHeads * columns * 4;
    const partials = Array.from({ length: shape.group }, () => scratch.allocate(bytes));
    const filled = partials.map(() => 0);
    const [dq, dk, dv] = plainSoftmaxGrad(inputs, attrs, backend, {
      logits: addBias(backend, attrs.window, argument, fire.units),
      gradient: (grid, block, dLogits, g) => {
        const at = partials[g]! + filled[g]! * shape.kvHeads * columns * 4;
        filled[g]! += grid[0];
        const shared = (3 * fire.units + WARPS * columns) * 4;
        const args = [pointer(at), pointer(dLogits), argument, block, window];
        backend.launch(FILE, 'fire_grad', { grid, block: WARPS * 32, shared }, args);
      },
    });
    const sums = scratch.allocate(shape.heads * columns * 4);
    for (const [g, partial] of partials.entries()) {
      const to = sums + g * shape.kvHeads * columns * 4;
      sumPartials(backend, to, partial, lines, shape.kvHeads * columns);
    }
    const gradients = parameterGradients(fire, backend);
    const out = gradients.map((one) => pointer(backend.address(one)));
    const args = [...out, pointer(sums), argument, i32(shape.kvHeads), i32(shape.group)];
    backend.launch(FILE, 'fire_combine', { grid: [1], block: THREADS }, args);
    return [dq, dk, dv, ...gradients];
  });
};

function addBias(backend: CudaBackend, window: number, fire: Argument, units: number) {
  return (grid: readonly [number, number], block: Argument, logits: number) =>
    backend.launch(FILE, 'fire_bias', { grid, block: WARPS * 32, shared: 3 * units * 4 }, [
      pointer(logits),
      fire,
      block,
      i32(window),
    ]);
}
