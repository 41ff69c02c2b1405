/** numpy's legacy generator (`numpy.random.seed`, `numpy.random.randint`), bit for bit. */
import { MersenneTwister } from './mersenne_twister.js';

/** Draws as `numpy.random.RandomState(seed)` does. */
export class NumpyRandom {
  private readonly twister: MersenneTwister;

  constructor(seed: number) {
    this.twister = MersenneTwister.byNumber(seed);
  }

  /** In [low, high), for ranges below 2^32. */
  randint(low: number, high: number): number {
    const most = high - 1 - low;
    if (most === 0) return low;
    const mask = 0xffffffff >>> Math.clz32(most);
    let drawn = (this.twister.next() & mask) >>> 0;
    while (drawn > most) drawn = (this.twister.next() & mask) >>> 0;
    return low + drawn;
  }
}
