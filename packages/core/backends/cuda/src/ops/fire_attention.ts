/** Softmax attention with FIRE's bias: its network is evaluated on the blocks of logits that plain_attention.ts makes. */

import type { SoftmaxAttributes } from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { type Argument, i32, pointer } from '../driver.js';
import type { KernelCall } from './define.js';
import { MOST_UNITS, networkArgument, parameterGradients, unitsOf } from './fire_table.js';
import { blocksOf, plainSoftmax, plainSoftmaxGrad, shapeOf, WARPS } from './plain_attention.js';
import { sumPartials } from './reduce.js';

const FILE = 'fire.cu';

export function servesFire(call: KernelCall): boolean {
  return unitsOf(call) <= MOST_UNITS;
}

export function fireSoftmax(call: KernelCall): TensorInfo[] {
  return call.backend.withScratch((scratch) => {
    const width = unitsOf(call);
    const argument = networkArgument(call, scratch);
    return plainSoftmax(call, { logits: addBias(call, argument, width) });
  });
}

export function fireSoftmaxGrad(call: KernelCall): TensorInfo[] {
  const { backend } = call;
  const shape = shapeOf(call);
  return backend.withScratch((scratch) => {
    const width = unitsOf(call);
    const argument = networkArgument(call, scratch);
    const columns = 3 * width + 3;
    const window = i32((call.attrs as unknown as SoftmaxAttributes).window ?? 0);
    // One line of sums for each run of rows and kv head, by the number of the query head in its group.
    let lines = 0;
    for (const { rows } of blocksOf(shape)) lines += Math.ceil(rows / WARPS);
    const bytes = lines * shape.kvHeads * columns * 4;
    const partials = Array.from({ length: shape.group }, () => scratch.allocate(bytes));
    const filled = partials.map(() => 0);
    const [dq, dk, dv] = plainSoftmaxGrad(call, {
      logits: addBias(call, argument, width),
      gradient: (grid, block, dLogits, g) => {
        const at = partials[g]! + filled[g]! * shape.kvHeads * columns * 4;
        filled[g]! += grid[0];
        const shared = (3 * width + WARPS * columns) * 4;
        const args = [pointer(at), pointer(dLogits), argument, block, window];
        backend.launch(FILE, 'fire_grad', { grid, block: WARPS * 32, shared }, args);
      },
    });
    const sums = scratch.allocate(shape.heads * columns * 4);
    for (const [g, partial] of partials.entries()) {
      const to = sums + g * shape.kvHeads * columns * 4;
      sumPartials(backend, to, partial, lines, shape.kvHeads * columns);
    }
    const gradients = parameterGradients(call);
    const out = gradients.map((one) => pointer(backend.address(one)));
    const args = [...out, pointer(sums), argument, i32(shape.kvHeads), i32(shape.group)];
    backend.launch(FILE, 'fire_combine', { grid: [1], block: 256 }, args);
    return [dq!, dk!, dv!, ...gradients];
  });
}

function addBias(call: KernelCall, fire: Argument, width: number) {
  const window = i32((call.attrs as unknown as SoftmaxAttributes).window ?? 0);
  return (grid: readonly [number, number], block: Argument, logits: number) =>
    call.backend.launch(FILE, 'fire_bias', { grid, block: WARPS * 32, shared: 3 * width * 4 }, [
      pointer(logits),
      fire,
      block,
      window,
    ]);
}
