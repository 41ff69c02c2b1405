/** Text to evaluate on, as documents: what packages/data reads, for this package's commands and studies. */
import { type ReadOptions, readDocuments, type SourceInput } from '@stickbreaking/data';
import type { EvaluationDocument } from './tasks/document_perplexity.js';

/**
 * Reads every document of a source, or of a path; WikiText comes as running text beside the original.
 *
 * @param tokenizer at whose end token documents are cut
 */
export async function readText(
  source: SourceInput | string,
  tokenizer?: Pick<ReadOptions, 'endTexts'>,
): Promise<EvaluationDocument[]> {
  const documents: EvaluationDocument[] = [];
  const options = tokenizer?.endTexts ? { endTexts: tokenizer.endTexts } : {};
  for await (const document of readDocuments(typeof source === 'string' ? { path: source } : source, options)) {
    const { text, original } = document;
    documents.push(original === undefined ? { text } : { text, original });
  }
  return documents;
}
