/**
 * One model for many callers: their prompts run in one batch, a token of each at a time, and between two steps the
 * program sees to everything else.
 */
import { setImmediate as otherWork } from 'node:timers/promises';
import { UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import { StopTexts } from '@stickbreaking/eval';
import {
  BatchGenerator,
  type GenerateOptions,
  type LlamaModel,
  logProbabilities,
  type TokenLogProbability,
} from '@stickbreaking/model';
import { KeptCaches } from './kept_caches.js';

/** How a continuation ended: a stop token or text, its greatest length, or its caller, who left or ran out of time. */
export type Finish = 'stop' | 'length' | 'abort';

/** One prompt. */
export interface CompletionRequest extends Omit<GenerateOptions, 'stop'> {
  /** Token ids, the beginning token included where one is wanted. */
  prompt: readonly number[];
  /** Texts that end the continuation and are no part of it. */
  stopTexts?: readonly string[];
  signal?: AbortSignal;
  /** Called with each piece of text, never half a character, and the scores of the tokens that it was made of, if asked for. */
  onText?: (piece: string, scores: readonly ScoredToken[]) => void;
  /** Keep what the model has read and written for a prompt that begins with it, such as a conversation's next turn. */
  keep?: boolean;
}

/** A token with its log-probability, in nats, and those of the most likely ones in its place. */
export interface ScoredToken {
  token: number;
  logProbability: number;
  top: TokenLogProbability[];
}

export interface Completion {
  text: string;
  /** As many as were made, a stop token excluded. */
  tokens: number;
  finish: Finish;
  /** Where `logProbabilities` asked for them. */
  scores: ScoredToken[];
  /** How many of them `onText` was given. */
  scoresGiven: number;
}

export interface EngineOptions {
  /** Continuations that run at once; default 16. */
  batchSize?: number;
  /** Requests that may run or wait; more are refused. Default 64. */
  queue?: number;
  /** Tokens whose keys and values may stay for requests that `keep` them, all together; default 16,384. */
  keepTokens?: number;
}

/** How many tokens of a text are scored at once, which bounds the memory of their logits. */
const SCORED_AT_ONCE = 512;

/** The queue is full; the caller may try again. */
export class BusyError extends UserError {}

interface Running {
  request: CompletionRequest;
  decoder: ReturnType<Tokenizer['streamDecoder']>;
  stops: StopTexts;
  completion: Completion;
  settle(completion: Completion): void;
  fail(error: unknown): void;
}

export class Engine {
  private batch: BatchGenerator;
  private readonly running = new Map<number, Running>();
  /** Prompt and continuation of requests whose caches come back when they end. */
  private readonly read = new Map<number, number[]>();
  private readonly kept: KeptCaches;
  private working = false;
  private readonly batchSize: number;
  private readonly queue: number;

  constructor(
    readonly model: LlamaModel,
    readonly tokenizer: Tokenizer,
    { batchSize = 16, queue = 64, keepTokens = 16_384 }: EngineOptions = {},
  ) {
    this.kept = new KeptCaches(keepTokens);
    this.batchSize = batchSize;
    this.queue = queue;
    this.batch = new BatchGenerator(model, { batchSize });
  }

  /** Requests that run or wait. */
  get size(): number {
    return this.running.size;
  }

  /**
   * Continues a prompt.
   *
   * @throws BusyError if as many requests as may wait are there already; UserError if the request does not fit the model
   */
  complete(request: CompletionRequest): Promise<Completion> {
    this.checkRoom(1);
    const { signal, stopTexts = [], onText: _, keep = false, prompt, ...options } = request;
    // A penalty asks for all tokens of the prompt.
    const beginning = keep && (options.repetitionPenalty ?? 1) === 1 ? this.kept.beginningOf(prompt) : undefined;
    let id: number;
    try {
      id = this.batch.add({
        ...{ ...options, prompt: Int32Array.from(prompt.slice(beginning?.length ?? 0)) },
        ...{ stop: this.tokenizer.stopIds, keepCache: keep },
        ...(beginning ? { prefix: beginning } : {}),
        ...(signal ? { signal } : {}),
      });
    } finally {
      beginning?.dispose();
    }
    if (keep) this.read.set(id, [...prompt]);
    return new Promise((settle, fail) => {
      this.running.set(id, {
        ...{ request, settle, fail },
        decoder: this.tokenizer.streamDecoder(request.prompt),
        stops: new StopTexts(stopTexts),
        completion: { text: '', tokens: 0, finish: 'length', scores: [], scoresGiven: 0 },
      });
      if (!this.working) void this.work();
    });
  }

  /** @throws BusyError where so many more requests would be too many */
  checkRoom(requests: number): void {
    if (this.running.size + requests > this.queue) {
      throw new BusyError(`${this.running.size} requests run or wait, and ${this.queue} may; try again later.`);
    }
  }

  /** The log-probability of each token of a text after those before it, and of the `top` most likely ones there. */
  async score(tokens: readonly number[], top: number): Promise<ScoredToken[]> {
    const scores: ScoredToken[] = [];
    const cache = this.model.createCache();
    try {
      for (let begin = 0; begin + 1 < tokens.length; begin += SCORED_AT_ONCE) {
        const end = Math.min(begin + SCORED_AT_ONCE, tokens.length - 1);
        const logits = this.model.forward(Int32Array.from(tokens.slice(begin, end)), { cache });
        const values = (await logits.data()) as Float32Array;
        logits.dispose();
        const { vocabSize } = this.model.config;
        for (let i = begin; i < end; i++) {
          const own = values.subarray((i - begin) * vocabSize, (i - begin + 1) * vocabSize);
          scores.push({ token: tokens[i + 1]!, ...logProbabilities(own, tokens[i + 1]!, top) });
        }
      }
      return scores;
    } finally {
      cache.dispose();
    }
  }

  dispose(): void {
    for (const id of [...this.running.keys()]) this.finish(id, 'abort');
    this.batch.dispose();
    this.read.clear();
    this.kept.dispose();
  }

  private async work(): Promise<void> {
    this.working = true;
    try {
      // A cache that is kept comes with the step after the text's end.
      while (this.batch.size > 0 || this.read.size > 0) {
        for (const event of await this.batch.step()) {
          if ('end' in event) {
            if (event.cache) this.kept.keep(this.read.get(event.id) ?? [], event.cache);
            this.read.delete(event.id);
            this.finish(event.id, event.end === 'removed' ? 'abort' : event.end);
          } else {
            const one = this.running.get(event.id);
            if (one) this.take(event.id, one, event);
          }
        }
        await otherWork();
      }
    } catch (error) {
      // One step is for all rows: what breaks it ends them all, and the next request begins anew.
      const waiting = [...this.running.values()];
      this.running.clear();
      this.read.clear();
      this.batch.dispose();
      this.batch = new BatchGenerator(this.model, { batchSize: this.batchSize });
      for (const one of waiting) one.fail(error);
    } finally {
      this.working = false;
    }
  }

  private take(
    id: number,
    one: Running,
    { token, logProbability, top = [] }: { token: number; logProbability?: number; top?: TokenLogProbability[] },
  ): void {
    const { completion } = one;
    completion.tokens++;
    this.read.get(id)?.push(token);
    if (logProbability !== undefined) completion.scores.push({ token, logProbability, top });
    this.give(one, one.stops.push(one.decoder.push(token)));
    if (!one.stops.met) return;
    this.batch.remove(id);
    this.finish(id, 'stop');
  }

  private give({ completion, request }: Running, piece: string): void {
    completion.text += piece;
    if (piece === '' || !request.onText) return;
    request.onText(piece, completion.scores.slice(completion.scoresGiven));
    completion.scoresGiven = completion.scores.length;
  }

  private finish(id: number, finish: Finish): void {
    const one = this.running.get(id);
    if (!one) return;
    this.running.delete(id);
    if (!one.stops.met) {
      this.give(one, one.stops.push(one.decoder.end()));
      this.give(one, one.stops.rest());
    }
    one.settle({ ...one.completion, finish });
  }
}
