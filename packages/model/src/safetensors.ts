/**
 * The safetensors format (https://github.com/huggingface/safetensors): eight bytes of header length, a JSON header,
 * tensors. A header is trusted only after everything in it has been checked against the file. Tensors are read and
 * written one at a time, so a file may be larger than the largest buffer.
 */
import { closeSync, fstatSync, readSync } from 'node:fs';
import { UserError } from '@stickbreaking/base';
import { openFile, replaceFile } from '@stickbreaking/base/node';
import { ALGORITHM, type FileChecksum } from './checksums.js';
import { newSum, PIECE_BYTES, type Sum } from './sum.js';

/** The format's own limit: no program reads more. */
const MAX_HEADER_BYTES = 100_000_000;

const bytesOf = { F32: 4, F16: 2, BF16: 2 } as const;
type Dtype = keyof typeof bytesOf;

interface Entry {
  dtype: Dtype;
  shape: number[];
  /** Offsets into the file. */
  begin: number;
  end: number;
}

/** An open file; tensors are read on demand. */
export interface SafetensorsFile {
  readonly names: string[];
  readonly metadata: Record<string, string>;
  /** @throws UserError if there is no such tensor */
  shape(name: string): number[];
  /** The tensor's numbers, widened to float32. */
  read(name: string): Float32Array;
  /** Closes the file; nothing can be read afterwards. */
  close(): void;
}

/**
 * Opens a file and checks its whole header.
 *
 * @throws UserError that names the file and its first fault
 */
export function readSafetensors(path: string): SafetensorsFile {
  const fd = openFile(path, 'reading');
  try {
    const { entries, metadata } = readHeader(fd, path);
    return {
      names: [...entries.keys()],
      metadata,
      shape: (name) => entryOf(entries, name, path).shape,
      read: (name) => readTensor(fd, entryOf(entries, name, path), path),
      close: () => closeSync(fd),
    };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function entryOf(entries: Map<string, Entry>, name: string, path: string): Entry {
  const entry = entries.get(name);
  if (!entry) throw new UserError(`${path} has no tensor '${name}'.`);
  return entry;
}

function readHeader(fd: number, path: string): { entries: Map<string, Entry>; metadata: Record<string, string> } {
  const fault = (text: string) => new UserError(`${path} is not a valid safetensors file: ${text}.`);
  const size = fstatSync(fd).size;
  if (size < 8) throw fault(`it has ${size} bytes, fewer than its length field`);
  const length = readBytes(fd, 0, 8, path).readBigUInt64LE();
  if (length > BigInt(size - 8)) throw fault(`its header claims ${length} bytes, but only ${size - 8} follow`);
  if (length > MAX_HEADER_BYTES)
    throw fault(`its header claims ${length} bytes; the format allows ${MAX_HEADER_BYTES}`);
  const start = 8 + Number(length);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(readBytes(fd, 8, Number(length), path)));
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

function readBytes(fd: number, position: number, length: number, path: string): Buffer {
  const buffer = Buffer.allocUnsafeSlow(length);
  readInto(fd, position, buffer, path);
  return buffer;
}

function readInto(fd: number, position: number, buffer: Uint8Array, path: string): void {
  const most = 2 ** 30; // a single read call moves less than 2 GiB
  for (let done = 0; done < buffer.length; ) {
    const moved = readSync(fd, buffer, done, Math.min(most, buffer.length - done), position + done);
    if (moved === 0) throw new UserError(`${path} ended while it was being read.`);
    done += moved;
  }
}

function readTensor(fd: number, { dtype, begin, end }: Entry, path: string): Float32Array {
  if (dtype === 'F32') {
    const values = new Float32Array((end - begin) / 4);
    readInto(fd, begin, new Uint8Array(values.buffer), path);
    return values;
  }
  const halves = new Uint16Array((end - begin) / 2);
  readInto(fd, begin, new Uint8Array(halves.buffer), path);
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

/** A tensor for `writeSafetensors`. */
export interface TensorToWrite {
  name: string;
  shape: readonly number[];
  /** Called when its turn comes, so that one tensor is in memory at a time. */
  values: () => Float32Array;
}

/** Options of `writeSafetensors`. */
export interface WriteSafetensorsOptions {
  /** Goes into the header. */
  metadata?: Record<string, string>;
  /** Sum the file while it is written. */
  checksum?: boolean;
}

/** A file of float32 tensors: what it begins with, where each tensor begins, and its length. */
export interface SafetensorsLayout {
  header: Buffer;
  begins: ReadonlyMap<string, number>;
  bytes: number;
}

/** How float32 tensors lie in a file. */
export function safetensorsLayout(
  tensors: readonly Pick<TensorToWrite, 'name' | 'shape'>[],
  metadata: Record<string, string> = {},
): SafetensorsLayout {
  const claims: Record<string, unknown> = { __metadata__: { format: 'pt', ...metadata } };
  const offsets = new Map<string, number>();
  let offset = 0;
  for (const { name, shape } of tensors) {
    const bytes = shape.reduce((product, size) => product * size, 4);
    claims[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + bytes] };
    offsets.set(name, offset);
    offset += bytes;
  }
  const json = Buffer.from(JSON.stringify(claims));
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const header = Buffer.concat([length, padded]);
  const begins = new Map([...offsets].map(([name, from]) => [name, header.length + from]));
  return { header, begins, bytes: header.length + offset };
}

/**
 * Writes float32 tensors, atomically and durably: a crash leaves the old file whole.
 *
 * @returns the file's checksum, if it was asked for
 * @throws UserError where the disk is full or not writable
 */
export function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  { metadata = {}, checksum = false }: WriteSafetensorsOptions = {},
): FileChecksum | undefined {
  const { header, bytes } = safetensorsLayout(tensors, metadata);
  const sum = checksum ? newSum(ALGORITHM) : undefined;
  replaceFile(path, (writeOnly) => {
    const write = sum ? (bytes: Uint8Array) => writeAndSum(bytes, writeOnly, sum) : writeOnly;
    write(header);
    for (const tensor of tensors) write(bytesOfTensor(tensor));
  });
  return sum && { bytes, sum: sum.end() };
}

/** Piece by piece, so that the system copies what is in the core's cache already: then the sum costs nearly nothing. */
function writeAndSum(bytes: Uint8Array, write: (bytes: Uint8Array) => void, sum: Sum): void {
  for (let start = 0; start < bytes.length; start += PIECE_BYTES) {
    const piece = bytes.subarray(start, start + PIECE_BYTES);
    sum.update(piece);
    write(piece);
  }
}

function bytesOfTensor({ name, shape, values }: TensorToWrite): Uint8Array {
  const numbers = values();
  const expected = shape.reduce((product, size) => product * size, 1);
  if (numbers.length !== expected)
    throw new Error(`tensor '${name}' has ${numbers.length} numbers; its shape needs ${expected}`);
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}
