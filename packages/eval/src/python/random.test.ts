import { describe, expect, it } from 'vitest';
import { goldenJson, goldens, unlessSkipped } from '../goldens.fixture.js';
import { NumpyRandom } from './numpy_random.js';
import { PythonRandom } from './random.js';

/** Draws of CPython 3.11, each list from the same generator, one after the other. */
const known: [seed: number | string, draws: object][] = [
  [
    0,
    {
      bits: [1, 12, 3255389356, 3823568514, 2332111581032244],
      big: '137791946350690092941861768699715302650',
      random: [0.9182343317851318, 0.8298529036589914],
      randint: [8995970, 0, 480641685012],
      choice: 'i',
      choices: [13, 13, 9, 79],
      shuffle: [3, 4, 1, 6, 5, 0, 7, 2],
      smallPool: [11, 13, 10, 6, 15],
      largePool: [14, 16, 8, 1, 17],
      sampleOf85: [1, 11, 51, 80, 0, 78],
      sampleOf86: [63, 42, 31, 41, 8, 24],
    },
  ],
  [
    1234,
    {
      bits: [1, 24, 1892932127, 501869158, 8205342134790981],
      big: '198121778603225873682787945355756041538',
      random: [0.034926166173543605, 0.6930874145324396],
      randint: [2651247, 0, 35376828618],
      choice: 'a',
      choices: [98, 1, 64, 48],
      shuffle: [2, 4, 3, 5, 6, 0, 1, 7],
      smallPool: [7, 2, 17, 14, 19],
      largePool: [19, 21, 2, 16, 18],
      sampleOf85: [5, 34, 71, 8, 38, 61],
      sampleOf86: [45, 34, 31, 83, 25, 58],
    },
  ],
  [
    -7,
    {
      bits: [0, 30, 647892279, 5990721294, 652444394356688],
      big: '124437490635159532008931267111494289444',
      random: [0.5827880059033551, 0.9097040631431023],
      randint: [4602037, 0, 953851880283],
      choice: 'g',
      choices: [6, 9, 42, 82],
      shuffle: [3, 6, 2, 0, 4, 5, 7, 1],
      smallPool: [1, 7, 20, 17, 4],
      largePool: [9, 13, 4, 17, 3],
      sampleOf85: [73, 39, 71, 23, 13, 74],
      sampleOf86: [73, 81, 24, 47, 12, 70],
    },
  ],
  [
    1099511627779,
    {
      bits: [0, 1, 2359950418, 3580981848, 8839680783016462],
      big: '263400961808817732619383792331935982629',
      random: [0.4259245562120104, 0.4712896463036954],
      randint: [6530912, 0, 736476383204],
      choice: 'i',
      choices: [75, 37, 3, 46],
      shuffle: [4, 3, 1, 5, 2, 6, 0, 7],
      smallPool: [17, 7, 9, 13, 5],
      largePool: [9, 15, 0, 7, 2],
      sampleOf85: [82, 68, 22, 1, 18, 11],
      sampleOf86: [82, 57, 58, 48, 61, 5],
    },
  ],
  [
    'few shots',
    {
      bits: [0, 29, 2770400639, 1991189651, 3155284855693486],
      big: '258058731189786046997641595403492873309',
      random: [0.522202954941035, 0.40390401395088826],
      randint: [2838157, 0, 723074158693],
      choice: 'h',
      choices: [38, 35, 16, 52],
      shuffle: [0, 1, 5, 3, 7, 6, 4, 2],
      smallPool: [13, 3, 2, 16, 20],
      largePool: [20, 0, 12, 17, 19],
      sampleOf85: [69, 4, 37, 16, 13, 2],
      sampleOf86: [75, 74, 42, 43, 57, 66],
    },
  ],
  [
    'é',
    {
      bits: [1, 30, 1787138474, 403459089, 1052478757489854],
      big: '41257214064865571564697011986745066608',
      random: [0.46590980489379297, 0.05284024202854143],
      randint: [1978495, 0, 609858490111],
      choice: 'h',
      choices: [33, 20, 10, 69],
      shuffle: [1, 3, 0, 7, 6, 2, 4, 5],
      smallPool: [18, 15, 7, 0, 6],
      largePool: [5, 21, 7, 14, 18],
      sampleOf85: [61, 57, 64, 80, 42, 62],
      sampleOf86: [48, 20, 18, 67, 63, 71],
    },
  ],
];

const range = (size: number) => Array.from({ length: size }, (_, i) => i);

describe("Python's generator", () => {
  it.each(known)('from seed %j', (seed, draws) => {
    const random = new PythonRandom(seed);
    const shuffled = range(8);
    expect({
      bits: [1, 5, 32, 33, 53].map((bits) => random.getrandbits(bits)),
      big: String(random.getrandbigbits(128)),
      random: [random.random(), random.random()],
      randint: [random.randint(1000000, 9999999), random.randint(0, 0), random.randint(1, 2 ** 40)],
      choice: random.choice('abcdefghij'),
      choices: random.choices(range(100), 4),
      shuffle: (() => {
        random.shuffle(shuffled);
        return shuffled;
      })(),
      smallPool: random.sample(range(21), 5),
      largePool: random.sample(range(22), 5),
      sampleOf85: random.sample(range(85), 6),
      sampleOf86: random.sample(range(86), 6),
    }).toEqual(draws);
  });

  it('draws no more than there is', () => {
    expect(() => new PythonRandom(1).sample([1, 2], 3)).toThrow('3 cannot be drawn from 2');
    expect(new PythonRandom(1).sample([1, 2], 0)).toEqual([]);
  });
});

describe("numpy's legacy generator", () => {
  it('draws whole numbers from a range', () => {
    const random = new NumpyRandom(42);
    expect(Array.from({ length: 4 }, () => random.randint(10000, 99999))).toEqual([25795, 10860, 86820, 64886]);
    expect(Array.from({ length: 3 }, () => random.randint(0, 1000))).toEqual([121, 466, 214]);
    expect(random.randint(5, 6)).toBe(5);
  });
});

interface GoldenCase {
  seed: number;
  getrandbits32: number[];
  random: number[];
  randint_7digits: number[];
  randrange: [below: number, drawn: number][];
  sample: [size: number, k: number, drawn: number[]][];
  shuffle20: number[];
}

describe.skipIf(!goldens)(`Python's generator at length${unlessSkipped}`, () => {
  it.each(goldens ? goldenJson<{ cases: GoldenCase[] }>('python_random.json').cases : [])('from seed $seed', (one) => {
    const random = new PythonRandom(one.seed);
    expect(one.getrandbits32.map(() => random.getrandbits(32))).toEqual(one.getrandbits32);
    expect(one.random.map(() => random.random())).toEqual(one.random);
    expect(one.randint_7digits.map(() => random.randint(1000000, 9999999))).toEqual(one.randint_7digits);
    for (const [below, drawn] of one.randrange) expect(random.randbelow(below), `below ${below}`).toBe(drawn);
    for (const [size, k, drawn] of one.sample) expect(random.sampleIndices(size, k), `${k} of ${size}`).toEqual(drawn);
    const shuffled = range(20);
    random.shuffle(shuffled);
    expect(shuffled).toEqual(one.shuffle20);
  });
});
