/** Numbers formatted for people. */

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

/** Rows of cells as lines of text, each column right-aligned and as wide as its widest cell. */
export function alignColumns(rows: readonly (readonly string[])[], gap = '  '): string {
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, c) => Math.max(...rows.map((row) => row[c]?.length ?? 0)));
  return rows.map((row) => row.map((cell, c) => cell.padStart(widths[c]!)).join(gap)).join('\n');
}
