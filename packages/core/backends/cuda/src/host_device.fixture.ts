/**
 * A device of host memory for tests of what the backend does around its kernels, where no GPU is: how matrices lie, which
 * matmuls are made over what, who owns which memory. It has matmuls and the few kernels that move matrices. Memory that
 * nothing wrote holds NaN, and memory given back does so again.
 */
import { CudaBackend } from './backend.js';
import type { Product } from './cublaslt.js';
import type { CudaDriver } from './driver.js';
import type { Argument } from './launch.js';

const BASE = 2 ** 20;
const ALIGNMENT = 256;
/** Types of numbers: storage.ts's F32 and BF16, and e4m3. */
const BYTES_OF = [4, 2, 1];
const E4M3 = 2;

/** The numbers of e4m3 from zero on, by their seven bits; the last is no number. */
const EIGHT_BITS = Float32Array.from({ length: 127 }, (_, code) => {
  const [exponent, mantissa] = [code >> 3, code & 7];
  return exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10);
});
const decode = (byte: number) => (byte & 128 ? -1 : 1) * EIGHT_BITS[byte & 127]!;
function encode(x: number): number {
  const size = Math.min(Math.abs(x), 448);
  const exponent = Math.max(Math.floor(Math.log2(size)), -6);
  const steps = Math.round(size / 2 ** (exponent - 3));
  const code = size < 2 ** -6 ? steps : (exponent + 7) * 8 + steps - 8;
  return x < 0 ? code | 128 : code;
}

/** A number's bits in bfloat16. */
function nearestEven(value: number): number {
  if (Number.isNaN(value)) return 0x7fff;
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

export class HostDevice {
  private readonly bytes: Uint8Array;
  private readonly floats: Float32Array;
  private readonly halves: Uint16Array;
  private readonly sizes = new Map<number, number>();
  private top = BASE;
  /** Matmuls so far. */
  readonly products: Product[] = [];
  readonly backend: CudaBackend;

  /** @param bytes of its memory, which is taken for as long as the process lives: TensorFlow.js knows its variables for ever */
  constructor(bytes = 64 * 2 ** 20) {
    this.bytes = new Uint8Array(bytes).fill(0xff);
    this.floats = new Float32Array(this.bytes.buffer);
    this.halves = new Uint16Array(this.bytes.buffer);
    const driver = {
      allocate: (bytes: number) => this.allocate(bytes),
      release: (address: number) => this.release(address),
      call: (name: string, ...args: unknown[]) => this.call(name, args),
      synchronize: () => {},
      trim: () => {},
      elsewhere: 0,
      stream: 0,
      createUrgentStream: () => 1,
      createStream: () => 2,
      allocatePinned: (bytes: number) => new ArrayBuffer(bytes),
      createEvent: () => 0,
      recordEvent: () => {},
      waitEvent: () => {},
      eventDone: () => true,
      computeCapability: 90,
    } as unknown as CudaDriver;
    const cublas = {
      version: 'none',
      multiply: (...args: [number, number, number, Product]) => this.multiply(...args),
    };
    this.backend = new CudaBackend(driver, { cublas });
    const uploads = { upload: (address: number, values: ArrayBufferView) => this.write(address, values) };
    Object.assign(this.backend, {
      uploads,
      launch: (_file: string, name: string, shape: unknown, args: Argument[]) => this.launch(name, shape, args),
    });
  }

  /** Blocks of memory in use. */
  get blocks(): number {
    return this.sizes.size;
  }

  allocate(bytes: number): number {
    const address = this.top;
    this.sizes.set(address, bytes);
    this.top += Math.ceil(Math.max(bytes, 16) / ALIGNMENT) * ALIGNMENT;
    if (this.top - BASE > this.bytes.length) throw new Error('the host device is full');
    return address;
  }

  private release(address: number): void {
    const bytes = this.sizes.get(address);
    if (bytes === undefined) throw new Error(`${address} was given back twice, or is no block`);
    this.sizes.delete(address);
    this.bytes.fill(0xff, address - BASE, address - BASE + bytes);
  }

  private write(address: number, values: ArrayBufferView): void {
    this.bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), address - BASE);
  }

  private call(name: string, args: unknown[]): void {
    if (name === 'cuMemcpyDtoHAsync_v2') {
      const [values, address] = args as [ArrayBufferView, number];
      const to = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      to.set(this.memory(address, to.length));
    } else if (name === 'cuMemcpyDtoDAsync_v2') {
      const [to, from, bytes] = args as [number, number, number];
      this.memory(to, bytes).set(this.memory(from, bytes));
    } else if (name === 'cuMemsetD8Async') {
      const [to, value, bytes] = args as [number, number, number];
      this.memory(to, bytes).fill(value);
    } else if (name !== 'cuEventDestroy_v2') throw new Error(`the host device does not know ${name}`);
  }

  /** Bytes of device memory, as they are and to be changed. */
  memory(address: number, bytes: number): Uint8Array {
    return this.bytes.subarray(address - BASE, address - BASE + bytes);
  }

  /** A number of a type at an index from an address. */
  private get(address: number, type: number, index: number): number {
    const at = (address - BASE) / BYTES_OF[type]! + index;
    if (type === 0) return this.floats[at]!;
    if (type === E4M3) return decode(this.bytes[at]!);
    return new Float32Array(Uint32Array.of(this.halves[at]! << 16).buffer)[0]!;
  }
  private set(address: number, type: number, index: number, value: number): void {
    const at = (address - BASE) / BYTES_OF[type]! + index;
    if (type === 0) this.floats[at] = value;
    else if (type === E4M3) this.bytes[at] = encode(value);
    else this.halves[at] = nearestEven(value);
  }

  private multiply(a: number, b: number, c: number, product: Product): void {
    this.products.push(product);
    const { m, n, k, transposeA, transposeB, output, scales, beta = 0 } = product;
    const { lda = transposeA ? m : k, ldb = transposeB ? k : n, ldc = n } = product;
    const type = output === 'f32' ? 0 : 1;
    const input = scales ? E4M3 : 1;
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let l = 0; l < k; l++) {
          const left = this.get(a, input, transposeA ? l * lda + i : i * lda + l);
          sum += left * this.get(b, input, transposeB ? j * ldb + l : l * ldb + j);
        }
        if (scales) sum *= this.get(scales.a, 0, i) * this.get(scales.b, 0, j);
        if (beta) sum += this.get(c, type, i * ldc + j);
        this.set(c, type, i * ldc + j, sum);
      }
  }

  private launch(name: string, shape: unknown, args: Argument[]): void {
    const kernel = kernels[name];
    if (!kernel) throw new Error(`the host device has no kernel ${name}`);
    const numbers = args.map((arg) => Object.values(arg)[0] as number);
    const blocks = (shape as { grid: readonly number[] }).grid[0]!;
    kernel(numbers, this.get.bind(this), this.set.bind(this), blocks);
  }
}

type Kernel = (args: number[], get: HostDevice['get'], set: HostDevice['set'], blocks: number) => void;

/** `count` numbers in eight bits from `to` on, zeros beyond `own`; their scale. */
function quantize(
  to: number,
  values: (i: number) => number,
  own: number,
  count: number,
  set: HostDevice['set'],
): number {
  const all = Array.from({ length: count }, (_, i) => (i < own ? values(i) : 0));
  const scale = Math.max(...all.map(Math.abs)) / 448 || 1;
  all.forEach((value, i) => {
    set(to, E4M3, i, value / scale);
  });
  return scale;
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

const kernels: Record<string, Kernel> = {
  copy_rows: ([y, yColumns, yRows, x, stride, columns, rows, bytes], get, set) => {
    const type = BYTES_OF.indexOf(bytes!);
    for (let r = 0; r < yRows!; r++)
      for (let c = 0; c < yColumns!; c++)
        set(y!, type, r * yColumns! + c, r < rows! && c < columns! ? get(x!, type, r * stride! + c) : 0);
  },
  cast_to_bf16: ([y, x, n], get, set) => {
    for (let i = 0; i < n!; i++) set(y!, 1, i, get(x!, 0, i));
  },
  add_f32: ([y, a, b, n], get, set) => {
    for (let i = 0; i < n!; i++) set(y!, 0, i, get(a!, 0, i) + get(b!, 0, i));
  },
  ordered_sum: ([sum, parts, count, number, goOn], get, set) => {
    for (let i = 0; i < count!; i++) {
      let total = goOn ? get(sum!, 0, i) : get(parts!, 0, i);
      for (let p = goOn ? 0 : 1; p < number!; p++) total = Math.fround(total + get(parts!, 0, p * count! + i));
      set(sum!, 0, i, total);
    }
  },
  ordered_sum_bf16: ([sum, parts, count, number, goOn], get, set) => {
    for (let i = 0; i < count!; i++) {
      let total = goOn ? get(sum!, 0, i) : get(parts!, 1, i);
      for (let p = goOn ? 0 : 1; p < number!; p++) total = Math.fround(total + get(parts!, 1, p * count! + i));
      set(sum!, 0, i, total);
    }
  },
  copy_cast: ([y, yType, x, xType, n], get, set) => {
    for (let i = 0; i < n!; i++) set(y!, yType!, i, get(x!, xType!, i));
  },
  rowwise16: ([y, yStride, x, xStride, weight, wStride, rows, outs, width], get, set) => {
    for (let r = 0; r < rows!; r++)
      for (let o = 0; o < outs!; o++) {
        let sum = 0;
        for (let k = 0; k < width!; k++) sum += get(x!, 1, r * xStride! + k) * get(weight!, 1, o * wStride! + k);
        set(y!, 1, r * yStride! + o, sum);
      }
  },
  fill: ([y, type, value, n], _get, set) => {
    for (let i = 0; i < n!; i++) set(y!, type!, i, value!);
  },
  quantize_rows1: ([y, scales, x, stride, columns, width], get, set, blocks) => {
    for (let r = 0; r < blocks; r++) {
      const scale = quantize(y! + r * width!, (c) => get(x!, 1, r * stride! + c), columns!, width!, set);
      set(scales!, 0, r, scale);
    }
  },
  weight_maxima: () => {},
  quantize_weight: (args, get, set) => {
    const [byRow, rowScales, byColumn, columnScales, , , w, stride, rows, columns, width, turnedWidth] = args as [
      ...[number, number, number, number, number, number, number, number, number, number, number, number],
    ];
    const at = (r: number, c: number) => get(w, 1, r * stride + c);
    for (let r = 0; r < rows; r++)
      set(
        rowScales,
        0,
        r,
        quantize(byRow + r * width, (c) => at(r, c), columns, width, set),
      );
    for (let c = 0; c < columns; c++)
      set(
        columnScales,
        0,
        c,
        quantize(byColumn + c * turnedWidth, (r) => at(r, c), rows, turnedWidth, set),
      );
  },
  swiglu: ([y, yStride, gate, gateStride, up, upStride, rows, columns], get, set) => {
    for (let r = 0; r < rows!; r++)
      for (let c = 0; c < columns!; c++) {
        const g = get(gate!, 1, r * gateStride! + c);
        set(y!, 1, r * yStride! + c, g * sigmoid(g) * get(up!, 1, r * upStride! + c));
      }
  },
  swiglu_grad: ([dGate, dUp, dStride, gate, gateStride, up, upStride, dy, dyStride, rows, columns], get, set) => {
    for (let r = 0; r < rows!; r++)
      for (let c = 0; c < columns!; c++) {
        const [g, u] = [get(gate!, 1, r * gateStride! + c), get(up!, 1, r * upStride! + c)];
        const [d, s] = [get(dy!, 1, r * dyStride! + c), sigmoid(g)];
        set(dGate!, 1, r * dStride! + c, d * u * (s + g * s * (1 - s)));
        set(dUp!, 1, r * dStride! + c, d * g * s);
      }
  },
};
