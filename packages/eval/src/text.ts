/** The text that `--data` names, as documents. */
import { statSync } from 'node:fs';
import { extname } from 'node:path';
import { UserError } from '@stickbreaking/base';
import { readDocuments } from '@stickbreaking/data';
import type { EvaluationDocument } from './tasks/document_perplexity.js';
import { detokenizeWikiText, isWikiText, wikiTextPages } from './wikitext.js';

/** Reads every document; WikiText's raw files are split into pages and put back into running text. */
export async function readText(path: string, field = 'text'): Promise<EvaluationDocument[]> {
  // A file of an ending that no format has, such as WikiText's .raw, is text; a directory is searched for those that have.
  const ending = extname(path);
  const known = ['', '.txt', '.jsonl', '.zst', '.parquet'].includes(ending) || isDirectory(path);
  const documents: EvaluationDocument[] = [];
  for await (const { text } of readDocuments({ path, field, ...(known ? {} : { format: 'txt' as const }) })) {
    if (isWikiText(text)) {
      for (const original of wikiTextPages(text)) documents.push({ text: detokenizeWikiText(original), original });
    } else documents.push({ text });
  }
  if (documents.length === 0) throw new UserError(`${path} holds no text.`);
  return documents;
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
