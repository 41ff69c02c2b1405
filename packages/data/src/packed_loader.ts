// Padding-free packing: a micro-batch is exactly `microBatchTokens` tokens of documents laid end to end, with the
// boundaries that attention must not cross in `cuSeqlens`. A document is cut only at the context length and at the end
// of a micro-batch; its rest begins the next piece. Several documents may be read in turns, so that a batch of long
// ones is of more than one. A document's targets are its tokens, the end token included; its inputs are the same moved
// by one, with the token in front that documents begin from, here as in evaluation and generation (the tokenizer's
// beginning token, or else its end token): every token is a target exactly once an epoch.
import { shown, UserError } from '@stickbreaking/base';
import { z } from 'zod';
import type { TokenDataset } from './dataset.js';
import { shuffledOrder } from './shuffle.js';

/** A micro-batch of packed documents. */
export interface Batch {
  /** inputs, [N] with N = microBatchTokens */
  tokens: Int32Array;
  /** the token after each input, [N]; −1 would mean not scored, and packing leaves none */
  targets: Int32Array;
  /** boundaries of the pieces, [pieces + 1], from 0 to N */
  cuSeqlens: Int32Array;
}

/** A dataset with its share of a mixture. */
export interface MixtureComponent {
  dataset: TokenDataset;
  /** Share of the tokens, relative to the other weights. */
  weight: number;
}

/** Options of `PackedLoader`. */
export interface PackedLoaderOptions {
  mixture: readonly MixtureComponent[];
  /** No piece is longer than this. */
  contextLength: number;
  /** Tokens in every batch. */
  microBatchTokens: number;
  /** Decides the order of documents, anew in each epoch. */
  seed: number;
  /** How many documents are read in turns, a piece of each; default 1: each is read to its end before the next. */
  interleave?: number;
  /** Continue from another loader of the same mixture and seed. */
  cursor?: LoaderCursor;
}

const count = z.int().nonnegative();

/** The schema of a loader's cursor, for checking one that was saved. */
export const LoaderCursorSchema = z.strictObject({
  version: z.literal(1),
  seed: z.int(),
  tokensSeen: count,
  datasets: z.array(
    z.strictObject({
      /** of the dataset */
      hash: z.string(),
      weight: z.number(),
      epoch: count,
      /** documents taken in this epoch */
      position: count,
      /** inputs in all the documents taken so far */
      tokens: count,
    }),
  ),
  /** The documents that are under way: tokens before `offset` have been given out. */
  open: z.array(z.strictObject({ dataset: count, document: count, offset: count }).nullable()).min(1),
  /** the one of `open` that is next */
  turn: count,
});

/** Where a loader stands, as plain JSON. */
export type LoaderCursor = z.infer<typeof LoaderCursorSchema>;

interface OpenDocument {
  dataset: number;
  document: number;
  offset: number;
  /** in tokens, its end token included */
  length: number;
}

interface Stream {
  dataset: TokenDataset;
  weight: number;
  epoch: number;
  position: number;
  tokens: number;
  order: Uint32Array;
}

/** Packed micro-batches from a mixture of datasets, without end. */
export class PackedLoader {
  readonly contextLength: number;
  readonly microBatchTokens: number;
  private readonly seed: number;
  private readonly streams: Stream[];
  private open: (OpenDocument | undefined)[];
  private turn = 0;
  private seen = 0;

  /** Throws a UserError when an option makes no sense or the cursor is of other data. */
  constructor(options: PackedLoaderOptions) {
    this.contextLength = positive(options.contextLength, 'contextLength');
    this.microBatchTokens = positive(options.microBatchTokens, 'microBatchTokens');
    this.seed = options.seed;
    if (!Number.isSafeInteger(options.seed) || options.seed < 0) {
      throw new UserError(`seed is ${options.seed}; expected a whole number from 0 on.`);
    }
    if (this.contextLength > this.microBatchTokens) {
      throw new UserError(
        `contextLength ${this.contextLength} is above microBatchTokens ${this.microBatchTokens}: no piece could be that long.`,
      );
    }
    checkMixture(options.mixture);
    this.streams = options.mixture.map(({ dataset, weight }, i) => {
      const order = shuffledOrder(dataset.documents, this.seed, i, 0);
      return { dataset, weight, epoch: 0, position: 0, tokens: 0, order };
    });
    // Not more than there are: a document would be read against itself.
    const all = options.mixture.reduce((sum, { dataset }) => sum + dataset.documents, 0);
    this.open = new Array(Math.min(all, positive(options.interleave ?? 1, 'interleave'))).fill(undefined);
    if (options.cursor) this.restore(options.cursor);
  }

  /** Inputs given out so far. */
  get tokensSeen(): number {
    return this.seen;
  }

  /** Epochs finished by each dataset of the mixture. */
  get epochs(): number[] {
    return this.streams.map((stream) => stream.epoch);
  }

  /** The next micro-batch. There is always one: epochs follow each other without end. */
  next(): Batch {
    const length = this.microBatchTokens;
    const tokens = new Int32Array(length);
    const targets = new Int32Array(length);
    const boundaries = [0];
    for (let filled = 0; filled < length; ) {
      this.open[this.turn] ??= this.nextDocument();
      const current = this.open[this.turn]!;
      const { offset } = current;
      const take = Math.min(this.contextLength, length - filled, current.length - offset);
      const { dataset } = this.streams[current.dataset]!;
      const before = offset === 0 ? 0 : 1;
      const piece = dataset.document(current.document, offset - before, offset + take);
      if (before === 0) tokens[filled] = dataset.beginId;
      targets.set(piece.subarray(before), filled);
      tokens.set(piece.subarray(0, piece.length - 1), filled + 1 - before);
      filled += take;
      boundaries.push(filled);
      current.offset += take;
      if (current.offset === current.length) this.open[this.turn] = undefined;
      this.turn = (this.turn + 1) % this.open.length;
    }
    this.seen += length;
    return { tokens, targets, cuSeqlens: Int32Array.from(boundaries) };
  }

  /** Where the loader stands: a loader made with it gives exactly the batches this one would give next. */
  cursor(): LoaderCursor {
    return {
      version: 1,
      seed: this.seed,
      tokensSeen: this.seen,
      datasets: this.streams.map(({ dataset, weight, epoch, position, tokens }) => {
        return { hash: dataset.hash, weight, epoch, position, tokens };
      }),
      open: this.open.map((one) => (one ? { dataset: one.dataset, document: one.document, offset: one.offset } : null)),
      turn: this.turn,
    };
  }

  /** The dataset furthest behind its share gives the next document; the first of equals. */
  private nextDocument(): OpenDocument {
    let index = 0;
    for (let i = 1; i < this.streams.length; i++) {
      if (this.lead(i) < this.lead(index)) index = i;
    }
    const stream = this.streams[index]!;
    if (stream.position === stream.dataset.documents) {
      stream.epoch++;
      stream.position = 0;
      stream.order = shuffledOrder(stream.dataset.documents, this.seed, index, stream.epoch);
    }
    const document = stream.order[stream.position++]!;
    const length = stream.dataset.documentLength(document);
    stream.tokens += length;
    return { dataset: index, document, offset: 0, length };
  }

  private lead(index: number): number {
    return this.streams[index]!.tokens / this.streams[index]!.weight;
  }

  private restore(input: LoaderCursor): void {
    const cursor = parseCursor(input);
    if (cursor.seed !== this.seed) {
      throw new UserError(`the data cursor was made with seed ${cursor.seed} and not ${this.seed}; use the same seed.`);
    }
    if (cursor.datasets.length !== this.streams.length) {
      throw new UserError(
        `the data cursor is of ${cursor.datasets.length} datasets, the mixture has ${this.streams.length}.`,
      );
    }
    for (const [i, stream] of this.streams.entries()) {
      const { hash, weight, epoch, position, tokens } = cursor.datasets[i]!;
      if (hash !== stream.dataset.hash || weight !== stream.weight || position > stream.dataset.documents) {
        const what = hash === stream.dataset.hash ? `another weight or place` : 'other documents or another tokenizer';
        throw new UserError(`the data cursor does not fit ${shown(stream.dataset.directory)}: it is of ${what}.`);
      }
      const order = shuffledOrder(stream.dataset.documents, this.seed, i, epoch);
      Object.assign(stream, { epoch, position, tokens, order });
    }
    this.seen = cursor.tokensSeen;
    if (cursor.open.length !== this.open.length) {
      throw new UserError(
        `the data cursor is of ${cursor.open.length} documents read in turns and not ${this.open.length}; use the same interleave.`,
      );
    }
    if (cursor.turn >= cursor.open.length) throw new UserError('the data cursor is damaged.');
    this.open = cursor.open.map((one) => (one ? this.reopen(one) : undefined));
    this.turn = cursor.turn;
  }

  private reopen(current: Omit<OpenDocument, 'length'>): OpenDocument {
    const dataset = this.streams[current.dataset]?.dataset;
    if (!dataset || current.document >= dataset.documents) throw new UserError('the data cursor is damaged.');
    const length = dataset.documentLength(current.document);
    if (current.offset >= length) throw new UserError('the data cursor is damaged.');
    return { ...current, length };
  }
}

function positive(value: number, name: string): number {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new UserError(`${name} is ${value}; expected a whole number above 0.`);
}

function checkMixture(mixture: readonly MixtureComponent[]): void {
  if (mixture.length === 0) throw new UserError('the mixture is empty; give it at least one dataset.');
  for (const { dataset, weight } of mixture) {
    if (!(weight > 0 && Number.isFinite(weight))) {
      throw new UserError(`the weight of ${shown(dataset.directory)} is ${weight}; expected a number above 0.`);
    }
    if (dataset.tokenizerHash !== mixture[0]!.dataset.tokenizerHash) {
      throw new UserError(
        `${dataset.directory} and ${mixture[0]!.dataset.directory} were made by different tokenizers.`,
      );
    }
  }
}

function parseCursor(input: unknown): LoaderCursor {
  const result = LoaderCursorSchema.safeParse(input);
  if (result.success) return result.data;
  throw new UserError(
    `the data cursor is damaged: ${result.error.issues[0]!.path.join('.')} is not what it should be.`,
  );
}
