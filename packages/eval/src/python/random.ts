/**
 * Python's `random.Random`, bit for bit: the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), seeded and drawn
 * from as CPython does it (Modules/_randommodule.c, Lib/random.py). Few-shot examples and RULER's texts hang on it.
 */
import { createHash } from 'node:crypto';
import { MersenneTwister } from './mersenne_twister.js';

/** A generator whose draws equal those of `random.Random(seed)`. */
export class PythonRandom {
  private readonly twister: MersenneTwister;

  /** @param seed a whole number (its sign does not count), or a text */
  constructor(seed: number | bigint | string) {
    this.twister = MersenneTwister.byArray(wordsOf(typeof seed === 'string' ? numberOf(seed) : BigInt(seed)));
  }

  /** A whole number of `bits` random bits, up to 53. */
  getrandbits(bits: number): number {
    if (bits <= 32) return this.twister.next() >>> (32 - bits);
    if (bits > 53) throw new RangeError(`getrandbits(${bits}) is no safe number; use getrandbigbits.`);
    return Number(this.getrandbigbits(bits));
  }

  /** As `getrandbits`, of any width. */
  getrandbigbits(bits: number): bigint {
    let value = 0n;
    for (let at = 0; at < bits; at += 32) {
      const word = this.twister.next() >>> Math.max(0, at + 32 - bits);
      value |= BigInt(word) << BigInt(at);
    }
    return value;
  }

  /** In [0, 1), of 53 bits. */
  random(): number {
    const high = this.twister.next() >>> 5;
    const low = this.twister.next() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** In [0, below), `below` at most 2^53. */
  randbelow(below: number): number {
    const bits = below.toString(2).length;
    let drawn = this.getrandbits(bits);
    while (drawn >= below) drawn = this.getrandbits(bits);
    return drawn;
  }

  /** In [first, last]. */
  randint(first: number, last: number): number {
    return first + this.randbelow(last - first + 1);
  }

  choice<T>(items: ArrayLike<T>): T {
    return items[this.randbelow(items.length)]!;
  }

  /** `k` independent draws with replacement. */
  choices<T>(items: ArrayLike<T>, k: number): T[] {
    return Array.from({ length: k }, () => items[Math.floor(this.random() * items.length)]!);
  }

  /** Shuffles in place. */
  shuffle(items: unknown[]): void {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.randbelow(i + 1);
      [items[i], items[j]] = [items[j], items[i]];
    }
  }

  /** `k` of the numbers below `size`, each at most once, in the order drawn. */
  sampleIndices(size: number, k: number): number[] {
    if (k < 0 || k > size) throw new RangeError(`A sample of ${k} cannot be drawn from ${size}.`);
    return size <= poolLimit(k) ? this.sampleFromPool(size, k) : this.sampleBySet(size, k);
  }

  sample<T>(items: ArrayLike<T>, k: number): T[] {
    return this.sampleIndices(items.length, k).map((index) => items[index]!);
  }

  private sampleFromPool(size: number, k: number): number[] {
    const pool = Array.from({ length: size }, (_, i) => i);
    return Array.from({ length: k }, (_, drawn) => {
      const at = this.randbelow(size - drawn);
      const taken = pool[at]!;
      pool[at] = pool[size - drawn - 1]!;
      return taken;
    });
  }

  private sampleBySet(size: number, k: number): number[] {
    const taken = new Set<number>();
    while (taken.size < k) {
      let drawn = this.randbelow(size);
      while (taken.has(drawn)) drawn = this.randbelow(size);
      taken.add(drawn);
    }
    return [...taken];
  }
}

/** Up to this size a sample is drawn from a copy of the population, above it by remembering what was taken. */
function poolLimit(k: number): number {
  return k <= 5 ? 21 : 21 + 4 ** Math.ceil(Math.log(k * 3) / Math.log(4));
}

/** The number that a text seeds with: its bytes and their SHA-512, read as one number. */
function numberOf(text: string): bigint {
  const bytes = Buffer.from(text);
  const whole = Buffer.concat([bytes, createHash('sha512').update(bytes).digest()]);
  return BigInt(`0x${whole.toString('hex')}`);
}

/** A number's size as 32-bit words, the least significant first. */
function wordsOf(number: bigint): number[] {
  const words: number[] = [];
  for (let rest = number < 0n ? -number : number; rest > 0n; rest >>= 32n) words.push(Number(rest & 0xffffffffn));
  return words.length === 0 ? [0] : words;
}
