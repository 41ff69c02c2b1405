/** The conformance suite's cases of generation: pages of cached keys, and single new tokens that attend to them. */
import type { Random } from '@stickbreaking/base';
import {
  eye,
  reshape,
  type Tensor2D,
  type Tensor3D,
  tensor3d,
  transpose,
  variable,
  zeros,
} from '@tensorflow/tfjs-core';
import { alibiSlopes } from '../attention/positions.js';
import type { DecodeAttributes } from '../kernels.js';
import { decodeAttention } from '../ops/decode_attention.js';
import { linears } from '../ops/linear.js';
import { growPages, readPages, writePages } from '../ops/pages.js';
import { type ConformanceCase, output } from './case.js';
import { frequencies64, rotate64 } from './float64/positions.js';
import { softmax64 } from './float64/softmax.js';
import { stickBreaking64 } from './float64/stick_breaking.js';
import { boundaries, type Logits, queriesAndKeys } from './packs.js';

type Kind =
  | 'stick-breaking'
  | 'stick-breaking with itself'
  | 'softmax'
  | 'softmax alibi'
  | 'softmax window 33'
  | 'softmax rope';

interface DecodeSizes {
  kind: Kind;
  headDim: number;
  heads: number;
  kvHeads: number;
  /** Keys of each row, the new one included; 0: none. */
  lengths: readonly number[];
  logits?: Logits;
  /** New values that lie beside others of their row, as where one projection made them; keys do not. */
  valuesBeside?: boolean;
}

const PAGE = 16;
const usual = [1, 16, 0, 17, 130, 2, 520, 700];

export function decodeCases(): ConformanceCase[] {
  const kinds: Kind[] = ['stick-breaking', 'stick-breaking with itself', 'softmax', 'softmax alibi', 'softmax rope'];
  const sizes = [
    ...kinds.map((kind, i) => ({ kind, headDim: [32, 64, 128, 16, 64][i]!, heads: 4, kvHeads: [4, 2, 1, 2, 2][i]! })),
    { kind: 'softmax window 33' as const, headDim: 32, heads: 2, kvHeads: 1 },
    { kind: 'stick-breaking' as const, headDim: 50, heads: 7, kvHeads: 1 },
  ].map((one) => ({ ...one, lengths: usual }));
  const long = (['stick-breaking', 'softmax rope'] as const).flatMap((kind) => [
    { kind, headDim: 64, heads: 2, kvHeads: 2, lengths: [3000, 1537, 40], logits: 'faint' as const },
  ]);
  return [
    pagesCase(),
    ...[
      ...sizes,
      ...long,
      { kind: 'stick-breaking' as const, headDim: 64, heads: 2, kvHeads: 1, lengths: [1700], logits: 'low' as const },
      ...(['stick-breaking', 'softmax rope'] as const).map((kind) => ({
        ...{ kind, headDim: 64, heads: 4, kvHeads: 2, lengths: usual, valuesBeside: true },
      })),
    ].map(decodeCase),
  ];
}

/** Rows that go to pages in any order come back from there, and stay when there are more pages. */
function pagesCase(): ConformanceCase {
  const [pages, kvHeads, headDim, rows] = [5, 3, 10, 37];
  return {
    name: `pages of ${PAGE} tokens, ${rows} rows`,
    prepare(random, input) {
      const width = kvHeads * headDim;
      const [k, v] = [0, 1].map(() => input(random.normals(rows * width)));
      const slots = shuffled(random, pages * PAGE).slice(0, rows);
      return {
        expected: [output('keys', Float64Array.from(k!), width), output('values', Float64Array.from(v!), width)],
        run: () => {
          const empty = zeros([0, kvHeads, PAGE, headDim]);
          const made = [0, 1].map(() => variable(growPages(empty, pages), false));
          const [keys, values] = [k!, v!].map((rowsOf) => tensor3d(rowsOf, [rows, kvHeads, headDim]));
          writePages(keys!, values!, made[0]!, made[1]!, slots);
          const results = made.map((one) => readPages(growPages(one, pages + 3), slots));
          for (const one of made) one.dispose();
          return results;
        },
      };
    },
  };
}

function decodeCase({ kind, headDim, heads, kvHeads, lengths, logits, valuesBeside }: DecodeSizes): ConformanceCase {
  const rows = lengths.length;
  const used = [...lengths.keys()].filter((row) => lengths[row]! > 0);
  const words = (logits ? `, ${logits} logits` : '') + (valuesBeside ? ', values beside others' : '');
  return {
    name: `decoding by ${kind}, D ${headDim}, heads ${heads}/${kvHeads}, keys ${lengths.join(' ')}${words}`,
    extreme: logits === 'low',
    large: heads * headDim > 128,
    prepare(random, input) {
      const scale = 1 / Math.sqrt(headDim);
      const layout = {
        ...{ heads, kvHeads, headDim, scale },
        cuSeqlens: boundaries(used.map(() => 1)),
        cuSeqlensK: boundaries(used.map((row) => lengths[row]!)),
      };
      const drawn = queriesAndKeys(random, layout, logits ?? 'usual');
      const [q, k] = [input(drawn.q), input(drawn.k)];
      const v = input(random.normals(k.length));
      const frequencies = kind === 'softmax rope' ? frequencies64(headDim, 10_000, undefined, 0) : undefined;
      const { table, slots, pages } = placed(random, lengths);
      const wanted = expected(kind, { q, k, v }, layout, frequencies);
      const width = kvHeads * headDim;
      const spread = (values: Float64Array, size: number, missing: number) =>
        Float64Array.from({ length: rows * size }, (_, i) => {
          const at = used.indexOf(Math.floor(i / size));
          return at < 0 ? missing : values[at * size + (i % size)]!;
        });
      return {
        expected: [
          output('output', spread(wanted.output, heads * headDim, 0), headDim),
          output('remainder', spread(wanted.remainder, heads, 0), 1),
          output('new keys', wanted.newKeys, width),
          output('values', Float64Array.from(v), width),
          output('output of the last row alone', wanted.output.slice(-heads * headDim), headDim),
        ],
        run: () => {
          const [keyPages, valuePages] = [0, 1].map(() =>
            variable(growPages(zeros([0, kvHeads, PAGE, headDim]), pages), false),
          ) as [ReturnType<typeof variable>, ReturnType<typeof variable>];
          const isNew = (i: number) => layout.cuSeqlensK.includes(i + 1);
          const all = Array.from({ length: k.length / width }, (_, i) => i);
          const rowsOf = (values: Float32Array, which: readonly number[]) =>
            tensor3d(Float32Array.from(which.flatMap((i) => [...values.subarray(i * width, (i + 1) * width)])), [
              which.length,
              kvHeads,
              headDim,
            ]);
          const old = all.filter((i) => !isNew(i));
          const oldSlots = Int32Array.from(old, (i) => slots[i]!);
          writePages(rowsOf(k, old), rowsOf(v, old), keyPages, valuePages, oldSlots);
          const fresh = (row: number) => (used.includes(row) ? layout.cuSeqlensK[used.indexOf(row) + 1]! - 1 : 0);
          const query = Float32Array.from({ length: rows * heads * headDim }, (_, i) => {
            const at = used.indexOf(Math.floor(i / (heads * headDim)));
            return at < 0 ? 1 : q[at * heads * headDim + (i % (heads * headDim))]!;
          });
          const news = [...lengths.keys()].map(fresh);
          const value = valuesBeside ? besideOthers(rowsOf(v, news)) : rowsOf(v, news);
          const inputs = [tensor3d(query, [rows, heads, headDim]), rowsOf(k, news), value] as const;
          const attention = attentionOf(kind, heads);
          const turning = frequencies ? { inverseFrequencies: frequencies } : {};
          const step = { scale, attention, keyPages, valuePages, ...turning };
          const together = decodeAttention(...inputs, { ...step, lengths: Int32Array.from(lengths), table });
          const newSlots = Int32Array.from(all.filter(isNew), (i) => slots[i]!);
          const last = rows - 1;
          const alone = decodeAttention(
            ...(inputs.map((one) => one.slice([last, 0, 0], [1, -1, -1])) as unknown as typeof inputs),
            { ...step, lengths: Int32Array.of(lengths[last]!), table: table.slice((table.length / rows) * last) },
          );
          const results = [
            ...[together.output, together.remainder],
            ...[readPages(keyPages, newSlots), readPages(valuePages, Int32Array.from(slots))],
            alone.output,
          ];
          keyPages.dispose();
          valuePages.dispose();
          return results;
        },
        exact: ([together, , , , alone]) =>
          together!.slice(-heads * headDim).every((value, i) => value === alone![i])
            ? []
            : ['the last row’s output is another one without the other rows'],
      };
    },
  };
}

/** The same rows, as the second of two projections of one input. */
function besideOthers(x: Tensor3D): Tensor3D {
  const rows = x.shape[0];
  const weight = transpose(reshape(x, [rows, -1])) as Tensor2D;
  return reshape(linears(eye(rows), [weight, weight])[1], x.shape);
}

type Layout64 = Parameters<typeof stickBreaking64>[1];

function expected(
  kind: Kind,
  { q, k, v }: { q: Float32Array; k: Float32Array; v: Float32Array },
  layout: Layout64,
  frequencies: Float64Array | undefined,
) {
  const { heads, kvHeads, headDim, cuSeqlensK } = layout;
  const ends = cuSeqlensK.slice(1);
  const width = kvHeads * headDim;
  const position = (row: number) => ends[row]! - cuSeqlensK[row]! - 1;
  const newKeys = Float64Array.from(ends.flatMap((end) => [...k.subarray((end - 1) * width, end * width)]));
  const turn = (x: Float64Array | Float32Array, of: number) =>
    frequencies ? rotate64(x, of, headDim, (row) => ({ position: position(row), frequencies })) : Float64Array.from(x);
  const [turnedQ, turnedK] = [turn(q, heads), turn(newKeys, kvHeads)];
  const keys = Float64Array.from(k);
  for (const [row, end] of ends.entries()) {
    keys.set(turnedK.subarray(row * width, (row + 1) * width), (end - 1) * width);
  }
  const inputs = { q: turnedQ, k: keys, v, dOutput: new Float64Array(q.length) };
  const none = new Float64Array(q.length / headDim);
  if (kind.startsWith('stick-breaking')) {
    const result = stickBreaking64({ ...inputs, dRemainder: none }, layout, kind !== 'stick-breaking');
    return { output: result.output, remainder: result.remainder, newKeys: turnedK };
  }
  const scheme = { kind: kind === 'softmax alibi' ? ('alibi' as const) : ('none' as const) };
  const { output } = softmax64(inputs, layout, scheme, kind === 'softmax window 33' ? 33 : 0);
  return { output, remainder: none, newKeys: turnedK };
}

function attentionOf(kind: Kind, heads: number): DecodeAttributes['attention'] {
  if (kind.startsWith('stick-breaking')) return { kind: 'stick-breaking', attendCurrent: kind !== 'stick-breaking' };
  const window = kind === 'softmax window 33' ? 33 : 0;
  if (kind !== 'softmax alibi') return { kind: 'softmax', window };
  return { kind: 'softmax', window, alibiSlopes: Float32Array.from(alibiSlopes(heads)) };
}

/** Pages in any order for documents of these lengths: the table, and where each key lies. */
function placed(random: Random, lengths: readonly number[]) {
  const counts = lengths.map((length) => Math.ceil(length / PAGE));
  const pages = counts.reduce((a, b) => a + b, 0) + 2;
  const order = shuffled(random, pages);
  const width = Math.max(...counts) + 1;
  const table = new Int32Array(lengths.length * width).fill(-1);
  const slots: number[] = [];
  let next = 0;
  for (const [row, count] of counts.entries()) {
    for (let i = 0; i < count; i++) table[row * width + i] = order[next++]!;
    for (let i = 0; i < lengths[row]!; i++) slots.push(table[row * width + Math.floor(i / PAGE)]! * PAGE + (i % PAGE));
  }
  return { table, slots, pages };
}

function shuffled(random: Random, count: number): number[] {
  const all = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [all[i], all[j]] = [all[j]!, all[i]!];
  }
  return all;
}
