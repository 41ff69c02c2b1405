/** How runs and numbers look. */
import { curveColours } from '@stickbreaking/base';

const dashes = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

/** Of the i-th run that is shown: when the colours are used up, lines are dashed. */
export function lookOf(i: number, isDark: boolean): { colour: string; dash: number[] } {
  const colours = isDark ? curveColours.dark : curveColours.light;
  return { colour: colours[i % colours.length]!, dash: dashes[Math.floor(i / colours.length) % dashes.length]! };
}

/** Four digits, without zeros that say nothing; very large and very small ones with an exponent. */
export function formatNumber(value: number | null | undefined): string {
  if (value === undefined) return '–';
  if (value === null) return 'not finite';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e15)) return value.toExponential(2);
  if (size >= 1e4) return formatCount(value);
  return size >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(4)));
}

/** 12,300,000 as 12.3M. */
export function formatCount(value: number): string {
  for (const [unit, name] of [
    [1e12, 'T'],
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (Math.abs(value) >= unit) return `${Number((value / unit).toPrecision(3))}${name}`;
  }
  return String(Number(value.toPrecision(3)));
}

export function formatBytes(bytes: number): string {
  for (const [unit, name] of [
    [2 ** 30, 'GiB'],
    [2 ** 20, 'MiB'],
    [2 ** 10, 'KiB'],
  ] as const) {
    if (bytes >= unit) return `${Number((bytes / unit).toPrecision(3))} ${name}`;
  }
  return `${bytes} B`;
}

/** 3h 05m, 12m 30s, 4.5s */
export function formatSeconds(seconds: number): string {
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0');
  if (seconds >= 86_400) return `${Math.floor(seconds / 86_400)}d ${two((seconds % 86_400) / 3600)}h`;
  if (seconds >= 3600) return `${Math.floor(seconds / 3600)}h ${two((seconds % 3600) / 60)}m`;
  if (seconds >= 60) return `${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`;
  return `${Number(seconds.toPrecision(2))}s`;
}

/** Without the directories that all names begin with. */
export function shortNames(names: readonly string[]): string[] {
  const parts = names.map((name) => name.split(/[/\\]/));
  let common = 0;
  while (parts.length > 1 && parts.every((one) => one.length > common + 1 && one[common] === parts[0]![common]))
    common++;
  return parts.map((one) => one.slice(parts.length > 1 ? common : -1).join('/'));
}
