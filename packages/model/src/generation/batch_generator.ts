/**
 * Many continuations at once. Each step reads prompts that wait, as many as a step may take, and then makes one token for
 * every row that runs; a row that ends leaves its place to the next prompt.
 *
 * A row's tokens do not depend on the rest of the batch: its prompt runs through the model on its own, in chunks counted from
 * its beginning; the kernels of a step compute each row by itself (`Linears` and `DecodeAttention` in the contract); and its
 * random numbers are its seed's, counted by its own tokens.
 */
import { UserError } from '@stickbreaking/base';
import { type Ints, type SamplingRow, sampleTokens } from '@stickbreaking/core';
import type { Tensor2D } from '@tensorflow/tfjs-core';
import { type KeyValueCache, PAGE_TOKENS } from '../cache.js';
import { checkGenerateOptions, type GenerationRequest } from './options.js';
import { uniformAt } from './random.js';
import { logProbabilities, notFinite, sample, type TokenLogProbability } from './sampling.js';

/** What generation asks of a model. */
export interface GeneratingModel {
  readonly config: { vocabSize: number };
  createCache(): KeyValueCache;
  reserveCache?(lengths: readonly number[]): void;
  /** [S, vocabSize] */
  nextLogits(tokens: Ints, options: { cuSeqlens: Ints; cache: KeyValueCache | readonly KeyValueCache[] }): Tensor2D;
}

/** Why a continuation ended: a stop token, its `maxNewTokens`, or `remove` or its signal. */
export type EndReason = 'stop' | 'length' | 'removed';

/** What a step made of one row: a token, or its end, with its cache where the request keeps it, which is then the caller's. */
export type GenerationEvent =
  | { id: number; token: number; logProbability?: number; top?: TokenLogProbability[] }
  | { id: number; end: EndReason; cache?: KeyValueCache };

interface Row {
  id: number;
  request: GenerationRequest;
  cache: KeyValueCache;
  /** Tokens of prompt and continuation, if a penalty asks for them. */
  earlier: Set<number> | undefined;
  made: number;
  last: number;
}

/** How many prompt tokens run through the model at once, which bounds the memory of a long prompt. */
export const PREFILL_TOKENS = 4096;
/** Rows that one pass decodes: as many as the kernels compute each by itself. */
export const MOST_ROWS = 64;

const DEFAULT_NEW_TOKENS = 256;

/** Continues prompts that come and go. Not for several steps at once: await one before the next. */
export class BatchGenerator {
  private readonly batchSize: number;
  private readonly waiting: { id: number; request: GenerationRequest; cache: KeyValueCache }[] = [];
  private rows: Row[] = [];
  private removed: GenerationEvent[] = [];
  private nextId = 0;

  /**
   * @param options `batchSize`: rows that run at once, each with a cache of its own; default 64
   * @throws UserError unless `batchSize` is a positive whole number
   */
  constructor(
    private readonly model: GeneratingModel,
    options: { batchSize?: number } = {},
  ) {
    const { batchSize = MOST_ROWS } = options;
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw new UserError(`batchSize is ${batchSize}; expected a positive whole number.`);
    }
    this.batchSize = batchSize;
  }

  /** Prompts that wait, and rows that run. */
  get size(): number {
    return this.waiting.length + this.rows.length;
  }

  /** How many more prompts can run at once. */
  get room(): number {
    return this.batchSize - this.size;
  }

  /**
   * Adds a prompt, which runs as soon as there is room.
   *
   * @returns the id that its events carry: 0, 1, 2, …
   * @throws UserError if the prompt is empty, has a token outside the vocabulary, an option does not fit, or
   *   memory has no room for as many new tokens as there may be
   */
  add(request: GenerationRequest): number {
    checkGenerateOptions(request);
    const { prompt, prefix } = request;
    if (prompt.length === 0) throw new UserError('The prompt is empty; a continuation needs at least one token.');
    const { vocabSize } = this.model.config;
    for (const token of prompt) {
      if (!(token >= 0 && token < vocabSize)) {
        throw new UserError(`Token ${token} is not in the model's vocabulary of ${vocabSize}.`);
      }
    }
    const before = prefix ?? this.model.createCache();
    const { maxNewTokens = DEFAULT_NEW_TOKENS } = request;
    before.checkRoom(prompt.length + maxNewTokens, `maxNewTokens is ${maxNewTokens}. `);
    const id = this.nextId++;
    this.waiting.push({ id, request, cache: prefix?.fork() ?? before });
    return id;
  }

  /** Ends a prompt's continuation, whether it waits or runs; false if it has ended already. */
  remove(id: number): boolean {
    const waits = this.waiting.findIndex((one) => one.id === id);
    const [found] = waits >= 0 ? this.waiting.splice(waits, 1) : this.rows.filter((row) => row.id === id);
    if (!found) return false;
    this.rows = this.rows.filter((row) => row.id !== id);
    this.removed.push(endOf(found, 'removed'));
    return true;
  }

  /** One token for every row that runs; returns what was made, in the order of the rows. Empty if there is nothing to do. */
  async step(): Promise<GenerationEvent[]> {
    for (const { id, request } of [...this.waiting, ...this.rows]) if (request.signal?.aborted) this.remove(id);
    const running = [...this.rows];
    const events: GenerationEvent[] = [];
    for (let at = 0; at < running.length; at += MOST_ROWS) {
      const rows = running.slice(at, at + MOST_ROWS).filter((row) => this.rows.includes(row));
      if (rows.length > 0) events.push(...(await this.decode(rows)));
    }
    events.push(...(await this.admit()));
    return [...this.removed.splice(0), ...events];
  }

  /** Frees every cache; prompts that have not ended are forgotten. */
  dispose(): void {
    for (const { cache } of [...this.waiting.splice(0), ...this.rows.splice(0)]) cache.dispose();
    for (const event of this.removed.splice(0)) if ('end' in event) event.cache?.dispose();
  }

  private async decode(rows: readonly Row[]): Promise<GenerationEvent[]> {
    const cuSeqlens = Int32Array.from({ length: rows.length + 1 }, (_, i) => i);
    const cache = rows.map((row) => row.cache);
    const logits = this.model.nextLogits(
      rows.map((row) => row.last),
      { cuSeqlens, cache },
    );
    return this.take(rows, logits);
  }

  /** Prompts for which there is room, one at least and until a step has read enough. */
  private async admit(): Promise<GenerationEvent[]> {
    const events: GenerationEvent[] = [];
    const next = this.waiting.slice(0, this.batchSize - this.rows.length);
    if (next.length > 0) this.model.reserveCache?.(next.map(({ request }) => expectedLength(request)));
    let read = 0;
    while (this.rows.length < this.batchSize && read < PREFILL_TOKENS) {
      const next = this.waiting.shift();
      if (!next) break;
      const { request, cache } = next;
      const earlier = (request.repetitionPenalty ?? 1) === 1 ? undefined : new Set<number>(request.prompt);
      const row = { ...next, earlier, made: 0, last: -1 };
      this.rows.push(row);
      read += request.prompt.length;
      const logits = await this.prefill(request.prompt, cache);
      events.push(...(await this.take([row], logits)));
    }
    return events;
  }

  private async prefill(prompt: Ints, cache: KeyValueCache): Promise<Tensor2D> {
    for (let begin = 0; ; begin += PREFILL_TOKENS) {
      const tokens = prompt.slice(begin, begin + PREFILL_TOKENS);
      const logits = this.model.nextLogits(tokens, { cuSeqlens: [0, tokens.length], cache });
      if (begin + PREFILL_TOKENS >= prompt.length) return logits;
      logits.dispose();
    }
  }

  /** The next token of each row from its logits, which are consumed. */
  private async take(rows: readonly Row[], logits: Tensor2D): Promise<GenerationEvent[]> {
    try {
      const drawn = rows.every(isDrawnAnywhere) ? sampleTokens(logits, rows.map(samplingOf)) : undefined;
      if (drawn) {
        const { tokens, logProbabilities } = await drawn;
        return rows.flatMap((row, i) => {
          if (!this.rows.includes(row)) return [];
          if (tokens[i] === -1) throw notFinite(logProbabilities[i]!);
          return this.choose(row, tokens[i]!, { logProbability: logProbabilities[i]!, top: [] });
        });
      }
      const values = (await logits.data()) as Float32Array;
      const { vocabSize } = this.model.config;
      return rows.flatMap((row, i) => {
        if (!this.rows.includes(row)) return [];
        const own = values.subarray(i * vocabSize, (i + 1) * vocabSize);
        const token = sample(own, row.request, samplingOf(row).uniform, row.earlier);
        const { logProbabilities: wanted } = row.request;
        return this.choose(row, token, wanted === undefined ? undefined : logProbabilities(own, token, wanted));
      });
    } finally {
      logits.dispose();
    }
  }

  private choose(
    row: Row,
    token: number,
    scores: { logProbability: number; top: TokenLogProbability[] } | undefined,
  ): GenerationEvent[] {
    const { id, request, earlier } = row;
    const { maxNewTokens = DEFAULT_NEW_TOKENS, stop = [], logProbabilities: wanted } = request;
    if (stop.includes(token)) return [this.end(row, 'stop')];
    row.made++;
    row.last = token;
    earlier?.add(token);
    const event: GenerationEvent = { id, token, ...(wanted === undefined ? {} : scores) };
    return row.made < maxNewTokens ? [event] : [event, this.end(row, 'length')];
  }

  private end(row: Row, end: EndReason): GenerationEvent {
    this.rows = this.rows.filter((one) => one !== row);
    return endOf(row, end);
  }
}

function endOf({ id, request, cache }: Pick<Row, 'id' | 'request' | 'cache'>, end: EndReason): GenerationEvent {
  if (request.keepCache) return { id, end, cache };
  cache.dispose();
  return { id, end };
}

/** Tokens to make room for: the prompt, and some new ones, a sixteenth of it at most. */
function expectedLength({ prompt, maxNewTokens = DEFAULT_NEW_TOKENS }: GenerationRequest): number {
  return prompt.length + Math.min(maxNewTokens, Math.floor(prompt.length / PAGE_TOKENS));
}

/** Whether a backend's own kernel may draw: it knows of no penalties and tells no other token's probability. */
function isDrawnAnywhere({ earlier, request }: Row): boolean {
  return !earlier && !request.logProbabilities;
}

function samplingOf({ request, made }: Row): SamplingRow {
  const { temperature = 1, topK = 2 ** 31 - 1, topP = 1, minP = 0, seed = 0 } = request;
  return { temperature, topK, topP, minP, uniform: temperature === 0 ? 0 : uniformAt(seed, made) };
}
