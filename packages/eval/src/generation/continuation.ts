/** The text of one continuation as its tokens come: whole characters, ended by stop texts, with what was asked to be told of it. */
import type { Tokenizer } from '@stickbreaking/data';
import type { EndReason, GenerationEvent } from '@stickbreaking/model';
import { StopTexts } from '../stop_texts.js';

type TokenEvent = Extract<GenerationEvent, { token: number }>;

/** A token in the output, with its logarithm of probability and the most likely ones at its place. */
interface TokenRecord {
  token: number;
  text: string;
  logprob: number;
  top?: { token: number; text: string; logprob: number }[];
}

/** One line of the output. */
export interface ContinuationRecord {
  /** Which prompt it was, from 0. */
  index: number;
  /** The prompt's own, if it has one. */
  id?: unknown;
  prompt: string;
  /** The continuation; with `--echo`, the prompt in front of it. */
  text: string;
  /** Tokens generated. */
  tokens: number;
  /** What ended it: a stop token or text, or the number of tokens. */
  end: 'stop' | 'length';
  logprobs?: TokenRecord[];
}

export class Continuation {
  private readonly decoder;
  private readonly ending: StopTexts;
  private readonly records: TokenRecord[] | undefined;
  private text = '';
  /** Tokens so far. */
  tokens = 0;

  constructor(
    private readonly tokenizer: Pick<Tokenizer, 'streamDecoder' | 'decode'>,
    prompt: readonly number[],
    { stop, logprobs }: { stop: readonly string[]; logprobs: number | undefined },
  ) {
    this.decoder = tokenizer.streamDecoder([...prompt]);
    this.ending = new StopTexts(stop);
    this.records = logprobs === undefined ? undefined : [];
  }

  /** Whether a stop text has come. */
  get met(): boolean {
    return this.ending.met;
  }

  /** The text that the token makes certain. */
  push({ token, logProbability, top }: TokenEvent): string {
    this.tokens++;
    const named = (one: { token: number; logProbability: number }) => ({
      token: one.token,
      text: this.tokenizer.decode([one.token]),
      logprob: one.logProbability,
    });
    if (logProbability !== undefined) {
      const record: TokenRecord = named({ token, logProbability });
      if (top && top.length > 0) record.top = top.map(named);
      this.records?.push(record);
    }
    return this.add(this.ending.push(this.decoder.push(token)));
  }

  /** What was held back when no more tokens come. */
  finish(): string {
    return this.ending.met ? '' : this.add(this.ending.push(this.decoder.end()) + this.ending.rest());
  }

  record(
    { index, id, prompt }: { index: number; id?: unknown; prompt: string },
    end: EndReason,
    echo: boolean,
  ): ContinuationRecord {
    return {
      index,
      ...(id === undefined ? {} : { id }),
      prompt,
      text: echo ? prompt + this.text : this.text,
      tokens: this.tokens,
      end: end === 'length' ? 'length' : 'stop',
      ...(this.records ? { logprobs: this.records } : {}),
    };
  }

  private add(piece: string): string {
    this.text += piece;
    return piece;
  }
}
