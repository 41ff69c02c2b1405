/** The document protocol: each document by itself, in rolling windows of the context length (lm-evaluation-harness). */
import type { Tokenizer } from '@stickbreaking/data';
import { DocumentTokens, type EvaluationDocument } from './document_tokens.js';
import { PositionSums } from './position_sums.js';
import { type DocumentsResult, figures, type OnProgress, type TokenScorer } from './scoring.js';
import { RollingRequests } from './tasks/rolling.js';

/** Options of `evaluateDocuments`. */
export interface DocumentsOptions {
  lengths: readonly number[];
  tokenizer: Pick<Tokenizer, 'encodeBatch' | 'beginId'>;
  /** Score whole documents, from the first, that have no more tokens than this together; no more text is read. */
  maxTokens?: number;
  onProgress?: OnProgress;
}

/**
 * Perplexity of documents, each by itself, at several context lengths (the document protocol).
 *
 * @throws UserError if there are no tokens to score, or the first document has more than `maxTokens`
 */
export async function evaluateDocuments(
  score: TokenScorer,
  documents: Iterable<EvaluationDocument> | AsyncIterable<EvaluationDocument>,
  options: DocumentsOptions,
): Promise<DocumentsResult[]> {
  const read = await DocumentTokens.read(documents, options.tokenizer, options.maxTokens);
  return scoreDocuments(score, read, options);
}

/** The same for documents that have been read. */
export async function scoreDocuments(
  score: TokenScorer,
  { texts, tokens: total, words, bytes, isPart }: DocumentTokens,
  { lengths, tokenizer, onProgress }: DocumentsOptions,
): Promise<DocumentsResult[]> {
  const requests = new RollingRequests(texts, tokenizer.beginId);
  const results: DocumentsResult[] = [];
  for (const length of lengths) {
    const start = performance.now();
    onProgress?.({ length, done: 0, total });
    const positions = new PositionSums(length);
    let nll = 0;
    await requests.answer(
      score,
      length,
      (done) => onProgress?.({ length, done, total }),
      (position, loss) => {
        nll += loss;
        positions.add(position, loss);
      },
    );
    const seconds = (performance.now() - start) / 1000;
    results.push({
      protocol: 'documents',
      length,
      documents: texts.length,
      isPart,
      ...figures({ nll, tokens: total, words, bytes }),
      seconds,
      lossByPosition: positions.buckets(),
    });
  }
  return results;
}
