import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { TokenDataset } from './dataset.js';
import { type Batch, PackedLoader } from './packed_loader.js';

const EOS = 0;

/** Documents in memory; every token is unlike every other, so that it can be followed through the batches. */
function memoryDataset(lengths: readonly number[], firstToken = 1): TokenDataset {
  let token = firstToken;
  const documents = lengths.map((length) =>
    Uint32Array.from({ length: length + 1 }, (_, i) => (i < length ? token++ : EOS)),
  );
  return {
    directory: `memory-${firstToken}`,
    documents: documents.length,
    tokens: documents.reduce((sum, document) => sum + document.length, 0),
    vocabSize: 2 ** 32,
    eosId: EOS,
    beginId: EOS,
    tokenizerHash: 'tokenizer',
    hash: `${firstToken}:${lengths.join()}`,
    documentLength: (index) => documents[index]!.length,
    document: (index, from, to) => documents[index]!.slice(from, to),
    close() {},
  };
}

const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 });
const shape = fc
  .record({
    microBatchTokens: fc.integer({ min: 1, max: 64 }),
    context: fc.integer({ min: 1, max: 64 }),
    seed: fc.nat(),
  })
  .map(({ microBatchTokens, context, seed }) => {
    return { microBatchTokens, contextLength: Math.min(context, microBatchTokens), seed };
  });

const interleave = fc.integer({ min: 1, max: 9 });

describe('packing', () => {
  test('in each epoch every token of every document is a target once, after the one before it or an end token', () => {
    fc.assert(
      fc.property(lengths, shape, fc.integer({ min: 1, max: 3 }), (lengths, shape, epochs) => {
        const dataset = memoryDataset(lengths);
        const loader = new PackedLoader({ mixture: [{ dataset, weight: 1 }], ...shape });
        const inputsAnEpoch = dataset.tokens;
        const pairs: [number, number][] = [];
        while (pairs.length < inputsAnEpoch * epochs) {
          const batch = loader.next();
          checkShape(batch, shape);
          batch.tokens.forEach((token, i) => {
            pairs.push([token, batch.targets[i]!]);
          });
        }
        const expected = Array.from({ length: dataset.documents }, (_, i) => dataset.document(i)).flatMap((document) =>
          Array.from(document, (target, i) => [i === 0 ? EOS : document[i - 1]!, target]),
        );
        const inOrder = (pairs: number[][]) => pairs.sort(([a, b], [c, d]) => a! - c! || b! - d!);
        for (let epoch = 0; epoch < epochs; epoch++) {
          const seen = pairs.slice(epoch * inputsAnEpoch, (epoch + 1) * inputsAnEpoch);
          expect(inOrder(seen)).toEqual(inOrder(expected));
        }
      }),
    );
  });

  test('a piece holds successive tokens of one document, and is cut only where it must be', () => {
    fc.assert(
      fc.property(lengths, shape, interleave, (lengths, shape, interleave) => {
        const mixture = [{ dataset: memoryDataset(lengths), weight: 1 }];
        const loader = new PackedLoader({ mixture, interleave, ...shape });
        for (let step = 0; step < 5; step++) {
          const { tokens, targets, cuSeqlens } = loader.next();
          for (let s = 0; s + 1 < cuSeqlens.length; s++) {
            const [start, end] = [cuSeqlens[s]!, cuSeqlens[s + 1]!];
            for (let i = start; i < end - 1; i++) expect(tokens[i + 1]).toBe(targets[i]);
            expect(tokens.subarray(start + 1, end).includes(EOS)).toBe(false);
            const documentEnds = targets[end - 1] === EOS;
            const full = end - start === shape.contextLength || end === shape.microBatchTokens;
            expect(documentEnds || full).toBe(true);
          }
        }
      }),
    );
  });

  test('documents that are read in turns give a piece each, and together every token once', () => {
    const dataset = memoryDataset([9, 9, 9, 9]);
    const mixture = [{ dataset, weight: 1 }];
    const options = { mixture, contextLength: 5, microBatchTokens: 20, seed: 3, interleave: 4 };
    const loader = new PackedLoader(options);
    const batches = [loader.next(), loader.next()];
    const documentOf = (token: number) => Math.floor((token - 1) / 9);
    for (const { targets, cuSeqlens } of batches) {
      expect([...cuSeqlens]).toEqual([0, 5, 10, 15, 20]);
      expect(new Set([0, 5, 10, 15].map((start) => documentOf(targets[start]!))).size).toBe(4);
    }
    const all = Array.from({ length: 4 }, (_, i) => [...dataset.document(i)]).flat();
    expect(batches.flatMap(({ targets }) => [...targets]).sort()).toEqual(all.sort());
    // No more documents than there are: none is read against itself.
    expect(new PackedLoader({ ...options, interleave: 50 }).next()).toEqual(batches[0]);
  });

  function checkShape(
    { tokens, targets, cuSeqlens }: Batch,
    shape: { contextLength: number; microBatchTokens: number },
  ) {
    expect([tokens.length, targets.length]).toEqual([shape.microBatchTokens, shape.microBatchTokens]);
    expect([cuSeqlens[0], cuSeqlens.at(-1)]).toEqual([0, shape.microBatchTokens]);
    for (let s = 1; s < cuSeqlens.length; s++) {
      const length = cuSeqlens[s]! - cuSeqlens[s - 1]!;
      expect(length > 0 && length <= shape.contextLength).toBe(true);
    }
  }
});

describe('order', () => {
  test('a loader resumed from any cursor, through JSON, goes on with the same batches', () => {
    fc.assert(
      fc.property(
        lengths,
        lengths,
        shape,
        fc.nat(30),
        fc.double({ min: 0.1, max: 9, noNaN: true }),
        interleave,
        (a, b, shape, steps, weight, interleave) => {
          const mixture = [
            { dataset: memoryDataset(a), weight: 1 },
            { dataset: memoryDataset(b, 100_000), weight },
          ];
          const loader = new PackedLoader({ mixture, interleave, ...shape });
          for (let step = 0; step < steps; step++) loader.next();
          const cursor = JSON.parse(JSON.stringify(loader.cursor()));
          const resumed = new PackedLoader({ mixture, interleave, ...shape, cursor });
          expect(resumed.tokensSeen).toBe(steps * shape.microBatchTokens);
          for (let step = 0; step < 30; step++) expect(resumed.next()).toEqual(loader.next());
          expect(resumed.cursor()).toEqual(loader.cursor());
        },
      ),
    );
  });

  test('the seed decides the order, and every epoch has its own', () => {
    const dataset = memoryDataset(new Array(100).fill(1));
    const epochs = (seed: number) => {
      const loader = new PackedLoader({
        mixture: [{ dataset, weight: 1 }],
        contextLength: 100,
        microBatchTokens: 100,
        seed,
      });
      return [loader.next(), loader.next()].map(({ tokens }) => tokens.join());
    };
    expect(epochs(7)).toEqual(epochs(7));
    expect(new Set([...epochs(7), ...epochs(8), ...epochs(7 + 2 ** 32)]).size).toBe(6);
  });

  test('a mixture keeps to its weights within the longest document', () => {
    fc.assert(
      fc.property(lengths, lengths, fc.double({ min: 0.1, max: 9, noNaN: true }), (a, b, weight) => {
        const mixture = [
          { dataset: memoryDataset(a), weight: 1 },
          { dataset: memoryDataset(b, 100_000), weight },
        ];
        const loader = new PackedLoader({ mixture, contextLength: 50, microBatchTokens: 2000, seed: 1 });
        const { tokens, targets } = loader.next();
        const second = tokens.filter((token, i) => Math.max(token, targets[i]!) >= 100_000).length;
        expect(Math.abs(second - (2000 * weight) / (1 + weight))).toBeLessThanOrEqual(41);
      }),
    );
  });
});

describe('refusals', () => {
  const dataset = memoryDataset([5, 6, 7]);
  const options = { mixture: [{ dataset, weight: 1 }], contextLength: 4, microBatchTokens: 8, seed: 1 };
  const { cursor } = (() => {
    const loader = new PackedLoader(options);
    loader.next();
    return { cursor: loader.cursor() };
  })();

  test.each([
    ['an empty mixture', { mixture: [] }, /mixture is empty/],
    ['a weight of zero', { mixture: [{ dataset, weight: 0 }] }, /weight .* is 0/],
    ['a context above the micro-batch', { contextLength: 9 }, /contextLength 9 is above microBatchTokens 8/],
    ['a fraction of a token', { microBatchTokens: 8.5 }, /microBatchTokens is 8.5/],
    ['a negative seed', { seed: -1 }, /seed is -1/],
    ['a cursor of another seed', { cursor: { ...cursor, seed: 2 } }, /seed 2 and not 1/],
    [
      'a cursor of other documents',
      { cursor, mixture: [{ dataset: memoryDataset([5]), weight: 1 }] },
      /other documents/,
    ],
    ['a cursor of more datasets', { cursor, mixture: [...options.mixture, ...options.mixture] }, /1 datasets/],
    ['a cursor past the end', { cursor: { ...cursor, open: [{ dataset: 0, document: 3, offset: 0 }] } }, /damaged/],
    ['a turn past the end', { cursor: { ...cursor, turn: 1 } }, /damaged/],
    ['a cursor of another interleave', { cursor, interleave: 2 }, /1 documents read in turns and not 2/],
    ['no documents at once', { interleave: 0 }, /interleave is 0/],
    ['a cursor that is none', { cursor: { version: 1 } as never }, /cursor is damaged/],
    [
      'datasets of two tokenizers',
      { mixture: [...options.mixture, { dataset: { ...dataset, tokenizerHash: 'other' }, weight: 1 }] },
      /different tokenizers/,
    ],
  ])('%s', (_, change, message) => {
    expect(() => new PackedLoader({ ...options, ...change })).toThrow(
      expect.objectContaining({ name: 'UserError', message: expect.stringMatching(message) }),
    );
  });
});
