/**
 * Poly1305 in parts. It is a polynomial over the integers modulo p = 2^130 − 5: with blocks m_1 … m_n of 16 bytes, each with
 * a one set above its last bit, h = m_1 r^n + … + m_n r. Parts can thus be summed by themselves, in any order and anywhere,
 * and h of all is the sum of each part's h times r to the number of blocks that follow it.
 */

const P = 2n ** 130n - 5n;
const BLOCK = 2n ** 128n;
export const BLOCK_BYTES = 16;

/**
 * The key of ChaCha20-Poly1305 for a key and a nonce of zeros: the first half of ChaCha20's first 32 bytes, of which
 * Poly1305 ignores 22 bits, is r; the second is added in the end.
 */
const KEY = Buffer.from('76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7', 'hex');
const R = littleEndian(KEY) & 0x0ffffffc0ffffffc0ffffffc0fffffffn;
const S = littleEndian(KEY.subarray(16));
/** What a part is summed under: nothing is added in the end. */
export const PART_KEY = Uint8Array.from([...KEY.subarray(0, 16), ...new Uint8Array(16)]);

/** h of a part: what it leaves when h was zero before. */
export interface Part {
  h: bigint;
  blocks: number;
}

export const NOTHING: Part = { h: 0n, blocks: 0 };

/** Both, one behind the other. */
export const joined = (a: Part, b: Part): Part => ({
  h: (a.h * power(b.blocks) + b.h) % P,
  blocks: a.blocks + b.blocks,
});

/** A block of 16 bytes. */
export const ofBlock = (block: Uint8Array): Part => ({ h: ((littleEndian(block) + BLOCK) * R) % P, blocks: 1 });

/**
 * Of a whole number of blocks. Tags have 128 of the 130 bits of h, so it takes two of them.
 *
 * @param tags 32 bytes: the tag of the part, and that of the part and a block of zeros, both under `PART_KEY`
 */
export function ofTags(tags: Uint8Array, blocks: number): Part {
  const next = littleEndian(tags.subarray(16));
  for (let h = littleEndian(tags); h < P; h += BLOCK) {
    if ((((h + BLOCK) * R) % P) % BLOCK === next) return { h, blocks };
  }
  throw new Error('two tags of Poly1305 that do not belong together');
}

/**
 * The tag of ChaCha20-Poly1305 whose additional data these are, in hexadecimal.
 *
 * @param all what was summed, filled up with zeros to whole blocks
 * @param bytes how many there were without those zeros
 */
export function tagOf(all: Part, bytes: number): string {
  const lengths = Buffer.alloc(BLOCK_BYTES);
  lengths.writeBigUInt64LE(BigInt(bytes));
  const tag = (joined(all, ofBlock(lengths)).h + S) % BLOCK;
  return Buffer.from(tag.toString(16).padStart(32, '0'), 'hex').reverse().toString('hex');
}

function littleEndian(bytes: Uint8Array): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return view.getBigUint64(0, true) + (view.getBigUint64(8, true) << 64n);
}

/** Most pieces of a file have the same length. */
const powers = new Map<number, bigint>();

function power(blocks: number): bigint {
  let found = powers.get(blocks);
  if (found === undefined) {
    if (powers.size > 1000) powers.clear();
    found = 1n;
    for (let left = blocks, square = R; left > 0; left = Math.floor(left / 2), square = (square * square) % P) {
      if (left % 2 === 1) found = (found * square) % P;
    }
    powers.set(blocks, found);
  }
  return found;
}
