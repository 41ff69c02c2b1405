/** Prompts continued one after the other, until a stop text, an end token or the number of new tokens. */
import { createHash } from 'node:crypto';
import type { Tokenizer } from '@stickbreaking/data';
import type { LlamaModel } from '@stickbreaking/model';
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

/** The continuation's text, before the first stop text; special tokens are left out. */
export async function generateText(
  model: Pick<LlamaModel, 'generate'>,
  tokenizer: Pick<Tokenizer, 'streamDecoder' | 'stopIds' | 'eosToken'>,
  { tokens, settings, seed }: GenerationJob,
): Promise<string> {
  const decoder = tokenizer.streamDecoder();
  const ending = new StopTexts([...settings.until, tokenizer.eosToken]);
  const options = {
    maxNewTokens: settings.max_gen_toks,
    temperature: settings.do_sample ? settings.temperature : 0,
    ...(settings.top_k === undefined ? {} : { topK: settings.top_k }),
    ...(settings.top_p === undefined ? {} : { topP: settings.top_p }),
    seed,
    stop: tokenizer.stopIds,
  };
  let text = '';
  for await (const token of model.generate([...tokens], options)) {
    text += ending.push(decoder.push(token));
    if (ending.met) return text;
  }
  text += ending.push(decoder.end());
  return ending.met ? text : text + ending.rest();
}
