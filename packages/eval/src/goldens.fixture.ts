/**
 * Goldens: what lm-evaluation-harness itself made of real documents, from a folder that the environment names. They are no
 * part of the repository, since the documents have licences of their own.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Row } from './tasks/definition.js';
import type { AnswerOf, RequestKind, RequestOf } from './tasks/task.js';

/** The folder; undefined where there is none. */
export const goldens = process.env.STICKBREAKING_GOLDENS || undefined;

/** For the names of tests. */
export const unlessSkipped = goldens ? '' : ' (skipped: STICKBREAKING_GOLDENS names no folder)';

export function goldenPath(name: string): string {
  return join(goldens!, name);
}

export function goldenJson<T>(name: string): T {
  return JSON.parse(readFileSync(goldenPath(name), 'utf8')) as T;
}

export function goldenLines<T>(name: string): T[] {
  if (!existsSync(goldenPath(name))) return [];
  const lines = readFileSync(goldenPath(name), 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as T);
}

/** A document with its requests, answers and metrics. */
export interface GoldenLine {
  task: string;
  num_fewshot: number;
  doc_id: number;
  doc: Row;
  target: string | number;
  contexts?: string[];
  requests: {
    type: string;
    context?: number;
    continuation?: string;
    text?: string;
    gen_kwargs?: Record<string, unknown>;
    resp: unknown;
  }[];
  metrics: Record<string, Record<string, unknown>>;
  filtered?: Record<string, string>;
  /** of the document, the first prompt, and the target */
  hashes: [string, string, string];
  race_version?: string;
}

const sha256 = (...parts: string[]) => createHash('sha256').update(parts.join('\x1f')).digest();

/** What the goldens' model answers: a likelihood is made of the SHA-256 of the request, a generation stands in the line. */
export function fakeAnswer(request: RequestOf<RequestKind>, generated: unknown): AnswerOf<RequestKind> {
  if ('text' in request) {
    const share = sha256(request.text).readUIntBE(0, 6) / 2 ** 48;
    return { losses: Float64Array.of(Buffer.byteLength(request.text) * (0.4 + share)) };
  }
  if ('settings' in request) return { text: generated as string };
  const digest = sha256(request.context, request.continuation);
  return { logLikelihood: -(1 + 99 * (digest.readUIntBE(0, 6) / 2 ** 48)), isGreedy: (digest[6]! & 1) === 1 };
}

/** Shots in a golden context, each the text of one. */
export function shotsIn({ contexts, num_fewshot }: GoldenLine, description: string): string[] {
  return contexts![0]!.slice(description.length).split('\n\n').slice(0, num_fewshot);
}
