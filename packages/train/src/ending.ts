/** How a run ended, in a form for other programs. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readMetrics } from './metrics.js';
import type { TrainResult } from './train_options.js';

/** What `sb-train --json` prints. */
export interface Ending {
  output: string;
  /** False where a signal ended the run. */
  finished: boolean;
  step: number;
  tokens: number;
  /** the newest one; null where no step was done */
  checkpoint: string | null;
  /** nats per token, the last ones in metrics.jsonl; null where there is none, or it was not finite */
  loss: number | null;
  validationLoss: number | null;
}

/** @param result of the run in `output`; left out where it was stopped before its first step */
export function endingOf(output: string, result?: Pick<TrainResult, 'finished' | 'checkpoint' | 'state'>): Ending {
  const { step, tokens } = result?.state ?? { step: 0, tokens: 0 };
  const checkpoint = result?.checkpoint ?? null;
  return { output, finished: result?.finished ?? false, step, tokens, checkpoint, ...lastLosses(output) };
}

function lastLosses(output: string): Pick<Ending, 'loss' | 'validationLoss'> {
  const file = join(output, 'metrics.jsonl');
  const lines = existsSync(file) ? readMetrics(file) : [];
  const step = lines.findLast((line) => 'loss' in line);
  const validation = lines.findLast((line) => 'validationLoss' in line);
  return { loss: step?.loss ?? null, validationLoss: validation?.validationLoss ?? null };
}
