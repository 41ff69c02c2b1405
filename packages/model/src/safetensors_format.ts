/**
 * The safetensors format (https://github.com/huggingface/safetensors): eight bytes of header length, a JSON header,
 * tensors. A header is trusted only after everything in it has been checked against the file.
 */
import { EXIT, UserError } from '@stickbreaking/base';

/** The format's own limit: no program reads more. */
const MAX_HEADER_BYTES = 100_000_000;

const bytesOf = { F32: 4, F16: 2, BF16: 2 } as const;
export type Dtype = keyof typeof bytesOf;

/** Where a tensor lies. */
export interface Entry {
  dtype: Dtype;
  shape: number[];
  /** Offsets into the file. */
  begin: number;
  end: number;
}

export interface SafetensorsHeader {
  entries: Map<string, Entry>;
  metadata: Record<string, string>;
}

const faultOf = (path: string) => (text: string) =>
  new UserError(`${path} is not a valid safetensors file: ${text}.`, { exitCode: EXIT.refused });

/**
 * Bytes of the header, which begins at the ninth byte.
 *
 * @param first the file's first eight bytes
 * @param size the file's length in bytes
 */
export function headerLength(first: Uint8Array, size: number, path: string): number {
  const fault = faultOf(path);
  if (size < 8) throw fault(`it has ${size} bytes, fewer than its length field`);
  const length = new DataView(first.buffer, first.byteOffset).getBigUint64(0, true);
  if (length > BigInt(size - 8)) throw fault(`its header claims ${length} bytes, but only ${size - 8} follow`);
  if (length > MAX_HEADER_BYTES)
    throw fault(`its header claims ${length} bytes; the format allows ${MAX_HEADER_BYTES}`);
  return Number(length);
}

/** @param bytes the whole header */
export function parseHeader(bytes: Uint8Array, size: number, path: string): SafetensorsHeader {
  const fault = faultOf(path);
  const start = 8 + bytes.length;
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw fault(`its header is not JSON (${(error as Error).message})`);
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    throw fault('its header is not an object');
  const { __metadata__: metadata = {}, ...tensors } = header as Record<string, unknown>;
  const entries = new Map<string, Entry>();
  for (const [name, claim] of Object.entries(tensors)) entries.set(name, checkEntry(name, claim, start, fault));
  checkLayout(entries, start, size, fault);
  return { entries, metadata: metadata as Record<string, string> };
}

function checkEntry(name: string, claim: unknown, start: number, fault: (text: string) => Error): Entry {
  const { dtype, shape, data_offsets: offsets } = (claim ?? {}) as Record<string, unknown>;
  if (!(typeof dtype === 'string' && Object.hasOwn(bytesOf, dtype))) {
    throw fault(`tensor '${name}' has type ${JSON.stringify(dtype)}; expected F32, F16 or BF16`);
  }
  const natural = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(natural)) throw fault(`tensor '${name}' has no valid shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(natural)) {
    throw fault(`tensor '${name}' has no valid data_offsets`);
  }
  const [begin, end] = offsets as [number, number];
  const bytes = shape.reduce((product: number, dim: number) => product * dim, bytesOf[dtype as Dtype]);
  if (end - begin !== bytes) {
    throw fault(
      `tensor '${name}' of shape [${shape}] needs ${bytes} bytes, but its offsets ${begin} to ${end} span ${end - begin}`,
    );
  }
  return { dtype: dtype as Dtype, shape, begin: start + begin, end: start + end };
}

/** Tensors must fill the rest of the file exactly: no overlap, no gap, nothing beyond. */
function checkLayout(entries: Map<string, Entry>, start: number, size: number, fault: (text: string) => Error): void {
  let at = start;
  for (const [name, { begin, end }] of [...entries].toSorted(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (begin < at) throw fault(`tensor '${name}' overlaps the one before it`);
    if (begin > at) throw fault(`${begin - at} bytes before tensor '${name}' belong to no tensor`);
    if (end > size) throw fault(`tensor '${name}' ends at byte ${end}, but the file has ${size}: it is truncated`);
    at = end;
  }
  if (at !== size) throw fault(`${size - at} bytes at its end belong to no tensor`);
}

/** A tensor's numbers, widened to float32; the bytes, which must be aligned for them, may become its memory. */
export function float32Of(dtype: Dtype, bytes: Uint8Array): Float32Array {
  if (dtype === 'F32') return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const bits = new Uint32Array(halves.length);
  if (dtype === 'BF16') for (let i = 0; i < bits.length; i++) bits[i] = halves[i]! << 16;
  else for (let i = 0; i < bits.length; i++) bits[i] = halfToFloatBits(halves[i]!);
  return new Float32Array(bits.buffer);
}

function halfToFloatBits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 31) return (sign | 0x7f800000 | (fraction << 13)) >>> 0;
  if (exponent > 0) return (sign | ((exponent + 112) << 23) | (fraction << 13)) >>> 0;
  if (fraction === 0) return sign >>> 0;
  const shift = Math.clz32(fraction) - 21; // a subnormal half is a normal float
  return (sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13)) >>> 0;
}
