/** Whether both arrays hold the same numbers. */
export function sameValues(a: Int32Array | Float64Array, b: Int32Array | Float64Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
