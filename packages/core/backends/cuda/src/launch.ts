/** A kernel's launch as the driver reads it: its shape, and its arguments in memory that stays. */
import koffi from 'koffi';
import { float32, int32, int64 } from './numbers.js';

/** A kernel's argument: a pointer or 64-bit integer, a 32-bit integer, a float, or a struct's bytes. */
export type Argument =
  | { pointer: number }
  | { i64: number }
  | { i32: number }
  | { f32: number }
  | { bytes: Uint8Array };
export const pointer = (value: number): Argument => ({ pointer: value });
export const i64 = (value: number): Argument => ({ i64: int64(value) });
export const i32 = (value: number): Argument => ({ i32: int32(value) });
export const f32 = (value: number): Argument => ({ f32: float32(value) });

export interface LaunchShape {
  grid: readonly [number, number?, number?];
  block: number | readonly [number, number?, number?];
  /** Dynamic shared memory in bytes. */
  shared?: number;
  /**
   * Begin while the kernel before still runs, if that is such a one too: the kernel itself waits where it must (common.cuh).
   * So nothing that it reads before may be written by one that is not launched so.
   */
  early?: boolean;
}

export interface CudaFunction {
  readonly name: string;
  readonly handle: number;
  sharedLimit: number;
}

const MAX_ARGUMENTS = 64;
/** Bytes set aside for arguments passed as whole structs. */
const STRUCT_SPACE = 4096;
/** CUlaunchConfig, CUlaunchAttribute and the attribute that lets a kernel begin early, of cuda.h. */
const LAUNCH_CONFIG_BYTES = 56;
const LAUNCH_ATTRIBUTE_BYTES = 72;
const PROGRAMMATIC_STREAM_SERIALIZATION = 6;

/** Where the driver reads one launch at a time; it copies the arguments before it returns. */
export class LaunchMemory {
  private readonly parameters = koffi.alloc('uint64', MAX_ARGUMENTS * 2 + STRUCT_SPACE / 8) as bigint;
  private readonly parameterBytes: Uint8Array;
  private readonly parameterView: DataView;
  /** The arguments whose pointers do not stand at their own eight bytes. */
  private readonly moved = new Set<number>();
  private readonly config = koffi.alloc('uint8', LAUNCH_CONFIG_BYTES + LAUNCH_ATTRIBUTE_BYTES) as bigint;
  private readonly configView: DataView;

  constructor() {
    const bytes = koffi.view(this.parameters, MAX_ARGUMENTS * 16 + STRUCT_SPACE);
    this.parameterBytes = new Uint8Array(bytes);
    this.parameterView = new DataView(bytes);
    for (let i = 0; i < MAX_ARGUMENTS; i++) this.pointAt(i, i * 8);
    this.configView = new DataView(koffi.view(this.config, LAUNCH_CONFIG_BYTES + LAUNCH_ATTRIBUTE_BYTES));
  }

  /**
   * @returns the address of the pointers to the arguments
   * @throws where there are more than have room: the next would lie in the table of pointers
   */
  writeArguments(args: readonly Argument[]): number {
    if (args.length > MAX_ARGUMENTS)
      throw new Error(`a kernel has ${args.length} arguments, and ${MAX_ARGUMENTS} have room.`);
    const view = this.parameterView;
    let structs = MAX_ARGUMENTS * 16;
    for (let i = 0; i < args.length; i++) {
      const a = args[i]!;
      if ('i32' in a) view.setInt32(i * 8, a.i32, true);
      else if ('f32' in a) view.setFloat32(i * 8, a.f32, true);
      else if ('bytes' in a) {
        this.parameterBytes.set(a.bytes, structs);
        this.pointAt(i, structs);
        structs += Math.ceil(a.bytes.length / 64) * 64;
        continue;
      } else {
        const value = 'pointer' in a ? a.pointer : a.i64;
        view.setUint32(i * 8, value >>> 0, true);
        view.setInt32(i * 8 + 4, Math.floor(value / 2 ** 32), true);
      }
      if (this.moved.has(i)) this.pointAt(i, i * 8);
    }
    return Number(this.parameters) + MAX_ARGUMENTS * 8;
  }

  private pointAt(i: number, offset: number): void {
    this.parameterView.setBigUint64((MAX_ARGUMENTS + i) * 8, this.parameters + BigInt(offset), true);
    if (offset === i * 8) this.moved.delete(i);
    else this.moved.add(i);
  }

  /**
   * The launch of a kernel that may begin early.
   *
   * @param sizes of the grid, of the block, and of shared memory
   * @returns the address of the configuration
   */
  writeEarly(sizes: readonly number[], stream: number): number {
    const view = this.configView;
    for (const [i, size] of sizes.entries()) view.setUint32(i * 4, size, true);
    view.setBigUint64(32, BigInt(stream), true);
    view.setBigUint64(40, this.config + BigInt(LAUNCH_CONFIG_BYTES), true);
    view.setUint32(48, 1, true);
    view.setUint32(LAUNCH_CONFIG_BYTES, PROGRAMMATIC_STREAM_SERIALIZATION, true);
    view.setInt32(LAUNCH_CONFIG_BYTES + 8, 1, true);
    return Number(this.config);
  }
}
