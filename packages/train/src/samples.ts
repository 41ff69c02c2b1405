// Texts that the model writes as it is trained, always from the same prompts and with the same seed, so that what has
// changed from one to the next is the model.
import { existsSync } from 'node:fs';
import { readWhole } from '@stickbreaking/base/node';
import type { Tokenizer } from '@stickbreaking/data';
import type { LlamaModel } from '@stickbreaking/model';
import { z } from 'zod';

export const SamplesSchema = z.strictObject({
  /** Each is continued. */
  prompts: z.array(z.string()).min(1),
  everySteps: z.int().positive().default(500),
  /** Of each continuation, if the model does not end it before. */
  maxNewTokens: z.int().positive().max(65_536).default(100),
  /** 0 takes the most likely token. */
  temperature: z.number().nonnegative().default(0.8),
});

/** What `train` does every few steps. */
export interface Sampling {
  everySteps: number;
  /** The continuations of all prompts. */
  write(model: LlamaModel, signal?: AbortSignal): Promise<{ prompt: string; text: string }[]>;
}

/** A text that the model wrote after step `step`; a line of samples.jsonl. */
export interface Sample {
  step: number;
  tokens: number;
  prompt: string;
  /** What follows on the prompt. */
  text: string;
}

/** The samples of a samples.jsonl, up to step `keepSteps`; what is none is left out. */
export function readSamples(path: string, keepSteps: number = Number.POSITIVE_INFINITY): Sample[] {
  if (!existsSync(path)) return [];
  return readWhole(path)
    .toString()
    .split('\n')
    .flatMap((line) => {
      const sample = sampleIn(line);
      return sample && sample.step <= keepSteps ? [sample] : [];
    });
}

function sampleIn(line: string): Sample | undefined {
  try {
    const sample = JSON.parse(line) as Partial<Sample> | null;
    const isSample = typeof sample?.prompt === 'string' && typeof sample.text === 'string';
    return Number.isInteger(sample?.step) && isSample ? (sample as Sample) : undefined;
  } catch {
    return undefined; // such as what a crash cut short
  }
}

/** Sampling as a run's file asks for it. */
export function samplingOf(
  { prompts, everySteps, maxNewTokens, temperature }: z.output<typeof SamplesSchema>,
  tokenizer: Pick<Tokenizer, 'encode' | 'beginId' | 'stopIds' | 'streamDecoder'>,
  seed: number,
): Sampling {
  const encoded = prompts.map((prompt) => tokenizer.encode(prompt));
  return {
    everySteps,
    async write(model, signal) {
      const decoders = encoded.map((tokens) => tokenizer.streamDecoder(tokens));
      const texts = encoded.map(() => '');
      const requests = encoded.map((tokens, i) => ({
        // A prompt begins like a document in training.
        prompt: [tokenizer.beginId, ...tokens],
        ...{ maxNewTokens, temperature, seed: seed + i, stop: tokenizer.stopIds },
        ...(signal ? { signal } : {}),
      }));
      for await (const event of model.generateBatch(requests)) {
        if ('token' in event) texts[event.index] += decoders[event.index]!.push(event.token);
      }
      signal?.throwIfAborted();
      return prompts.map((prompt, i) => ({ prompt, text: texts[i]! + decoders[i]!.end() }));
    },
  };
}
