// What a run writes down as it goes, beside its checkpoints.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { LinesFile } from './lines_file.js';
import { MetricsFile, type MetricsLine } from './metrics.js';
import { readSamples, type Sample } from './samples.js';
import { EventFile } from './tensorboard/event_file.js';

export interface RunRecordOptions {
  /** Write TensorBoard's event files too. */
  tensorboard?: boolean | undefined;
  /** Samples will come. */
  samples?: boolean;
  onNotice?: (line: string) => void;
}

export class RunRecord {
  private readonly metrics: MetricsFile;
  private readonly events: EventFile | undefined;
  private readonly samples: LinesFile | undefined;

  /** @param keepSteps the step that the run goes on from: what was written of later ones is dropped */
  constructor(directory: string, keepSteps: number, { tensorboard, samples, onNotice }: RunRecordOptions) {
    this.metrics = new MetricsFile(join(directory, 'metrics.jsonl'), keepSteps, onNotice);
    const path = join(directory, 'samples.jsonl');
    // Those that a run without samples finds there are of steps that it may do again.
    if (samples || existsSync(path)) this.samples = new LinesFile(path, readSamples(path, keepSteps));
    this.events = tensorboard ? new EventFile(join(directory, 'tensorboard'), keepSteps) : undefined;
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
