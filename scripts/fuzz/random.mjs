// A small seeded source of choices: every case of the fuzzer follows from its seed and number alone.
/** @returns functions that draw from one stream (mulberry32) */
export function chooser(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n) => Math.floor(next() * n);
  const pick = (list) => list[below(list.length)];
  return { next, below, pick, seed: () => below(2 ** 32) };
}

/** One seed of two numbers, so that neighbouring cases have nothing in common. */
const mixed = (seed, number) => Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(number + 1, 0xc2b2ae35);

/** The seeds of a case's mutations; any of them may be left out. */
export function mutationsOf({ seed, number }) {
  const choose = chooser(mixed(seed, number));
  const count = choose.pick([1, 1, 1, 2, 3]);
  return { variant: choose.seed(), mutations: Array.from({ length: count }, () => choose.seed()) };
}
