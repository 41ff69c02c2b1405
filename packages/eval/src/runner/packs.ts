/**
 * Sequences side by side in packs, longest first, without padding. What a pack holds depends on nothing but the sequences,
 * so that an evaluation that goes on after a kill, or is shared by processes, computes the same packs.
 */
import { hashOf, type Sequence } from './sequences.js';

/** Sequences that go on from the same cache; those without one that have the same input. */
export interface Bundle {
  key: string;
  /** Tokens that are cached for the whole task; and those that are cached after them. */
  root: readonly number[];
  context: readonly number[];
  sequences: readonly Sequence[];
}

/** Bundles that run through the model together. */
export interface Pack {
  bundles: readonly Bundle[];
  /** Tokens that run through the model: what is shared counts once. */
  tokens: number;
}

/** A sequence's tokens after what is cached. */
export function ownTokens({ input, cached }: Sequence): readonly number[] {
  return input.slice(cached);
}

/** @param batchTokens the most tokens of a pack, unless a single bundle has more */
export function packsOf(sequences: readonly Sequence[], batchTokens: number): Pack[] {
  const bundles = bundlesOf(sequences);
  // What is cached runs through other kernels than what is not, and packs of both would mix them.
  const families = [
    bundles.filter(({ root, context }) => root.length === 0 && context.length === 0),
    bundles.filter(({ root, context }) => root.length === 0 && context.length > 0),
    bundles.filter(({ root }) => root.length > 0),
  ];
  return families.flatMap((family) => filled(family, batchTokens));
}

function bundlesOf(sequences: readonly Sequence[]): Bundle[] {
  const each = new Map(sequences.map((sequence) => [sequence.key, sequence]));
  const groups = new Map<string, Sequence[]>();
  for (const sequence of each.values()) {
    const { input, root, cached } = sequence;
    const key = hashOf(Int32Array.from([root, cached, ...(cached > root ? input.slice(0, cached) : input)]));
    const group = groups.get(key);
    if (group) group.push(sequence);
    else groups.set(key, [sequence]);
  }
  return [...groups].map(([key, group]) => {
    const { input, root, cached } = group[0]!;
    return { key, root: input.slice(0, root), context: input.slice(root, cached), sequences: group };
  });
}

function filled(bundles: readonly Bundle[], batchTokens: number): Pack[] {
  const measured = bundles.map((bundle) => ({ bundle, root: bundle.root.join(), tokens: tokensOf(bundle) }));
  // By root, which is then cached once; and by key, since the order must not depend on that of the tasks.
  measured.sort(
    (a, b) =>
      compare(a.root, b.root) ||
      b.bundle.context.length - a.bundle.context.length ||
      b.tokens - a.tokens ||
      compare(a.bundle.key, b.bundle.key),
  );
  const packs: Pack[] = [];
  let open: { bundles: Bundle[]; tokens: number } = { bundles: [], tokens: 0 };
  for (const { bundle, tokens } of measured) {
    if (open.tokens > 0 && open.tokens + tokens > batchTokens) {
      packs.push(open);
      open = { bundles: [], tokens: 0 };
    }
    open.bundles.push(bundle);
    open.tokens += tokens;
  }
  return open.tokens > 0 ? [...packs, open] : packs;
}

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

function tokensOf({ context, sequences }: Bundle): number {
  const own = new Map(sequences.map((one) => [one.input.join(), ownTokens(one).length]));
  return context.length + [...own.values()].reduce((sum, length) => sum + length, 0);
}
