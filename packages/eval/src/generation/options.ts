/** The command line of sb-generate. */
import type { SpecialTokenArguments } from '@stickbreaking/data';

export interface GenerateArguments extends SpecialTokenArguments, SamplingArguments {
  checkpoint: string;
  prompt: string | undefined;
  prompts: string | undefined;
  output: string | undefined;
  batch: number;
  maxNewTokens: number;
  seed: number;
  stop: string[];
  echo: boolean | undefined;
  json: boolean;
  logprobs: number | undefined;
  tokenizer: string | undefined;
  verify: boolean;
  backend: string;
}

/** Which model, of every command that generates. */
export const modelOptions = {
  checkpoint: {
    type: 'string',
    demandOption: true,
    describe: 'checkpoint, run directory (its latest), RUN/best or hf://org/name[@revision]',
  },
  tokenizer: { type: 'string', describe: 'tokenizer.json; default: the checkpoint’s own' },
  backend: { type: 'string', default: 'auto', describe: 'auto, native, cpu, …' },
} as const;

/** How a token is drawn. */
export const samplingOptions = {
  temperature: { type: 'number', default: 0.8, describe: '0 takes the most likely token' },
  'top-k': { type: 'number', describe: 'sample from this many most likely tokens' },
  'top-p': {
    type: 'number',
    default: 0.95,
    describe: 'sample from the most likely with this probability together',
  },
  'min-p': {
    type: 'number',
    default: 0,
    describe: 'sample from tokens at least this probable beside the most likely',
  },
  'repetition-penalty': { type: 'number', default: 1, describe: 'logits of tokens that came before are divided by it' },
} as const;

/** What those options give. */
export interface SamplingArguments {
  temperature: number;
  topK: number | undefined;
  topP: number;
  minP: number;
  repetitionPenalty: number;
}

/** As a generation takes them. */
export function samplingFrom({ temperature, topK, topP, minP, repetitionPenalty }: SamplingArguments) {
  return { temperature, topP, minP, repetitionPenalty, ...(topK === undefined ? {} : { topK }) };
}

export const generateOptions = {
  ...modelOptions,
  prompt: { type: 'string', describe: 'the text to continue; default: standard input' },
  prompts: {
    type: 'string',
    describe:
      'a JSON lines file of prompts: strings, or objects with "prompt" and, if wanted, "id" and "seed"; - is standard input',
  },
  output: {
    type: 'string',
    describe: 'where continuations of --prompts go, as JSON lines; what it has already is not made again',
  },
  batch: { type: 'number', default: 64, describe: 'prompts that run at once' },
  'max-new-tokens': { type: 'number', default: 200 },
  ...samplingOptions,
  seed: { type: 'number', default: 0, describe: 'of --prompts, each line adds its number' },
  stop: { type: 'string', array: true, default: [] as string[], describe: 'texts that end the continuation' },
  echo: { type: 'boolean', describe: 'the prompt in front of the text; default: for a single prompt as text' },
  json: {
    type: 'boolean',
    default: false,
    describe:
      'a single prompt’s continuation as JSON; with --output, how many there were; --prompts alone gives JSON lines',
  },
  logprobs: {
    type: 'number',
    describe: 'each token’s log-probability, and those of this many most likely ones, as JSON',
  },
} as const;
