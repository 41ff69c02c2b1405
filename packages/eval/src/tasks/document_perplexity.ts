/** Perplexity of documents, each by itself; words and bytes are those of the original text. */
import { countWords, figures, type TextFigures } from '../scoring.js';
import type { Task } from './task.js';

/** A document to score. */
export interface EvaluationDocument {
  /** What the model reads. */
  text: string;
  /** What words and bytes are counted in; default `text`. */
  original?: string;
}

interface DocumentScore {
  /** [tokens], nats */
  losses: Float64Array;
  words: number;
  bytes: number;
}

/** The task of `sb-eval --protocol documents`. */
export function documentPerplexity(
  documents: readonly EvaluationDocument[],
): Task<'loglikelihood_rolling', EvaluationDocument, DocumentScore, TextFigures> {
  return {
    name: 'document_perplexity',
    kind: 'loglikelihood_rolling',
    examples: documents,
    requests: ({ text }) => [{ text }],
    score: ({ text, original = text }, [answer]) => ({
      losses: answer!.losses,
      words: countWords(original),
      bytes: Buffer.byteLength(original),
    }),
    summarise: (scores) => {
      const totals = { nll: 0, tokens: 0, words: 0, bytes: 0 };
      for (const { losses, words, bytes } of scores) {
        for (const loss of losses) totals.nll += loss;
        totals.tokens += losses.length;
        totals.words += words;
        totals.bytes += bytes;
      }
      return figures(totals);
    },
  };
}
