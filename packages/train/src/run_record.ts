// What a run writes down as it goes, beside its checkpoints.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { LinesFile } from './lines_file.js';
import { MetricsFile, type MetricsLine } from './metrics.js';
import { readSamples, type Sample } from './samples.js';
import type { EventFile } from './tensorboard/event_file.js';

export interface RunRecordOptions {
  /** Write TensorBoard's event files too. */
  tensorboard?: boolean | undefined;
  /** Samples will come. */
  samples?: boolean;
  onNotice?: (line: string) => void;
}

export class RunRecord {
  private constructor(
    private readonly metrics: MetricsFile,
    private readonly samples: LinesFile | undefined,
    private readonly events: EventFile | undefined,
  ) {}

  /** @param keepSteps the step that the run goes on from: what was written of later ones is dropped */
  static async open(directory: string, keepSteps: number, options: RunRecordOptions): Promise<RunRecord> {
    const { tensorboard, samples, onNotice } = options;
    const metrics = new MetricsFile(join(directory, 'metrics.jsonl'), keepSteps, onNotice);
    const path = join(directory, 'samples.jsonl');
    // Those that a run without samples finds there are of steps that it may do again.
    const kept = samples || existsSync(path) ? new LinesFile(path, readSamples(path, keepSteps)) : undefined;
    if (!tensorboard) return new RunRecord(metrics, kept, undefined);
    const { EventFile } = await import('./tensorboard/event_file.js'); // with protobufjs, for those who ask for them
    return new RunRecord(metrics, kept, new EventFile(join(directory, 'tensorboard'), keepSteps));
  }

  append(line: MetricsLine): void {
    const written = this.metrics.append(line);
    this.events?.append(written);
  }

  appendSample(sample: Sample): void {
    this.samples?.append(sample);
    this.events?.appendSample(sample);
  }

  /** Called before a checkpoint: what it has seen must be on the disk with it. */
  sync(): void {
    this.metrics.sync();
    this.samples?.sync();
    this.events?.sync();
  }

  close(): void {
    this.metrics.close();
    this.samples?.close();
    this.events?.close();
  }
}
