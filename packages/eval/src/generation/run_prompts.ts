/** Many prompts through a model at once, each continuation told of when it ends. */
import { EXIT, UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import { BatchGenerator, type GenerateOptions, type LlamaModel } from '@stickbreaking/model';
import { Continuation, type ContinuationRecord } from './continuation.js';
import type { Prompt } from './prompts.js';

export interface RunOptions extends GenerateOptions {
  /** Texts that end a continuation. */
  stopTexts: readonly string[];
  /** Put the prompt in front of each text. */
  echo: boolean;
  /** Prompts that run at once. */
  batchSize: number;
  signal: AbortSignal;
  /** Told of every continuation that has ended. */
  onRecord(record: ContinuationRecord): void;
  /** Told of every piece of text as it comes. */
  onText?(text: string): void;
}

/** What was made, for telling how fast. */
export interface RunTotals {
  prompts: number;
  tokens: number;
  seconds: number;
}

/** Until every prompt has its continuation, or the signal. A prompt's seed is its own, or the options' plus its index. */
export async function runPrompts(
  { model, tokenizer }: { model: LlamaModel; tokenizer: Tokenizer },
  prompts: AsyncIterable<Prompt>,
  { stopTexts, echo, batchSize, signal, onRecord, onText, ...options }: RunOptions,
): Promise<RunTotals> {
  const batch = new BatchGenerator(model, { batchSize });
  const running = new Map<number, { prompt: Prompt; continuation: Continuation }>();
  const totals = { prompts: 0, tokens: 0, seconds: 0 };
  const begin = performance.now();
  const source = prompts[Symbol.asyncIterator]();
  let more = true;
  const add = (prompt: Prompt) => {
    // A prompt begins like a document in training.
    const tokens = tokenizer.encode(prompt.prompt);
    const seed = prompt.seed ?? (options.seed ?? 0) + prompt.index;
    const request = { ...options, seed, prompt: [tokenizer.beginId, ...tokens], stop: [...tokenizer.stopIds] };
    const continuation = new Continuation(tokenizer, tokens, { stop: stopTexts, logprobs: options.logProbabilities });
    running.set(batch.add({ ...request, signal }), { prompt, continuation });
  };
  const end = (id: number, reason: 'stop' | 'length') => {
    const { prompt, continuation } = running.get(id)!;
    running.delete(id);
    const rest = continuation.finish();
    onText?.(rest);
    totals.prompts++;
    totals.tokens += continuation.tokens;
    onRecord(continuation.record(prompt, reason, echo));
  };
  try {
    while (!signal.aborted) {
      while (more && batch.room > 0) {
        const next = await source.next();
        if (next.done) more = false;
        else add(next.value);
      }
      if (batch.size === 0) break;
      for (const event of await batch.step()) {
        const found = running.get(event.id);
        if (!found) continue;
        if ('token' in event) {
          const piece = found.continuation.push(event);
          onText?.(piece);
          if (!found.continuation.met) continue;
          batch.remove(event.id);
          end(event.id, 'stop');
        } else if (event.end !== 'removed') {
          end(event.id, event.end);
        }
      }
    }
  } finally {
    batch.dispose();
    if (more) await source.return?.(undefined);
  }
  totals.seconds = (performance.now() - begin) / 1000;
  return totals;
}

/** Prompts that an output file lacks; those that it has must be the same, and there. */
export async function* withoutFinished(
  prompts: AsyncIterable<Prompt>,
  finished: ReadonlyMap<number, { prompt: string }>,
  output: string,
): AsyncGenerator<Prompt> {
  const missing = new Set(finished.keys());
  for await (const prompt of prompts) {
    const before = finished.get(prompt.index)?.prompt;
    missing.delete(prompt.index);
    if (before === undefined) yield prompt;
    else if (before !== prompt.prompt) {
      throw new UserError(
        `${output} has another prompt ${prompt.index} than the prompts file; name another file with --output.`,
      );
    }
  }
  const [stray] = missing;
  if (stray !== undefined) {
    throw new UserError(
      `${output} has a continuation of prompt ${stray}, and the prompts file has no such prompt; take its line out.`,
      { exitCode: EXIT.refused },
    );
  }
}
