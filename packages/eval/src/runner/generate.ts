/** Prompts continued many at once, each until a stop text, an end token or its number of new tokens. */
import { createHash } from 'node:crypto';
import type { Tokenizer } from '@stickbreaking/data';
import { BatchGenerator, type KeyValueCache, type LlamaModel } from '@stickbreaking/model';
import { StopTexts } from '../stop_texts.js';
import type { GenerationSettings } from '../tasks/task.js';

/** A prompt and how it is continued. */
export interface GenerationJob {
  tokens: readonly number[];
  settings: GenerationSettings;
  /** Of the random draws, where there are any. */
  seed: number;
  /** Hash of all that the continuation depends on. */
  key: string;
}

export function generationJob(tokens: readonly number[], settings: GenerationSettings, seed: number): GenerationJob {
  const said = JSON.stringify([Object.entries(settings).sort(), settings.do_sample ? seed : 0, tokens]);
  return { tokens, settings, seed, key: createHash('sha256').update(said).digest('hex').slice(0, 32) };
}

/** What generation asks of a model. */
export type GeneratingModel = Pick<LlamaModel, 'config' | 'createCache' | 'nextLogits'>;

export interface GenerateTextsOptions {
  tokenizer: Pick<Tokenizer, 'streamDecoder' | 'stopIds' | 'eosToken'>;
  /** Tokens that prompts begin with; those that do share its cache. */
  prefix: readonly number[];
  signal?: AbortSignal | undefined;
  /** Told of each text as it ends: up to its first stop text, special tokens left out. */
  onText(job: GenerationJob, text: string): void;
}

/** Rows that run at once, and keys that all of them may hold together. */
const MOST_ROWS = 64;
const MOST_KEYS = 2 ** 18;
/** Memory that their keys and values may take: long prompts of a large model are too many before they are too long. */
const MOST_BYTES = 2 ** 35;
/** A shorter beginning is not worth a cache of its own. */
const SHORTEST_PREFIX = 16;
/** Tokens of a prefix that run through the model at once. */
const PREFIX_TOKENS = 1024;

/** Continues prompts, the longest first. A text does not depend on what else is in the batch. */
export async function generateTexts(
  model: GeneratingModel,
  jobs: readonly GenerationJob[],
  { tokenizer, prefix, signal, onText }: GenerateTextsOptions,
): Promise<void> {
  const waiting = [...jobs].sort((a, b) => b.tokens.length - a.tokens.length);
  const longest = Math.max(1, ...jobs.map(({ tokens, settings }) => tokens.length + settings.max_gen_toks));
  const mostKeys = Math.min(MOST_KEYS, MOST_BYTES / model.createCache().store.bytes(1));
  const batch = new BatchGenerator(model, {
    batchSize: Math.max(1, Math.min(MOST_ROWS, Math.floor(mostKeys / longest))),
  });
  const running = new Map<number, { job: GenerationJob; text: GrowingText }>();
  const shared = prefix.length >= SHORTEST_PREFIX ? filledCache(model, prefix) : undefined;
  const add = (job: GenerationJob) => {
    const shares = shared && job.tokens.length > prefix.length && prefix.every((token, i) => job.tokens[i] === token);
    const prompt = [...(shares ? job.tokens.slice(prefix.length) : job.tokens)];
    const request = { ...optionsOf(job, tokenizer.stopIds), prompt, ...(shares ? { prefix: shared } : {}) };
    running.set(batch.add(request), { job, text: new GrowingText(tokenizer, job) });
  };
  const end = (id: number) => {
    const { job, text } = running.get(id)!;
    running.delete(id);
    onText(job, text.finish());
  };
  try {
    while (!signal?.aborted) {
      while (batch.room > 0 && waiting.length > 0) add(waiting.shift()!);
      if (batch.size === 0) return;
      for (const event of await batch.step()) {
        const found = running.get(event.id);
        if (!found) continue;
        if (!('token' in event)) {
          end(event.id);
          continue;
        }
        found.text.push(event.token);
        if (!found.text.met) continue;
        batch.remove(event.id);
        end(event.id);
      }
    }
    signal.throwIfAborted();
  } finally {
    batch.dispose();
    shared?.dispose();
  }
}

function optionsOf({ settings, seed }: GenerationJob, stop: readonly number[]) {
  return {
    maxNewTokens: settings.max_gen_toks,
    temperature: settings.do_sample ? settings.temperature : 0,
    ...(settings.top_k === undefined ? {} : { topK: settings.top_k }),
    ...(settings.top_p === undefined ? {} : { topP: settings.top_p }),
    seed,
    stop,
  };
}

function filledCache(model: GeneratingModel, prefix: readonly number[]): KeyValueCache {
  const cache = model.createCache();
  for (let begin = 0; begin < prefix.length; begin += PREFIX_TOKENS) {
    model.nextLogits(prefix.slice(begin, begin + PREFIX_TOKENS), { cache }).dispose();
  }
  return cache;
}

/** A continuation's text as its tokens come. */
class GrowingText {
  private readonly decoder;
  private readonly ending: StopTexts;
  private text = '';

  constructor(tokenizer: Pick<Tokenizer, 'streamDecoder' | 'eosToken'>, { settings }: GenerationJob) {
    this.decoder = tokenizer.streamDecoder();
    this.ending = new StopTexts([...settings.until, tokenizer.eosToken]);
  }

  /** Whether a stop text has come. */
  get met(): boolean {
    return this.ending.met;
  }

  push(token: number): void {
    this.text += this.ending.push(this.decoder.push(token));
  }

  finish(): string {
    if (!this.met) this.text += this.ending.push(this.decoder.end());
    return this.met ? this.text : this.text + this.ending.rest();
  }
}
