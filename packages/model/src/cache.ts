/**
 * Keys and values of the tokens so far, layer by layer. They lie in pages of a few tokens that all caches of a model share:
 * a cache is a list of pages, grows page by page without being copied, and shares its pages with its forks. Keys are stored
 * turned by RoPE where their angles never change, and as projected elsewhere.
 */
import { formatBytes, UserError } from '@stickbreaking/base';
import { growPages, readPages, writePages } from '@stickbreaking/core';
import { engine, type Tensor, type Tensor4D, tidy, type Variable, variable, zeros } from '@tensorflow/tfjs-core';
import { host } from './host.js';

/** Tokens of a page: half of one is empty on average. */
export const PAGE_TOKENS = 16;
/** How much larger the memory becomes when it is full, at least: what a cache takes stays within a tenth of its need. */
const GROWTH = 1.06;
/** And by so many pages at least on a GPU, where every step that was recorded is recorded anew when the memory has moved. */
const GPU_GROWTH = 16;
/** More than a GPU has, in bytes; below it the GPU says itself what it has no room for. */
const ANY_GPU = 2 ** 40;

interface CacheSizes {
  numLayers: number;
  numKvHeads: number;
  headDim: number;
}

/** One layer's keys and values, [P, numKvHeads, PAGE_TOKENS, headDim], and the gates of an attention that has them, of 1. */
export interface LayerPages {
  k: Variable;
  v: Variable;
  gates?: Variable | undefined;
}

/** Pages of so many tokens. */
export const pagesOf = (tokens: number) => Math.ceil(tokens / PAGE_TOKENS);

/** The pages of a model's caches. Its memory is freed when the last cache gives its pages back. */
export class CachePages {
  private layers: LayerPages[] = [];
  /** How many caches hold each page. */
  private readonly holders: number[] = [];
  private readonly free: number[] = [];

  /** @param gated whether keys remember something beside themselves */
  constructor(
    private readonly sizes: CacheSizes,
    private readonly gated = false,
  ) {}

  /** Bytes of the keys and values of so many tokens, as the active backend stores them. */
  bytes(tokens: number): number {
    const { numLayers, numKvHeads, headDim } = this.sizes;
    const ofHead = 2 * headDim + (this.gated ? 1 : 0);
    return (engine().backendName === 'cuda' ? 2 : 4) * tokens * numLayers * numKvHeads * ofHead;
  }

  /** Tokens that there is memory for. */
  get capacity(): number {
    return this.holders.length * PAGE_TOKENS;
  }

  /** Makes room for so many more pages at once, as memory that grows is copied. */
  reserve(count: number): void {
    if (count > this.free.length) this.grow(this.holders.length + count - this.free.length);
  }

  layer(index: number): LayerPages {
    return this.layers[index]!;
  }

  /** Pages that nobody holds, now held once. */
  take(count: number): number[] {
    this.reserve(count);
    const taken = this.free.splice(this.free.length - count, count);
    for (const page of taken) this.holders[page] = 1;
    return taken;
  }

  share(pages: readonly number[]): void {
    for (const page of pages) this.holders[page]!++;
  }

  isShared(page: number): boolean {
    return this.holders[page]! > 1;
  }

  release(pages: readonly number[]): void {
    for (const page of pages) {
      this.holders[page]!--;
      if (this.holders[page] === 0) this.free.push(page);
    }
    if (pages.length > 0 && this.free.length === this.holders.length) this.dispose();
  }

  /** A page of one's own with what another holds. */
  copy(page: number): number {
    const [own] = this.take(1) as [number];
    const slots = (of: number) => Int32Array.from({ length: PAGE_TOKENS }, (_, i) => of * PAGE_TOKENS + i);
    tidy(() => {
      for (const { k, v, gates } of this.layers) {
        writePages(readPages(k, slots(page)), readPages(v, slots(page)), k, v, slots(own));
        if (!gates) continue;
        const kept = readPages(gates, slots(page));
        writePages(kept, kept, gates, gates, slots(own));
      }
    });
    return own;
  }

  private grow(needed: number): void {
    const { numLayers, numKvHeads, headDim } = this.sizes;
    const onGpu = engine().backendName === 'cuda';
    const count = Math.max(needed + (onGpu ? GPU_GROWTH : 0), Math.ceil(this.holders.length * GROWTH));
    this.checkMemory(count * PAGE_TOKENS);
    const empty = (dim: number) => zeros([0, numKvHeads, PAGE_TOKENS, dim]) as Tensor4D;
    const larger = (old?: Tensor, dim = headDim) =>
      tidy(() => variable(growPages(old ?? empty(dim), count), false) as Variable) satisfies Variable;
    try {
      for (let layer = 0; layer < numLayers; layer++) {
        const old = this.layers[layer];
        const k = larger(old?.k);
        old?.k.dispose();
        const v = larger(old?.v);
        old?.v.dispose();
        const gates = this.gated ? larger(old?.gates, 1) : undefined;
        old?.gates?.dispose();
        this.layers[layer] = { k, v, gates };
      }
    } catch (error) {
      if (/out of GPU memory/.test((error as Error).message))
        throw this.tooLarge(count * PAGE_TOKENS, 'this GPU has no more');
      throw error;
    }
    for (let page = count - 1; page >= this.holders.length; page--) this.free.push(page);
    while (this.holders.length < count) this.holders.push(0);
  }

  /** @throws UserError if there is no memory for the keys and values of so many tokens */
  checkMemory(tokens: number, because = ''): void {
    const needed = this.bytes(tokens);
    if (engine().backendName !== 'cuda') {
      const memory = host().memory();
      if (needed > memory) throw this.tooLarge(tokens, `this machine has ${formatBytes(memory)}`, because);
    } else if (needed > ANY_GPU) throw this.tooLarge(tokens, 'no GPU has as much', because);
  }

  private tooLarge(tokens: number, limit: string, because = ''): UserError {
    return new UserError(
      `${because}The keys and values of ${tokens} tokens need ${formatBytes(this.bytes(tokens))}; ${limit}. Use shorter prompts and continuations, or fewer at once.`,
    );
  }

  private dispose(): void {
    for (const { k, v, gates } of this.layers) {
      k.dispose();
      v.dispose();
      gates?.dispose();
    }
    this.layers = [];
    this.holders.length = 0;
    this.free.length = 0;
  }
}

/** The keys and values of one document so far; `LlamaModel.createCache` makes one. */
export class KeyValueCache {
  private pages: number[] = [];
  private tokens = 0;

  constructor(private readonly all: CachePages) {}

  /** Tokens held. */
  get length(): number {
    return this.tokens;
  }

  /**
   * A cache that holds the same, or the first tokens of it, and grows on its own. Pages are shared, and both are to be
   * disposed of.
   */
  fork(tokens = this.tokens): KeyValueCache {
    const other = new KeyValueCache(this.all);
    other.tokens = Math.min(tokens, this.tokens);
    other.pages = this.pages.slice(0, pagesOf(other.tokens));
    this.all.share(other.pages);
    return other;
  }

  /** Frees all keys and values; the cache is then empty. */
  dispose(): void {
    const { pages } = this;
    this.pages = [];
    this.tokens = 0;
    this.all.release(pages);
  }

  /** Makes room for more tokens of one's own; returns the pages. */
  extend(count: number): readonly number[] {
    const last = this.pages.length - 1;
    if (count > 0 && this.tokens % PAGE_TOKENS !== 0 && this.all.isShared(this.pages[last]!)) {
      const shared = this.pages[last]!;
      this.pages[last] = this.all.copy(shared);
      this.all.release([shared]);
    }
    const missing = pagesOf(this.tokens + count) - this.pages.length;
    if (missing > 0) this.pages.push(...this.all.take(missing));
    this.tokens += count;
    return this.pages;
  }

  /**
   * @param because what the message begins with
   * @throws UserError if memory could never hold so many more tokens
   */
  checkRoom(count: number, because?: string): void {
    this.all.checkMemory(this.tokens + count, because);
  }

  /** Whether both share one memory, as caches of one model do. */
  isBeside(other: KeyValueCache): boolean {
    return this.all === other.all;
  }

  /** The memory. */
  get store(): CachePages {
    return this.all;
  }
}
