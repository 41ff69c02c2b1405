/**
 * The sums that files are held to. Poly1305 is a polynomial over a field of 2^130 − 5 elements: with a key that everybody
 * knows it keeps no secret and proves no author, but a change that nobody meant stays unseen once in some 2^100 times. It
 * is taken because OpenSSL computes it three times as fast as zlib a CRC-32. CRC-32 is what checkpoints of earlier
 * versions have.
 */
import * as crypto from 'node:crypto';
import * as zlib from 'node:zlib';

export const ALGORITHMS = ['poly1305', 'crc32'] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

/** A sum of bytes that come piece by piece. */
export interface Sum {
  /** @param waiting so many bytes are there already that come next */
  update(bytes: Uint8Array, waiting?: number): void;
  /** Whether the next piece may be treated by how much waits behind it; where there is no such flag, it is not. */
  readonly countsWaiting?: boolean;
  /** Until then threads may read what was given to `update`; where there is no such function, they do not. */
  settle?(): void;
  /** In hexadecimal; nothing can be added afterwards. */
  end(): string;
}

export const newSum = (algorithm: Algorithm): Sum => sumWith(algorithm, crypto, zlib);

/** A sum that is made when it is given its first bytes: by then something is being read, which does not wait for it. */
export function sumMadeLater(make: () => Sum): Sum {
  let sum: Sum | undefined;
  const made = () => {
    sum ??= make();
    return sum;
  };
  return {
    update: (bytes, waiting) => made().update(bytes, waiting),
    get countsWaiting() {
      return sum?.countsWaiting ?? false;
    },
    settle: () => sum?.settle?.(),
    end: () => made().end(),
  };
}

/**
 * The Poly1305 of RFC 8439's AEAD: ChaCha20-Poly1305 under a key and a nonce of zeros, with the bytes as additional data
 * and nothing to encrypt. The function is handed to threads as text, so it may use nothing but its arguments.
 */
export function sumWith(
  algorithm: Algorithm,
  { createCipheriv }: Pick<typeof crypto, 'createCipheriv'>,
  { crc32 }: Pick<typeof zlib, 'crc32'>,
): Sum {
  if (algorithm === 'crc32') {
    let sum = 0;
    const update = (bytes: Uint8Array) => {
      if (bytes.length > 0) sum = crc32(bytes, sum); // zlib begins anew where it is given no memory
    };
    return { update, end: () => sum.toString(16).padStart(8, '0') };
  }
  const zeros = new Uint8Array(32);
  const cipher = createCipheriv('chacha20-poly1305', zeros, zeros.subarray(0, 12), { authTagLength: 16 });
  const end = () => {
    cipher.final();
    return cipher.getAuthTag().toString('hex');
  };
  return { update: (bytes) => void cipher.setAAD(bytes, { plaintextLength: 0 }), end };
}

/** What a thread's text begins with, as a bundle is one file and a thread needs one of its own: `newSum` and `fs`. */
export const SUM_IN_THREAD = `
const fs = require('node:fs');
const newSum = (algorithm) => (${sumWith.toString()})(algorithm, require('node:crypto'), require('node:zlib'));
`;
