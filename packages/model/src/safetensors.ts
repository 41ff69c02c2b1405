/** Safetensors files: tensors are read and written one at a time, so a file may be larger than the largest buffer. */
import { closeSync, fstatSync, readSync } from 'node:fs';
import { explainSystemError, UserError } from '@stickbreaking/base';
import { openFile, replaceFile, replaceFileAsync } from '@stickbreaking/base/node';
import { ALGORITHM, type FileChecksum } from './checksums.js';
import { type ReadEachOptions, readTensors } from './read_tensors.js';
import { type Entry, float32Of, headerLength, parseHeader, type SafetensorsHeader } from './safetensors_format.js';
import { newSum } from './sum.js';

/** An open file; tensors are read on demand. */
export interface SafetensorsFile {
  readonly names: string[];
  readonly metadata: Record<string, string>;
  /** @throws UserError if there is no such tensor */
  shape(name: string): number[];
  /** The tensor's numbers, widened to float32. */
  read(name: string): Float32Array;
  /**
   * Reads tensors in the order in which they lie in the file, while threads of the system fetch those that follow; faster
   * than `read`. The file must not be closed before it ends.
   *
   * @param take is given the numbers of each, widened to float32, which must not change before it ends; several share an
   *   ArrayBuffer, which must not be transferred
   * @throws UserError where the file ends early
   */
  readEach(take: (name: string, values: Float32Array) => void, options?: ReadEachOptions): Promise<void>;
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
    const { entries, metadata, head } = readHeader(fd, path);
    return {
      names: [...entries.keys()],
      metadata,
      shape: (name) => entryOf(entries, name, path).shape,
      read: (name) => readTensor(fd, entryOf(entries, name, path), path),
      readEach: (take, options = {}) => readTensors(fd, path, entries, take, options, head),
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

/** The header, and the bytes that it was read from. */
function readHeader(fd: number, path: string): SafetensorsHeader & { head: Uint8Array[] } {
  const size = fstatSync(fd).size;
  const first = readBytes(fd, 0, Math.min(8, size), path);
  const rest = readBytes(fd, 8, headerLength(first, size, path), path);
  return { ...parseHeader(rest, size, path), head: [first, rest] };
}

function readBytes(fd: number, position: number, length: number, path: string): Buffer {
  const buffer = Buffer.allocUnsafeSlow(length);
  readInto(fd, position, buffer, path);
  return buffer;
}

function readInto(fd: number, position: number, buffer: Uint8Array, path: string): void {
  const most = 2 ** 30; // a single read call moves less than 2 GiB
  for (let done = 0; done < buffer.length; ) {
    const moved = readSome(fd, buffer.subarray(done, done + most), position + done, path);
    if (moved === 0) throw new UserError(`${path} ended while it was being read.`);
    done += moved;
  }
}

function readSome(fd: number, buffer: Uint8Array, position: number, path: string): number {
  try {
    return readSync(fd, buffer, 0, buffer.length, position);
  } catch (error) {
    throw explainSystemError(error, `cannot read ${path}`);
  }
}

function readTensor(fd: number, { dtype, begin, end }: Entry, path: string): Float32Array {
  const bytes = new Uint8Array(end - begin);
  readInto(fd, begin, bytes, path);
  return float32Of(dtype, bytes);
}

/** A tensor for `writeSafetensors`. */
export interface TensorToWrite {
  name: string;
  shape: readonly number[];
  /** Called when its turn comes, so that one tensor is in memory at a time, or two where threads write. */
  values: () => Float32Array;
}

/** Options of `writeSafetensors`. */
export interface WriteSafetensorsOptions {
  /** Goes into the header. */
  metadata?: Record<string, string>;
}

/** Of what sums a file while it writes it. */
export interface ChecksumOption {
  /** Sum the file; default false. */
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
 * @throws UserError where the disk is full or not writable
 */
export function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  { metadata = {} }: WriteSafetensorsOptions = {},
): void {
  const { header } = safetensorsLayout(tensors, metadata);
  replaceFile(path, (write) => {
    write(header);
    for (const tensor of tensors) write(bytesOfTensor(tensor));
  });
}

/**
 * The same, while one of the system's threads writes: what was handed to it is summed meanwhile, and the next tensor
 * fetched. The tensors must not change until it ends.
 *
 * @returns the file's checksum, if it was asked for
 */
export async function writeSafetensorsAsync(
  path: string,
  tensors: readonly TensorToWrite[],
  { metadata = {}, checksum = false }: WriteSafetensorsOptions & ChecksumOption = {},
): Promise<FileChecksum | undefined> {
  const { header, bytes } = safetensorsLayout(tensors, metadata);
  const sum = checksum ? newSum(ALGORITHM) : undefined;
  await replaceFileAsync(path, async (write) => {
    let written = Promise.resolve();
    const put = async (piece: Uint8Array) => {
      await written;
      written = write(piece);
      written.catch(() => {}); // awaited before the next piece, if there is one: the next tensor may not be to be had
      sum?.update(piece);
    };
    await put(header);
    for (const tensor of tensors) {
      const all = bytesOfTensor(tensor);
      for (let start = 0; start < all.length; start += WRITTEN_BYTES)
        await put(all.subarray(start, start + WRITTEN_BYTES));
    }
    await written;
  });
  return sum && { bytes, sum: sum.end() };
}

/**
 * Bytes that are written while they are summed. The sum is the faster of the two, and brings them into the cache that the
 * cores share; more would not fit there, and less would wait for threads more often.
 */
const WRITTEN_BYTES = 2 ** 23;

function bytesOfTensor({ name, shape, values }: TensorToWrite): Uint8Array {
  const numbers = values();
  const expected = shape.reduce((product, size) => product * size, 1);
  if (numbers.length !== expected)
    throw new Error(`tensor '${name}' has ${numbers.length} numbers; its shape needs ${expected}`);
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}
