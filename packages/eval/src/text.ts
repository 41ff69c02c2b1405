/** Text to evaluate on, as whole documents: what packages/data reads, for this package's commands and studies. */
import { type ReadOptions, readDocuments, type SourceInput } from '@stickbreaking/data';
import type { EvaluationDocument } from './document_tokens.js';

/**
 * Reads every document of a source, or of a path; WikiText comes as running text beside the original.
 *
 * @param options the end token's texts, at which documents are cut (a tokenizer has them), and how many to read
 */
export async function readText(
  source: SourceInput | readonly SourceInput[] | string,
  { endTexts, limit }: Pick<ReadOptions, 'endTexts' | 'limit'> = {},
): Promise<EvaluationDocument[]> {
  const documents: EvaluationDocument[] = [];
  const options = { ...(endTexts ? { endTexts } : {}), limit };
  for await (const document of readDocuments(typeof source === 'string' ? { path: source } : source, options)) {
    const { text, original } = document;
    documents.push(original === undefined ? { text } : { text, original });
  }
  return documents;
}
