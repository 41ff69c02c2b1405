/** Continuing one prompt, or many at once, as streams of tokens. */
import { UserError } from '@stickbreaking/base';
import type { Ints } from '@stickbreaking/core';
import { BatchGenerator, type GeneratingModel, type GenerationEvent } from './batch_generator.js';
import { checkGenerateOptions, type GenerateOptions, type GenerationRequest } from './options.js';

/** Options of `LlamaModel.generateBatch`. */
export interface BatchOptions {
  /** Prompts that run at once; default 64. */
  batchSize?: number;
  /** Ends every continuation, and the stream. */
  signal?: AbortSignal;
}

/** A token of one of the prompts, or its end; `index` counts the prompts as they were given. */
export type BatchedToken = { index: number } & (
  | Omit<Extract<GenerationEvent, { token: number }>, 'id'>
  | Omit<Extract<GenerationEvent, { end: string }>, 'id'>
);

export async function* generate(
  model: GeneratingModel,
  prompt: Ints,
  options: GenerateOptions,
): AsyncGenerator<number> {
  checkGenerateOptions(options);
  const batch = new BatchGenerator(model, { batchSize: 1 });
  batch.add({ ...options, prompt });
  try {
    while (batch.size > 0) {
      for (const event of await batch.step()) if ('token' in event) yield event.token;
    }
  } finally {
    batch.dispose();
  }
}

export async function* generateBatch(
  model: GeneratingModel,
  requests: Iterable<GenerationRequest> | AsyncIterable<GenerationRequest>,
  { batchSize, signal }: BatchOptions,
): AsyncGenerator<BatchedToken> {
  const batch = new BatchGenerator(model, batchSize === undefined ? {} : { batchSize });
  const source = Symbol.asyncIterator in requests ? requests[Symbol.asyncIterator]() : requests[Symbol.iterator]();
  let more = true;
  try {
    for (let index = 0; ; ) {
      while (more && batch.room > 0 && !signal?.aborted) {
        const next = await source.next();
        more = !next.done;
        if (next.done) break;
        try {
          batch.add(next.value);
        } catch (error) {
          throw error instanceof UserError ? new UserError(`Prompt ${index}: ${error.message}`) : error;
        }
        index++;
      }
      if (signal?.aborted || batch.size === 0) return;
      for (const { id, ...event } of await batch.step()) yield { index: id, ...event } as BatchedToken;
    }
  } finally {
    batch.dispose();
    if (more) await source.return?.();
  }
}
