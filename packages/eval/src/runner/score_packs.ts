/** Runs packs through a model: first what sequences begin with alike, then the rest of each. */
import { UserError } from '@stickbreaking/base';
import type { KeyValueCache, LlamaModel } from '@stickbreaking/model';
import { type Bundle, ownTokens, type Pack } from './packs.js';
import type { Sequence } from './sequences.js';

/** What scoring asks of a model. */
export type ScoringModel = Pick<
  LlamaModel,
  'targetScores' | 'extendCache' | 'createCache' | 'reserveCache' | 'parameters'
>;

/** How likely a sequence's targets are. */
export interface SequenceScore {
  /** Log-likelihood of all targets together, in nats, summed in double precision. */
  logLikelihood: number;
  /** Each is the likeliest token at its place. */
  isGreedy: boolean;
}

/** Matmuls of a rest of rows round differently, so that they are filled up to a multiple of this many; */
const ROWS = 64;
/** and those of few rows take another kernel, so to this many at least, */
const FEWEST_ROWS = 128;
/** or to as many as make this many products: below, OpenBLAS has kernels of its own, which add up in another order. */
const FEWEST_PRODUCTS = 1e6;
/** Keys that one pass may gather from caches, for each token that may run in it. */
const KEYS_PER_TOKEN = 8;

/** Tokens of a task's beginning that run at once; its digits must not depend on `batchTokens`. */
const ROOT_TOKENS = 4096;

/** Something that runs by itself after what is in a cache, with others beside it. */
interface Run {
  tokens: readonly number[];
  cache: KeyValueCache | undefined;
}

/**
 * Scores packs one after the other. A score does not depend on what else is in the pack: not on the place in it, and not on its
 * size.
 */
export class PackScorer {
  private readonly roots = new Map<string, KeyValueCache>();
  /** Held all the time: the memory of caches is given back when the last of them goes. */
  private anchor: KeyValueCache | undefined;
  /** Of every matmul. */
  private readonly fewestRows: number;

  constructor(
    private readonly model: ScoringModel,
    private readonly batchTokens: number,
  ) {
    const matrices = [...model.parameters.values()].filter(({ rank }) => rank === 2);
    const needed = Math.max(FEWEST_ROWS, ...matrices.map(({ size }) => Math.ceil(FEWEST_PRODUCTS / size)));
    this.fewestRows = Math.ceil(needed / ROWS) * ROWS;
  }

  /** @returns scores by the keys of sequences */
  async score(pack: Pack): Promise<Map<string, SequenceScore>> {
    const { bundles } = pack;
    const isCached = bundles.some(({ root, context }) => root.length + context.length > 0);
    if (!isCached) return await this.scoreRuns(bundles.map((bundle) => ({ bundle, cache: undefined })));
    this.prepare(pack);
    const open = bundles.map((bundle) => {
      const root = this.roots.get(bundle.root.join());
      return { bundle, cache: root ? root.fork() : this.model.createCache() };
    });
    try {
      for (const part of this.parts(
        open,
        ({ bundle }) => bundle.context,
        ({ cache }) => cache.length,
      )) {
        this.extend(
          part.flatMap(({ bundle, cache }) => (bundle.context.length > 0 ? [{ tokens: bundle.context, cache }] : [])),
        );
      }
      return await this.scoreRuns(open);
    } finally {
      for (const { cache } of open) cache.dispose();
    }
  }

  dispose(): void {
    for (const cache of this.roots.values()) cache.dispose();
    this.roots.clear();
    this.anchor?.dispose();
    this.anchor = undefined;
  }

  /** Room for all that the pack caches, and the beginnings of its tasks; those that it has no use for are let go. */
  private prepare({ bundles }: Pack): void {
    const needed = new Map(bundles.map(({ root }) => [root.join(), root]));
    for (const [key, cache] of this.roots) {
      if (needed.has(key)) continue;
      cache.dispose();
      this.roots.delete(key);
    }
    const fresh = [...needed].filter(([key, root]) => root.length > 0 && !this.roots.has(key));
    const lengths = bundles.flatMap(({ context, sequences }) => [
      context.length,
      ...sequences.map((one) => ownTokens(one).length),
    ]);
    this.model.reserveCache([...lengths, ...fresh.map(([, root]) => root.length), 2 * this.fewestRows]);
    if (!this.anchor) {
      this.anchor = this.model.createCache();
      this.extend([{ tokens: [0], cache: this.anchor }]);
    }
    for (const [key, root] of fresh) {
      const cache = this.model.createCache();
      for (let begin = 0; begin < root.length; begin += ROOT_TOKENS) {
        this.extend([{ tokens: root.slice(begin, begin + ROOT_TOKENS), cache }]);
      }
      this.roots.set(key, cache);
    }
  }

  private extend(runs: readonly Run[]): void {
    if (runs.length === 0) return;
    const { tokens, cuSeqlens, caches, fillers } = this.laidOut(runs);
    try {
      this.model.extendCache(tokens, { cuSeqlens, cache: caches! });
    } finally {
      for (const filler of fillers) filler.dispose();
    }
  }

  /** What follows each bundle's cache. Sequences of the same tokens run once. */
  private async scoreRuns(
    open: readonly { bundle: Bundle; cache: KeyValueCache | undefined }[],
  ): Promise<Map<string, SequenceScore>> {
    const runs = open.flatMap(({ bundle, cache }) =>
      [...grouped(bundle.sequences)].map((sequences) => ({ sequences, tokens: ownTokens(sequences[0]!), cache })),
    );
    const scores = new Map<string, SequenceScore>();
    for (const part of this.parts(
      runs,
      ({ tokens }) => tokens,
      ({ cache }) => cache?.length ?? 0,
    )) {
      for (const [key, score] of await this.scorePart(part)) scores.set(key, score);
    }
    return scores;
  }

  private async scorePart(
    part: readonly (Run & { sequences: readonly Sequence[] })[],
  ): Promise<[string, SequenceScore][]> {
    const forks = part.map((run) => ({ ...run, cache: run.cache?.fork() }));
    const { tokens, cuSeqlens, caches, fillers } = this.laidOut(forks);
    const sequences = part.flatMap((run, s) => run.sequences.map((one) => ({ one, end: cuSeqlens[s + 1]! })));
    const rows = sequences.flatMap(({ one, end }) => one.targets.map((_, t) => end - one.targets.length + t));
    const targets = sequences.flatMap(({ one }) => one.targets);
    while (rows.length < this.fewestRows || rows.length % ROWS > 0) {
      rows.push(0);
      targets.push(-1);
    }
    try {
      const found = this.model.targetScores({ tokens, cuSeqlens, rows, targets }, { cache: caches });
      const [losses, likeliest] = await Promise.all([found.losses.data(), found.likeliest.data()]);
      found.losses.dispose();
      found.likeliest.dispose();
      let next = 0;
      return sequences.map(({ one }) => {
        const begin = next;
        next += one.targets.length;
        return [one.key, summed(losses, likeliest, begin, next)];
      });
    } finally {
      for (const { cache } of forks) cache?.dispose();
      for (const filler of fillers) filler.dispose();
    }
  }

  /** Runs one after the other, and what fills the pass up: short documents of their own, the last, one of two tokens at least. */
  private laidOut(runs: readonly Run[]) {
    const used = runs.reduce((sum, run) => sum + run.tokens.length, 0);
    const size = Math.max(this.fewestRows, Math.ceil((used + 2) / ROWS) * ROWS);
    const tokens = new Int32Array(size);
    const cuSeqlens = [0];
    for (const run of runs) {
      const begin = cuSeqlens.at(-1)!;
      tokens.set(run.tokens, begin);
      cuSeqlens.push(begin + run.tokens.length);
    }
    while (cuSeqlens.at(-1)! < size) cuSeqlens.push(Math.min(size, cuSeqlens.at(-1)! + ROWS));
    const isCached = runs.some(({ cache }) => cache !== undefined);
    const fillers = isCached ? cuSeqlens.slice(runs.length + 1).map(() => this.model.createCache()) : [];
    const caches = isCached ? [...runs.map(({ cache }) => cache!), ...fillers] : undefined;
    return { tokens, cuSeqlens, caches, fillers };
  }

  /** Parts that fit a pass, at least one item in each. */
  private *parts<T>(
    items: readonly T[],
    tokensOf: (item: T) => readonly number[],
    cachedBefore: (item: T) => number,
  ): Generator<T[]> {
    let part: T[] = [];
    let [tokens, keys] = [0, 0];
    for (const item of items) {
      const own = tokensOf(item).length;
      const all = own + cachedBefore(item);
      const full = tokens + own > this.batchTokens || keys + all > KEYS_PER_TOKEN * this.batchTokens;
      if (part.length > 0 && full) {
        yield part;
        part = [];
        [tokens, keys] = [0, 0];
      }
      part.push(item);
      tokens += own;
      keys += all;
    }
    if (part.length > 0) yield part;
  }
}

/** Sequences of the same input together, such as single letters after the same question. */
function grouped(sequences: readonly Sequence[]): Iterable<Sequence[]> {
  const groups = new Map<string, Sequence[]>();
  for (const one of sequences) {
    const key = one.input.join();
    const group = groups.get(key);
    if (group) group.push(one);
    else groups.set(key, [one]);
  }
  return groups.values();
}

function summed(losses: ArrayLike<number>, likeliest: ArrayLike<number>, begin: number, end: number): SequenceScore {
  let sum = 0;
  let isGreedy = true;
  for (let i = begin; i < end; i++) {
    sum += losses[i]!;
    isGreedy &&= likeliest[i] === 1;
  }
  if (Number.isFinite(sum)) return { logLikelihood: -sum, isGreedy };
  throw new UserError('The model gives no finite loss. Its weights may have diverged; take an earlier checkpoint.');
}
