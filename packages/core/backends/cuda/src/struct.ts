/**
 * Structs that kernels read, declared once on the host: a declaration gives the bytes that are written, and
 * compile.test.ts compares the kernels' own declaration of the same struct with it, field by field.
 */

import type { Argument } from './launch.js';
import { float32, int32 } from './numbers.js';

export type Scalar = 'pointer' | 'i64' | 'i32' | 'f32';
/** A scalar, or so many of them in a row. */
type Field = Scalar | readonly [Scalar, number];
export type StructFields = Readonly<Record<string, Field>>;
export type StructValues<F extends StructFields> = {
  [Name in keyof F]: F[Name] extends Scalar ? number : readonly number[];
};

const BYTES: Record<Scalar, number> = { pointer: 8, i64: 8, i32: 4, f32: 4 };

/** Where a field stands, in bytes from the start. */
interface Place {
  name: string;
  type: Scalar;
  count: number;
  offset: number;
}

export class Struct<const F extends StructFields> {
  /** sizeof, in bytes. */
  readonly size: number;
  readonly places: readonly Place[];

  /**
   * @param name of the struct in C++
   * @param fields in their order there
   */
  constructor(
    readonly name: string,
    fields: F,
  ) {
    let end = 0;
    this.places = Object.entries(fields).map(([field, declared]) => {
      const [type, count] = typeof declared === 'string' ? [declared, 1] : declared;
      const offset = roundUp(end, BYTES[type]);
      end = offset + BYTES[type] * count;
      return { name: field, type, count, offset };
    });
    this.size = roundUp(end, Math.max(...this.places.map(({ type }) => BYTES[type])));
  }

  /** Writes the struct at byte `at`. */
  write(view: DataView, at: number, values: StructValues<F>): void {
    for (const { name, type, count, offset } of this.places) {
      const value = values[name]!;
      if (typeof value === 'number') writeScalar(view, at + offset, type, value);
      else for (let i = 0; i < count; i++) writeScalar(view, at + offset + i * BYTES[type], type, value[i]!);
    }
  }

  /** One struct as a kernel's argument. */
  argument(values: StructValues<F>): Argument {
    return { bytes: new Uint8Array(this.array([values]).buffer) };
  }

  /** Structs one after another. */
  array(list: readonly StructValues<F>[]): DataView<ArrayBuffer> {
    const view = new DataView(new ArrayBuffer(list.length * this.size));
    for (const [i, values] of list.entries()) this.write(view, i * this.size, values);
    return view;
  }
}

function roundUp(n: number, step: number): number {
  return Math.ceil(n / step) * step;
}

function writeScalar(view: DataView, at: number, type: Scalar, value: number): void {
  if (type === 'f32') view.setFloat32(at, float32(value), true);
  else if (type === 'i32') view.setInt32(at, int32(value), true);
  else {
    view.setUint32(at, value >>> 0, true);
    view.setInt32(at + 4, Math.floor(value / 2 ** 32), true);
  }
}
