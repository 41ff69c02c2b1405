/** The Mersenne Twister MT19937 with its two ways of seeding: Python uses one, numpy's legacy generator the other. */
const SIZE = 624;
const SHIFT = 397;

export class MersenneTwister {
  private next_ = SIZE;

  private constructor(private readonly state: Uint32Array) {}

  /** `init_genrand` of the reference implementation. */
  static byNumber(seed: number): MersenneTwister {
    const state = new Uint32Array(SIZE);
    state[0] = seed;
    for (let i = 1; i < SIZE; i++) {
      const before = state[i - 1]!;
      state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
    }
    return new MersenneTwister(state);
  }

  /** `init_by_array` of the reference implementation. */
  static byArray(key: readonly number[]): MersenneTwister {
    const twister = MersenneTwister.byNumber(19650218);
    const { state } = twister;
    let i = 1;
    const mixed = (factor: number) => {
      const before = state[i - 1]!;
      return state[i]! ^ Math.imul(before ^ (before >>> 30), factor);
    };
    const advance = () => {
      if (++i < SIZE) return;
      state[0] = state[SIZE - 1]!;
      i = 1;
    };
    for (let round = 0, j = 0; round < Math.max(SIZE, key.length); round++, j = (j + 1) % key.length) {
      state[i] = mixed(1664525) + key[j]! + j;
      advance();
    }
    for (let round = 0; round < SIZE - 1; round++) {
      state[i] = mixed(1566083941) - i;
      advance();
    }
    state[0] = 0x80000000;
    return twister;
  }

  /** 32 random bits as a whole number. */
  next(): number {
    if (this.next_ === SIZE) this.refill();
    let bits = this.state[this.next_++]!;
    bits ^= bits >>> 11;
    bits ^= (bits << 7) & 0x9d2c5680;
    bits ^= (bits << 15) & 0xefc60000;
    return (bits ^ (bits >>> 18)) >>> 0;
  }

  private refill(): void {
    const { state } = this;
    for (let i = 0; i < SIZE; i++) {
      const bits = (state[i]! & 0x80000000) | (state[(i + 1) % SIZE]! & 0x7fffffff);
      state[i] = state[(i + SHIFT) % SIZE]! ^ (bits >>> 1) ^ (bits & 1 ? 0x9908b0df : 0);
    }
    this.next_ = 0;
  }
}
