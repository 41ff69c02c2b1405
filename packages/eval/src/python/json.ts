/**
 * A value as Python's `json.dumps(value, indent=2, ensure_ascii=False)` writes it. JavaScript writes it the same, but for
 * numbers that Python holds as floating point (1.0), which are whole numbers here.
 */
export function dumpJson(value: unknown): string {
  return JSON.stringify(value, null, 2);
}
