/** The document protocol: each document by itself, in rolling windows of the context length (lm-evaluation-harness). */
import { UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import { PositionSums } from './position_sums.js';
import type { LengthResult, OnProgress, TokenScorer } from './scoring.js';
import { documentPerplexity, type EvaluationDocument } from './tasks/document_perplexity.js';
import { RollingRequests } from './tasks/rolling.js';
import { requestsOf, scoreTask } from './tasks/task.js';

/** Options of `evaluateDocuments`. */
export interface DocumentsOptions {
  lengths: readonly number[];
  tokenizer: Pick<Tokenizer, 'encodeBatch' | 'beginId'>;
  onProgress?: OnProgress;
}

/**
 * Perplexity of documents, each by itself, at several context lengths (the document protocol).
 *
 * @throws UserError if there are no tokens to score
 */
export async function evaluateDocuments(
  score: TokenScorer,
  documents: readonly EvaluationDocument[],
  { lengths, tokenizer, onProgress }: DocumentsOptions,
): Promise<LengthResult[]> {
  const task = documentPerplexity(documents);
  const requests = await RollingRequests.encode(requestsOf(task), tokenizer);
  const total = requests.tokens;
  if (total === 0) throw new UserError('The text has no tokens to score.');
  const results: LengthResult[] = [];
  for (const length of lengths) {
    const start = performance.now();
    onProgress?.({ length, done: 0, total });
    const positions = new PositionSums(length);
    const answers = await requests.answer(
      score,
      length,
      (done) => onProgress?.({ length, done, total }),
      (position, loss) => positions.add(position, loss),
    );
    const seconds = (performance.now() - start) / 1000;
    results.push({
      protocol: 'documents',
      length,
      ...scoreTask(task, answers),
      seconds,
      lossByPosition: positions.buckets(),
    });
  }
  return results;
}
