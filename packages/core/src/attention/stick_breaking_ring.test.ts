// Sticks that are composed round a ring of processes, against float64. The processes take turns in this one: what a process gets in an
// exchange is what was given to it in the round before, until a round gives what the one before it gave.
import { chooseSeed, seededRandom } from '@stickbreaking/base';
import { type AttentionRing, selectBackend, stickBreakingRing } from '@stickbreaking/core';
import { native } from '@stickbreaking/core/native';
import { memory, type Tensor, tensor, tidy } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { withGradients } from '../conformance/case.js';
import { stickBreaking64 } from '../conformance/float64/stick_breaking.js';
import { type Logits, queriesAndKeys } from '../conformance/packs.js';

const seed = chooseSeed();

class Rounds {
  private before: number[][][][] = [];
  private now: number[][][][];

  constructor(private readonly size: number) {
    this.now = Array.from({ length: size }, () => []);
  }

  ring(rank: number): AttentionRing {
    const { size } = this;
    const give = (values: number[][]) => this.now[rank]!.push(values) - 1;
    const given = (from: number, number: number) => this.before[(from + size) % size]?.[number];
    return {
      ...{ rank, size },
      shift(tensors, by) {
        const own = tensors.map((one) => [...one.dataSync()]);
        const number = give(own);
        const came = given(rank - (by % size), number) ?? own;
        return came.map((values, i) => tensor(values, tensors[i]!.shape));
      },
      most(x) {
        const own = x.dataSync()[0]!;
        const number = give([[own]]);
        const all = Array.from({ length: size }, (_, from) => (from === rank ? [] : (given(from, number)?.[0] ?? [])));
        return Math.max(own, ...all.flat());
      },
    };
  }

  /** Ends a round; whether it was as the one before. */
  isSettled(): boolean {
    const same = JSON.stringify(this.now) === JSON.stringify(this.before);
    this.before = this.now;
    this.now = Array.from({ length: this.size }, () => []);
    return same;
  }

  /** Hops of the round before: in the forward, and as many in the backward. */
  get calls(): number[] {
    return this.before.map(({ length }) => length);
  }
}

interface Case {
  size: number;
  /** Tokens of each process. */
  length: number;
  documents: readonly number[];
  heads: number;
  kvHeads: number;
  headDim: number;
  logits: Logits;
  attendCurrent?: boolean;
}

async function compared({ size, length, documents, heads, kvHeads, headDim, logits, attendCurrent = false }: Case) {
  const random = seededRandom(seed, 'ring');
  const cuSeqlens = [0];
  for (const one of documents) cuSeqlens.push(cuSeqlens[cuSeqlens.length - 1]! + one);
  expect(cuSeqlens[cuSeqlens.length - 1]).toBe(size * length);
  const layout = { heads, kvHeads, headDim, cuSeqlens, cuSeqlensK: cuSeqlens, scale: 1 / Math.sqrt(headDim) };
  const { q, k } = queriesAndKeys(random, layout, logits);
  const values = {
    ...{ q, k, v: random.normals(k.length), dOutput: random.normals(q.length) },
    dRemainder: random.normals(q.length / headDim),
  };
  const wanted = stickBreaking64(values, layout, attendCurrent);
  const part = (x: Float32Array, rank: number, width: number) =>
    x.slice(rank * length * width, (rank + 1) * length * width);
  const rounds = new Rounds(size);
  let results: Float32Array[][] = [];
  do {
    results = Array.from({ length: size }, (_, rank) =>
      tidy(() => {
        const of = (x: Float32Array, rowHeads: number, dim = headDim) =>
          tensor(part(x, rank, rowHeads * dim), dim === 0 ? [length, rowHeads] : [length, rowHeads, dim]);
        const dRemainder = tensor(part(values.dRemainder, rank, heads), [length, heads]);
        const made = withGradients(
          (...xs) => {
            const [a, b, c] = xs as [Tensor, Tensor, Tensor];
            const { output, remainder } = stickBreakingRing(a, b, c, { cuSeqlens, attendCurrent }, rounds.ring(rank));
            return [output, remainder];
          },
          [of(values.q, heads), of(values.k, kvHeads), of(values.v, kvHeads)],
          [of(values.dOutput, heads), dRemainder],
        );
        const read = made.map((one) => one.dataSync().slice() as Float32Array);
        // What `withGradients` keeps of the outputs.
        for (const one of made.slice(0, 2)) one.dispose();
        return read;
      }),
    );
  } while (!rounds.isSettled());
  const names = ['output', 'remainder', 'dq', 'dk', 'dv'] as const;
  const errors = names.map((name, i) => {
    const all = Float32Array.from(results.flatMap((one) => [...one[i]!]));
    const whole = wanted[name];
    let [difference, norm] = [0, 0];
    for (let at = 0; at < whole.length; at++) {
      difference += (all[at]! - whole[at]!) ** 2;
      norm += whole[at]! ** 2;
    }
    expect(all.every(Number.isFinite), name).toBe(true);
    return [name, Math.sqrt(difference / Math.max(norm, 1e-30))] as const;
  });
  return { errors: Object.fromEntries(errors), calls: rounds.calls };
}

const probed = await native.probe();
const some = { heads: 4, kvHeads: 2, headDim: 16, logits: 'faint' as const };
const cases: Record<string, Case> = {
  'one document, three processes': { ...some, size: 3, length: 70, documents: [210] },
  'four processes, grouped heads, a head dimension of 50': {
    ...{ size: 4, length: 33, documents: [132], heads: 6, kvHeads: 2, headDim: 50, logits: 'faint' },
  },
  'the current token too': { ...some, size: 3, length: 41, documents: [123], attendCurrent: true },
  'documents that begin and end anywhere': { ...some, size: 4, length: 50, documents: [3, 140, 0, 7, 1, 49] },
  'documents that end where a process does': { ...some, size: 3, length: 40, documents: [40, 39, 1, 40] },
  'one token each': { ...some, size: 5, length: 1, documents: [2, 3] },
  'extreme logits': { ...some, size: 3, length: 40, documents: [120], logits: 'extreme' },
  'logits that nobody takes': { ...some, size: 3, length: 40, documents: [100, 20], logits: 'low' },
  'keys that take all between others': { ...some, size: 3, length: 40, documents: [120], logits: 'lone' },
};

describe.each(['cpu', 'native'] as const)('a ring of sticks on %s', (backend) => {
  const isMissing = backend === 'native' && !probed.available;
  // The reference takes its time: a few on cpu.
  const tried = Object.entries(cases).filter(([, { size, length }]) => backend === 'native' || size * length <= 125);
  it.skipIf(isMissing).each(tried)('is as float64 has it: %s', async (_, one) => {
    await selectBackend(backend);
    const before = memory().numTensors;
    const { errors } = await compared(one);
    for (const [name, error] of Object.entries(errors)) expect(error, name).toBeLessThan(1e-5);
    expect(memory().numTensors).toBe(before);
  });

  it.skipIf(isMissing)('stops where no row has anything left', async () => {
    await selectBackend(backend);
    const long = { ...some, size: 4, length: 12, documents: [48] };
    // Keys and values come once, and it is asked whether they are to come again; back they come once more, and their gradients go.
    expect((await compared({ ...long, logits: 'high' })).calls).toEqual(Array(4).fill(2 + 2));
    // They come three times, and it is asked twice; back three times too, and their gradients go on three times.
    expect((await compared({ ...long, logits: 'low' })).calls).toEqual(Array(4).fill(5 + 6));
  });
});
