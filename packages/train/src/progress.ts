// What is shown while a run trains.
import { formatCount, formatDuration } from '@stickbreaking/base';
import { type ProgressLine, type ProgressLineOptions, progressLine } from '@stickbreaking/base/node';
import type { PrepareProgress } from '@stickbreaking/data';
import type { StepMetrics } from './metrics.js';

export interface ProgressOptions extends ProgressLineOptions {
  totalSteps: number;
  totalTokens: number;
}

export class Progress {
  readonly line: ProgressLine;
  /** of the last steps, so that the time left does not jump */
  private secondsPerToken: number | undefined;

  private source: { totalBytes: number; bytes: number; begin: number } | undefined;

  constructor(private readonly options: ProgressOptions) {
    this.line = progressLine(options);
  }

  /** Of a source's files: how much of them is tokenized, and how long the rest takes at the speed so far. */
  tokenizing({ file, fileIndex, files, documents, tokens, bytes, totalBytes }: PrepareProgress): void {
    const now = performance.now() / 1000;
    // A source begins, or goes on in the middle.
    if (!this.source || this.source.totalBytes !== totalBytes || bytes < this.source.bytes)
      this.source = { totalBytes, bytes, begin: now };
    const { bytes: before, begin } = this.source;
    const rate = (bytes - before) / (now - begin);
    const left = rate > 0 ? `, ${formatDuration((totalBytes - bytes) / rate)} left` : '';
    const share = `${Math.floor((100 * bytes) / Math.max(1, totalBytes))} %${left}`;
    const done = `${formatCount(documents)} documents, ${formatCount(tokens)} tokens`;
    this.line.show(`tokenizing: ${share}, file ${fileIndex + 1} of ${files} (${file}): ${done}`);
  }

  step(metrics: StepMetrics): void {
    const { totalSteps, totalTokens } = this.options;
    const now = 1 / metrics.tokensPerSecond;
    const first = this.secondsPerToken === undefined;
    this.secondsPerToken = this.secondsPerToken === undefined ? now : 0.9 * this.secondsPerToken + 0.1 * now;
    const left = (totalTokens - metrics.tokens) * this.secondsPerToken;
    const loss = metrics.loss === null ? 'not finite' : metrics.loss.toFixed(4);
    const busiest = metrics.busiest === undefined ? '' : `busiest ${metrics.busiest.toFixed(1)}  `;
    const line =
      `step ${metrics.step}/${totalSteps}  loss ${loss}  ${busiest}lr ${metrics.learningRate.toExponential(2)}  ` +
      `${formatCount(1 / this.secondsPerToken)} tokens/s  ${formatDuration(left)} left`;
    const last = metrics.step === totalSteps;
    this.line.show(line, last || first);
    if (last) this.line.end();
  }
}
