/**
 * FIRE's bias for the fused kernels: piecewise linear in the network's one input, so a table of knots and lines made once
 * a call takes the network's place (fire_table.cuh), and sums by segment become the gradients of its parameters.
 */

import type { SoftmaxAttributes } from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { Scratch } from '../backend.js';
import { type Argument, pointer } from '../driver.js';
import { type KernelCall, need } from './define.js';
import { sumPartials } from './reduce.js';

const FILE = 'fire_table.cu';
const NAMES = ['fireW1', 'fireB1', 'fireW2', 'fireB2', 'fireC', 'fireThreshold'] as const;
/** Threads of fire_table, one a unit. */
export const MOST_UNITS = 128;
/** Floats of a segment's or a knot's sums. */
const SUMS = 4;

export function unitsOf(call: KernelCall): number {
  return need(call, 'fireW1').shape[0]!;
}

/** Sums that a warp keeps for one head: of every segment and of every knot. */
export function sumsOf(units: number): number {
  return (2 * units + 1) * SUMS;
}

/** struct Network of fire_table.cu, and struct Fire of fire.cu. */
export function networkArgument(call: KernelCall, scratch: Scratch): Argument {
  const view = new DataView(new ArrayBuffer(56));
  for (const [i, name] of NAMES.entries())
    view.setBigUint64(i * 8, BigInt(call.backend.f32(need(call, name), scratch)), true);
  view.setFloat32(48, (call.attrs as unknown as SoftmaxAttributes).fireInitialThreshold!, true);
  view.setInt32(52, unitsOf(call), true);
  return { bytes: new Uint8Array(view.buffer) };
}

/** New tensors for the gradients of the six parameters, in their order. */
export function parameterGradients(call: KernelCall): TensorInfo[] {
  return NAMES.map((name) => call.backend.make(need(call, name).shape, 'f32'));
}

export class FireTable {
  readonly units: number;
  /** Device address. */
  readonly table: number;
  private readonly network: Argument;
  private readonly structure: Argument;
  private readonly heads: number;

  constructor(
    private readonly call: KernelCall,
    private readonly scratch: Scratch,
  ) {
    const { backend } = call;
    this.units = unitsOf(call);
    this.heads = need(call, 'fireW2').shape[0]!;
    this.table = scratch.allocate((4 + 2 * this.heads * (this.units + 1) + 3 * this.units) * 4);
    this.network = networkArgument(call, scratch);
    const view = new DataView(new ArrayBuffer(16));
    view.setBigUint64(0, BigInt(this.table), true);
    view.setInt32(8, this.units, true);
    view.setInt32(12, this.heads, true);
    this.structure = { bytes: new Uint8Array(view.buffer) };
    backend.launch(FILE, 'fire_table', { grid: [this.heads], block: MOST_UNITS }, [this.structure, this.network]);
  }

  /** Room for the sums of `blocks` blocks of the queries' backward, [blocks, H, 2W + 1, 4]. */
  partialSums(blocks: number): number {
    return this.scratch.allocate(blocks * this.heads * sumsOf(this.units) * 4);
  }

  gradients(partials: number, blocks: number): TensorInfo[] {
    const { backend } = this.call;
    const columns = this.heads * sumsOf(this.units);
    const sums = this.scratch.allocate(columns * 4);
    sumPartials(backend, sums, partials, blocks, columns);
    const gradients = parameterGradients(this.call);
    const out = gradients.map((one) => pointer(backend.address(one)));
    const args = [...out, pointer(sums), this.structure, this.network];
    backend.launch(FILE, 'fire_gradients', { grid: [1], block: 256 }, args);
    return gradients;
  }
}
