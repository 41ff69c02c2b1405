// What a run writes down as it goes, beside its checkpoints.
import { join } from 'node:path';
import { MetricsFile, type MetricsLine } from './metrics.js';
import { EventFile } from './tensorboard/event_file.js';

export interface RunRecordOptions {
  /** Write TensorBoard's event files too. */
  tensorboard?: boolean | undefined;
  onNotice?: (line: string) => void;
}

export class RunRecord {
  private readonly metrics: MetricsFile;
  private readonly events: EventFile | undefined;

  /** @param keepSteps the step that the run goes on from: what was written of later ones is dropped */
  constructor(directory: string, keepSteps: number, { tensorboard, onNotice }: RunRecordOptions) {
    this.metrics = new MetricsFile(join(directory, 'metrics.jsonl'), keepSteps, onNotice);
    this.events = tensorboard ? new EventFile(join(directory, 'tensorboard'), keepSteps) : undefined;
  }

  append(line: MetricsLine): void {
    const written = this.metrics.append(line);
    this.events?.append(written);
  }

  /** Called before a checkpoint: what it has seen must be on the disk with it. */
  sync(): void {
    this.metrics.sync();
    this.events?.sync();
  }

  close(): void {
    this.metrics.close();
    this.events?.close();
  }
}
