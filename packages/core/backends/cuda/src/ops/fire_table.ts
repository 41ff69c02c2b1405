/**
 * FIRE's bias for the fused kernels: piecewise linear in the network's one input, so a table of knots and lines made once
 * a call takes the network's place (fire_table.cuh), and sums by segment become the gradients of its parameters.
 */
import { fireInputsOf, type KernelInputs, type SoftmaxAttributes } from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { FIRE_NETWORK, FIRE_SUMS, FIRE_TABLE, MOST_UNITS, THREADS } from '../kernel_interface.js';
import { type Argument, pointer } from '../launch.js';
import type { Scratch } from '../scratch.js';
import { sumPartials } from './reduce.js';

const FILE = 'fire_table.cu';
/** A call of a softmax kernel with FIRE's bias: the network's six tensors in their order. */
export interface FireCall {
  tensors: readonly TensorInfo[];
  initialThreshold: number;
  units: number;
  heads: number;
}

export function fireCall(inputs: KernelInputs<'SoftmaxAttention'>, attrs: SoftmaxAttributes): FireCall {
  const tensors = fireInputsOf(inputs);
  const [heads, units] = inputs.fireW2!.shape as [number, number];
  return { tensors, initialThreshold: attrs.fireInitialThreshold!, units, heads };
}

/** Sums that a warp keeps for one head: of every segment and of every knot. */
export function sumsOf(units: number): number {
  return (2 * units + 1) * FIRE_SUMS;
}

export function networkArgument(fire: FireCall, backend: CudaBackend, scratch: Scratch): Argument {
  const [w1, b1, w2, b2, c, threshold] = fire.tensors.map((tensor) => backend.f32(tensor, scratch));
  const addresses = { w1: w1!, b1: b1!, w2: w2!, b2: b2!, c: c!, threshold: threshold! };
  return FIRE_NETWORK.argument({ ...addresses, initialThreshold: fire.initialThreshold, width: fire.units });
}

/** New tensors for the gradients of the six parameters, in their order. */
export function parameterGradients(fire: FireCall, backend: CudaBackend): TensorInfo[] {
  return fire.tensors.map(({ shape }) => backend.make(shape, 'f32'));
}

export class FireTable {
  readonly units: number;
  /** Device address. */
  readonly table: number;
  private readonly network: Argument;
  private readonly structure: Argument;
  private readonly heads: number;

  constructor(
    private readonly call: FireCall,
    private readonly backend: CudaBackend,
    private readonly scratch: Scratch,
  ) {
    this.units = call.units;
    this.heads = call.heads;
    this.table = scratch.allocate((4 + 2 * this.heads * (this.units + 1) + 3 * this.units) * 4);
    this.network = networkArgument(call, backend, scratch);
    this.structure = FIRE_TABLE.argument({ data: this.table, units: this.units, heads: this.heads });
    backend.launch(FILE, 'fire_table', { grid: [this.heads], block: MOST_UNITS }, [this.structure, this.network]);
  }

  /** Room for the sums of `blocks` blocks of the queries' backward, [blocks, H, 2W + 1, 4]. */
  partialSums(blocks: number): number {
    return this.scratch.allocate(blocks * this.heads * sumsOf(this.units) * 4);
  }

  gradients(partials: number, blocks: number): TensorInfo[] {
    const { backend } = this;
    const columns = this.heads * sumsOf(this.units);
    const sums = this.scratch.allocate(columns * 4);
    sumPartials(backend, sums, partials, blocks, columns);
    const gradients = parameterGradients(this.call, backend);
    const out = gradients.map((one) => pointer(backend.address(one)));
    const args = [...out, pointer(sums), this.structure, this.network];
    backend.launch(FILE, 'fire_gradients', { grid: [1], block: THREADS }, args);
    return gradients;
  }
}
