declare module 'd3-dsv' {
  /** The rows of RFC 4180's CSV, without a header. */
  export function csvParseRows(text: string): string[][];
}
