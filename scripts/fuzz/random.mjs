// Every case of the fuzzer follows from its seed and number alone.
import { seededRandom } from '@stickbreaking/base';

/** @returns functions that draw from one stream */
export function chooser(seed) {
  const { integer: below } = seededRandom(seed);
  const pick = (list) => list[below(list.length)];
  return { below, pick, seed: () => below(2 ** 32) };
}

/** One seed of two numbers, so that neighbouring cases have nothing in common. */
const mixed = (seed, number) => Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(number + 1, 0xc2b2ae35);

/** The seeds of a case's mutations; any of them may be left out. */
export function mutationsOf({ seed, number }) {
  const choose = chooser(mixed(seed, number));
  const count = choose.pick([1, 1, 1, 2, 3]);
  return { variant: choose.seed(), mutations: Array.from({ length: count }, () => choose.seed()) };
}
