/** Softmax attention with FIRE's bias: its network is evaluated on the blocks of logits that plain_attention.ts makes. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { SoftmaxAttributes } from '../../../kernels.js';
import type { Scratch } from '../backend.js';
import { type Argument, i32, pointer } from '../driver.js';
import { type KernelCall, need } from './define.js';
import { blocksOf, plainSoftmax, plainSoftmaxGrad, shapeOf, WARPS } from './plain_attention.js';
import { sumPartials } from './reduce.js';

const FILE = 'fire.cu';
const NAMES = ['fireW1', 'fireB1', 'fireW2', 'fireB2', 'fireC', 'fireThreshold'] as const;
/** Four lanes' turns in fire_grad. */
const MOST_UNITS = 128;

export function servesFire(call: KernelCall): boolean {
  return need(call, 'fireW1').shape[0]! <= MOST_UNITS;
}

/** struct Fire of fire.cu. */
function fireArgument(call: KernelCall, scratch: Scratch): { argument: Argument; width: number } {
  const width = need(call, 'fireW1').shape[0]!;
  const view = new DataView(new ArrayBuffer(56));
  for (const [i, name] of NAMES.entries())
    view.setBigUint64(i * 8, BigInt(call.backend.f32(need(call, name), scratch)), true);
  view.setFloat32(48, (call.attrs as unknown as SoftmaxAttributes).fireInitialThreshold!, true);
  view.setInt32(52, width, true);
  return { argument: { bytes: new Uint8Array(view.buffer) }, width };
}

export function fireSoftmax(call: KernelCall): TensorInfo[] {
  return call.backend.withScratch((scratch) => {
    const { argument, width } = fireArgument(call, scratch);
    return plainSoftmax(call, { logits: addBias(call, argument, width) });
  });
}

export function fireSoftmaxGrad(call: KernelCall): TensorInfo[] {
  const { backend } = call;
  const shape = shapeOf(call);
  return backend.withScratch((scratch) => {
    const { argument, width } = fireArgument(call, scratch);
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
    const gradients = NAMES.map((name) => backend.make(need(call, name).shape, 'f32'));
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
