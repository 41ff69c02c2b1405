// What is shown while a run trains: one line that is written over on a terminal, plain lines every few seconds
// otherwise.
import type { StepMetrics } from './metrics.js';

export interface ProgressOptions {
  stream: { isTTY?: boolean; columns?: number; write(text: string): unknown };
  totalSteps: number;
  totalTokens: number;
  /** seconds between plain lines */
  interval?: number;
}

export class Progress {
  private shownAt = Number.NEGATIVE_INFINITY;
  private open = false;
  /** of the last steps, so that the time left does not jump */
  private secondsPerToken: number | undefined;

  constructor(private readonly options: ProgressOptions) {}

  step(metrics: StepMetrics): void {
    const { totalSteps, totalTokens } = this.options;
    const now = 1 / metrics.tokensPerSecond;
    const first = this.secondsPerToken === undefined;
    this.secondsPerToken = this.secondsPerToken === undefined ? now : 0.9 * this.secondsPerToken + 0.1 * now;
    const left = (totalTokens - metrics.tokens) * this.secondsPerToken;
    const loss = metrics.loss === null ? 'not finite' : metrics.loss.toFixed(4);
    const line =
      `step ${metrics.step}/${totalSteps}  loss ${loss}  lr ${metrics.learningRate.toExponential(2)}  ` +
      `${formatCount(1 / this.secondsPerToken)} tokens/s  ${formatDuration(left)} left`;
    const last = metrics.step === totalSteps;
    this.update(line, last || first);
    if (last) this.end();
  }

  /** Shows a line that the next one replaces; not every time it is called, unless `always`. */
  update(line: string, always = false): void {
    const { stream, interval = 10 } = this.options;
    const now = performance.now() / 1000;
    if (!always && now - this.shownAt < (stream.isTTY ? 0.1 : interval)) return;
    this.shownAt = now;
    if (stream.isTTY) {
      stream.write(`\r\x1b[K${line.slice(0, (stream.columns ?? 80) - 1)}`);
      this.open = true;
    } else {
      stream.write(`${line}\n`);
    }
  }

  /** A line of its own, between updates. */
  say(line: string): void {
    this.end();
    this.options.stream.write(`${line}\n`);
  }

  /** Leaves the updated line standing. */
  end(): void {
    if (this.open) this.options.stream.write('\n');
    this.open = false;
  }
}

/** 1234567 → 1.23M */
export function formatCount(value: number): string {
  const units = ['', 'k', 'M', 'B', 'T'];
  let unit = 0;
  let scaled = value;
  for (; scaled >= 1000 && unit < units.length - 1; unit++) scaled /= 1000;
  return `${unit === 0 && Number.isInteger(value) ? value : scaled.toPrecision(3)}${units[unit]}`;
}

/** 3725 → 1h 02m */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const whole = Math.round(seconds);
  const pad = (value: number) => String(value).padStart(2, '0');
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${pad(whole % 60)}s`;
  if (whole < 86_400 * 2) return `${Math.floor(whole / 3600)}h ${pad(Math.floor((whole % 3600) / 60))}m`;
  return `${(whole / 86_400).toFixed(1)} days`;
}

/** 3221225472 → 3.0 GiB */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let scaled = bytes;
  for (; scaled >= 1024 && unit < units.length - 1; unit++) scaled /= 1024;
  return `${unit === 0 ? scaled : scaled.toFixed(1)} ${units[unit]}`;
}
