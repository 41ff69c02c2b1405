/** Hashes by which leaderboards tell whether two evaluations asked the same: of a document, its prompt and its target. */
import { createHash } from 'node:crypto';
import { dumpJson } from '../python/json.js';
import type { BuiltDocument } from './build.js';

export interface DocumentHashes {
  document: string;
  /** of the first request's context */
  prompt: string;
  target: string;
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

export function documentHashes({ row, requests: [first], target }: BuiltDocument): DocumentHashes {
  const prompt = first === undefined ? '' : 'text' in first ? first.text : first.context;
  return { document: sha256(dumpJson(row)), prompt: sha256(prompt), target: sha256(String(target)) };
}
