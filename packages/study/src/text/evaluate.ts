/** The loss of a model by context length on held-out text, as one stream, and by position in the longest window. */
import { readDocuments } from '@stickbreaking/data';
import { evaluateStream, type LengthResult, type StreamResult, scorerOf } from '@stickbreaking/eval';
import type { LlamaModel } from '@stickbreaking/model';
import { z } from 'zod';
import type { ArmContext } from '../study.js';
import type { TextStudyConfig } from './config.js';
import type { PreparedText } from './text.js';
import { TrainingResultSchema } from './train.js';

const EvaluatedLengthSchema = z.object({
  length: z.number(),
  nll: z.number(),
  perplexity: z.number(),
  bitsPerByte: z.number(),
  tokens: z.number(),
  seconds: z.number(),
});

export type EvaluatedLength = z.infer<typeof EvaluatedLengthSchema>;

const TextEvaluationSchema = z.object({
  lengths: z.array(EvaluatedLengthSchema).min(1),
  /** Mean loss of positions from `begin` up to `end` of the longest window. */
  byPosition: z.array(z.object({ begin: z.number(), end: z.number(), nll: z.number() })),
});

export type TextEvaluation = z.infer<typeof TextEvaluationSchema>;

/** An arm that was trained before has the evaluation alone. */
export const TextResultSchema = TextEvaluationSchema.extend(TrainingResultSchema.partial().shape);

export function lengthsUpTo(contextLength: number, times: number): number[] {
  const lengths = [];
  for (let length = contextLength; length <= times * contextLength; length *= 2) lengths.push(length);
  return lengths;
}

/** Evaluates a trained model, and disposes of it; undefined when the signal stopped that or the training. */
export async function evaluateTrained<Result extends object>(
  trained: { model: LlamaModel; result: Result } | undefined,
  { training, evaluation }: Pick<TextStudyConfig, 'training' | 'evaluation'>,
  text: PreparedText,
  context: ArmContext,
): Promise<(Result & TextEvaluation) | undefined> {
  if (!trained) return undefined;
  try {
    const lengths = lengthsUpTo(training.contextLength, evaluation.times);
    const found = await evaluateText(trained.model, text, { lengths, tokens: evaluation.tokens }, context);
    return found && { ...trained.result, ...found };
  } finally {
    trained.model.dispose();
  }
}

/** undefined when the signal stopped it. */
async function evaluateText(
  model: LlamaModel,
  { evaluationTokenizer: tokenizer, heldOut }: PreparedText,
  { lengths, tokens }: { lengths: number[]; tokens: number },
  { signal, say }: Pick<ArmContext, 'signal' | 'say'>,
): Promise<TextEvaluation | undefined> {
  const documents = readDocuments(heldOut, { endTexts: tokenizer.endTexts });
  try {
    const results = await evaluateStream(scorerOf(model), textsOf(documents), {
      lengths,
      tokenizer,
      maxTokens: tokens,
      onProgress: ({ length, done, total }) => {
        signal.throwIfAborted();
        say(`evaluating at length ${length}: ${((100 * done) / total).toFixed(0)} %`);
      },
    });
    return { lengths: results.map(shortened), byPosition: positionsOf(results.at(-1)!) };
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

async function* textsOf(documents: AsyncIterable<{ text: string }>): AsyncGenerator<string> {
  for await (const { text } of documents) yield text;
}

function shortened({ length, nll, perplexity, bitsPerByte, tokens, seconds }: LengthResult): EvaluatedLength {
  return { length, nll, perplexity, bitsPerByte, tokens, seconds };
}

function positionsOf({ lossByPosition }: StreamResult): TextEvaluation['byPosition'] {
  return lossByPosition.map(({ begin, end, nll }) => ({ begin, end, nll }));
}
