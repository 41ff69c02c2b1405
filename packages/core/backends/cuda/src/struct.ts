/**
 * Structs that kernels read, declared once: from a declaration come the bytes that the host writes and the C++ that holds
 * the kernels' own declaration of the same struct to it, field by field, wherever the kernels are compiled.
 */

import type { Argument } from './driver.js';
import { float32, int32 } from './numbers.js';

type Scalar = 'pointer' | 'i64' | 'i32' | 'f32';
/** A scalar, or so many of them in a row. */
type Field = Scalar | readonly [Scalar, number];
export type StructFields = Readonly<Record<string, Field>>;
export type StructValues<F extends StructFields> = {
  [Name in keyof F]: F[Name] extends Scalar ? number : readonly number[];
};

const BYTES: Record<Scalar, number> = { pointer: 8, i64: 8, i32: 4, f32: 4 };
const CPP: Record<Scalar, string> = { pointer: 'void*', i64: 'long long', i32: 'int', f32: 'float' };

interface Place {
  name: string;
  type: Scalar;
  count: number;
  offset: number;
}

export class Struct<const F extends StructFields> {
  /** sizeof, in bytes. */
  readonly size: number;
  private readonly places: readonly Place[];

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

  /** C++ that compiles where the struct there has these fields and no others. */
  assertions(): string {
    const lines = this.places.map(({ name, type, count, offset }) => {
      const member = `${this.name}::${name}`;
      const declared = count === 1 ? CPP[type] : `${CPP[type]}[${count}]`;
      return `static_assert(__builtin_offsetof(${this.name}, ${name}) == ${offset} && host::same<host::plain<decltype(${member})>::type, ${declared}>::value, "${member} is not what the host writes");`;
    });
    const size = `static_assert(sizeof(${this.name}) == ${this.size}, "${this.name} is not as large as the host's");`;
    return [...lines, size].join('\n');
  }
}

/** What `assertions` needs: types compared, and every pointer taken for one to void. */
export const ASSERTION_PRELUDE = `namespace host {
template <class A, class B> struct same { static constexpr bool value = false; };
template <class A> struct same<A, A> { static constexpr bool value = true; };
template <class A> struct plain { using type = A; };
template <class A> struct plain<A*> { using type = void*; };
}`;

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
