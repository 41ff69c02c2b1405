// A file of events that TensorBoard shows, beside metrics.jsonl. A run that goes on begins another file, whose first
// records say from which step on the earlier ones no longer count.
import { hostname } from 'node:os';
import { join } from 'node:path';
import { AppendFile, makeDirectory, syncDirectory } from '@stickbreaking/base/node';
import crc32c from 'crc-32/crc32c.js';
import type { MetricsLine, Written } from '../metrics.js';
import type { Sample } from '../samples.js';
import { encodeEvent, type SummaryValue, type TensorBoardEvent } from './events.js';

export class EventFile {
  readonly path: string;
  private readonly file: AppendFile;

  /** @param keepSteps the step after which the run begins or goes on */
  constructor(directory: string, keepSteps: number) {
    makeDirectory(directory);
    const wallTime = Date.now() / 1000;
    const name = `events.out.tfevents.${wallTime.toFixed(3)}.${hostname()}.${process.pid}`;
    this.path = join(directory, name);
    this.file = new AppendFile(this.path);
    syncDirectory(directory);
    this.write({ wallTime, step: 0, fileVersion: 'brain.Event:2' });
    this.write({ wallTime, step: keepSteps + 1, start: true });
  }

  append(line: MetricsLine & Required<Written>): void {
    const values = valuesOf(line);
    if (values.length > 0) this.write({ wallTime: Date.parse(line.time) / 1000, step: line.step, values });
  }

  appendSample({ step, prompt, text }: Sample): void {
    // TensorBoard shows Markdown.
    const shown = `**${prompt}**${text}`;
    this.write({ wallTime: Date.now() / 1000, step, values: [{ tag: `samples/${prompt}`, text: shown }] });
  }

  sync(): void {
    this.file.sync();
  }

  close(): void {
    this.file.close();
  }

  private write(event: TensorBoardEvent): void {
    this.file.append(record(encodeEvent(event)));
  }
}

/** A record of the TFRecord format: its length, the length's checksum, its bytes, and their checksum. */
export function record(bytes: Uint8Array): Buffer {
  const whole = Buffer.alloc(16 + bytes.length);
  whole.writeBigUInt64LE(BigInt(bytes.length));
  whole.writeUInt32LE(maskedCrc(whole.subarray(0, 8)), 8);
  whole.set(bytes, 12);
  whole.writeUInt32LE(maskedCrc(bytes), 12 + bytes.length);
  return whole;
}

/** CRC-32C, turned and shifted, as TFRecord has it, so that a checksum of data with checksums in it is a good one. */
export function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c.buf(bytes) >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

const tags: readonly (readonly [key: string, tag: string])[] = [
  ['loss', 'loss/training'],
  ['validationLoss', 'loss/validation'],
  ['learningRate', 'training/learning_rate'],
  ['gradientNorm', 'training/gradient_norm'],
  ['tokensPerSecond', 'speed/tokens_per_second'],
  ['flopsPerSecond', 'speed/flops_per_second'],
  ['memoryBytes', 'speed/memory_bytes'],
  ['balanceLoss', 'routing/balance_loss'],
  ['zLoss', 'routing/z_loss'],
  ['busiest', 'routing/busiest'],
  ['idleExperts', 'routing/idle_experts'],
];

/** What is not finite has no point in a curve. */
function valuesOf(line: MetricsLine): SummaryValue[] {
  const numbers = line as unknown as Record<string, unknown>;
  const own = tags.flatMap(([key, tag]) => {
    const value = numbers[key];
    return typeof value === 'number' ? [{ tag, simpleValue: value }] : [];
  });
  if ('scores' in line) {
    return line.scores.map(({ task, metric, filter, value }) => ({
      tag: `scores/${task}/${metric}${filter === 'none' ? '' : `,${filter}`}`,
      simpleValue: value,
    }));
  }
  if (!('attention' in line) || !line.attention) return own;
  const layers = Object.entries(line.attention).flatMap(([what, values]: [string, readonly number[]]) =>
    values.map((simpleValue, layer) => ({ tag: `attention_${what}/layer_${layer}`, simpleValue })),
  );
  return [...own, ...layers];
}
