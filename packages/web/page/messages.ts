/** What the page and its worker say to each other. */
import type { Backend, Facts, Reading } from './engine.js';

export type Request = { id: number } & (
  | { kind: 'open'; files: File[]; backend?: Backend | undefined }
  | { kind: 'read'; text: string }
  | { kind: 'write'; text: string; maxNewTokens: number; temperature: number; seed: number }
  | { kind: 'stop' }
);

export type Answer = { id: number } & (
  | { kind: 'opened'; facts: Facts }
  | { kind: 'read'; reading: Reading }
  | { kind: 'wrote'; piece: string }
  | { kind: 'ended' }
  | { kind: 'failed'; message: string }
);
