import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BORDER, bucketsOf, rangeWithoutPadding, slicesOf } from './layout.js';

const items = fc
  .array(fc.record({ layer: fc.integer({ min: -1, max: 5 }), elements: fc.integer({ min: 1, max: 5000 }) }), {
    minLength: 1,
    maxLength: 30,
  })
  .map((list) =>
    list
      .sort((a, b) => a.layer - b.layer)
      .map(({ layer, elements }, i) => ({
        name: layer < 0 ? `embedding${i}` : `model.layers.${layer}.weight${i}`,
        elements,
      })),
  );

describe('buckets', () => {
  it('hold every matrix once and in order, and their parts cover each element once', () => {
    fc.assert(
      fc.property(
        items,
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 8000 }),
        (list, processes, least) => {
          const buckets = bucketsOf(list, processes, least);
          expect(buckets.flatMap(({ slots }) => slots.map(({ name }) => name))).toEqual(list.map(({ name }) => name));
          for (const { slots, size } of buckets) {
            expect(size % (processes * BORDER)).toBe(0);
            let end = 0;
            for (const { offset, elements } of slots) {
              expect(offset - end).toBeLessThan(8);
              expect(offset).toBeGreaterThanOrEqual(end);
              expect(offset % 8).toBe(0);
              end = offset + elements;
            }
            expect(end).toBeLessThanOrEqual(size);
          }
          const seen = new Map<string, number>();
          for (let rank = 0; rank < processes; rank++)
            for (const { name, bucket, from, offset, length } of slicesOf(buckets, rank, processes)) {
              expect(offset).toBe(seen.get(name) ?? 0);
              expect(from % (buckets[bucket]!.size / processes) === 0 || offset === 0).toBe(true);
              seen.set(name, offset + length);
            }
          expect(seen.size).toBe(list.length);
          for (const { name, elements } of list) expect(seen.get(name)).toBe(elements);
        },
      ),
    );
  });

  it('are a layer each where layers are large, and put small layers together', () => {
    const list = [
      { name: 'model.embed_tokens.weight', elements: 10 },
      ...[0, 1, 2].flatMap((layer) => ['a', 'b'].map((w) => ({ name: `model.layers.${layer}.${w}`, elements: 50 }))),
      { name: 'lm_head.weight', elements: 10 },
    ];
    const names = (least: number) => bucketsOf(list, 2, least).map(({ slots }) => slots.length);
    expect(names(100)).toEqual([1, 2, 2, 2, 1]);
    expect(names(101)).toEqual([1, 4, 2, 1]);
  });
});

it('any range of a padded matrix is a range of the matrix itself', () => {
  fc.assert(
    fc.property(
      fc.record({
        own: fc.integer({ min: 1, max: 9 }),
        columns: fc.integer({ min: 1, max: 9 }),
        more: fc.nat(5),
        below: fc.nat(3),
      }),
      fc.nat(200),
      fc.nat(200),
      ({ own, columns, more, below }, a, b) => {
        const stride = columns + more;
        const count = own + below;
        const rows = { columns, width: stride, stride, count };
        const stored = Float32Array.from({ length: count * stride }, (_, i) =>
          i % stride < columns && i < own * stride ? Math.floor(i / stride) * columns + (i % stride) : NaN,
        );
        const [from, to] = [Math.min(a, b), Math.max(a, b)]
          .map((one) => one % (stored.length + 1))
          .sort((x, y) => x - y);
        const range = rangeWithoutPadding({ shape: [own, columns], rows }, from!, stored.subarray(from, to));
        const expected = stored.subarray(from, to).filter((x) => !Number.isNaN(x));
        expect(range.values).toEqual(expected);
        if (expected.length > 0) expect(range.from).toBe(expected[0]);
      },
    ),
  );
});
