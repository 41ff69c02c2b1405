import { afterEach, describe, expect, it, vi } from 'vitest';
import { chooseSeed, generator, mulberry32, SEED_VARIABLE, seededRandom, sfc32 } from './random.js';

/** As the whole numbers that they were made of. */
const three = (next: () => number) => [next(), next(), next()].map((value) => value * 2 ** 32);

describe('streams of numbers that weights, samples and tests were made with stay what they are', () => {
  it('generator', () => {
    expect(three(generator(7, 'model.norm.weight'))).toEqual([4103570879, 1458198939, 14844242]);
    expect(three(generator(2 ** 40 + 5))).toEqual([936638053, 3221054258, 2478560665]);
  });

  it('seededRandom', () => {
    const random = seededRandom(7, 'case');
    expect([random.uniform(), random.uniform()].map((value) => value * 2 ** 32)).toEqual([3041746359, 4088065081]);
    expect(random.normal()).toBeCloseTo(-0.19823936604764358, 15);
    expect(random.integer(1000)).toBe(226);
    const [first, second] = random.normals(2, 0.5);
    expect(first).toBeCloseTo(-0.052997857332229614, 7);
    expect(second).toBeCloseTo(-0.21036428213119507, 7);
  });
});

it('sfc32 and mulberry32 are even', () => {
  for (const next of [
    mulberry32(1),
    (
      (whole) => () =>
        whole() / 2 ** 32
    )(sfc32([1, 2, 3, 4], 16)),
  ]) {
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 20_000; i++) counts[Math.floor(10 * next())]!++;
    // 2000 each, with a standard deviation of 42
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200);
  }
});

describe('chooseSeed', () => {
  afterEach(() => vi.unstubAllEnvs());

  it.each([
    ['12345', 12345],
    ['-7', -7],
    ['12345/0:3:1', 12345],
  ])('takes the number of %s', (given, seed) => {
    vi.stubEnv(SEED_VARIABLE, given);
    expect(chooseSeed()).toBe(seed);
  });

  it('draws one where none is given, and refuses what is no number', () => {
    vi.stubEnv(SEED_VARIABLE, '');
    expect(chooseSeed()).not.toBe(chooseSeed());
    vi.stubEnv(SEED_VARIABLE, 'x');
    expect(chooseSeed).toThrow("STICKBREAKING_SEED is 'x'; expected a whole number.");
  });
});
