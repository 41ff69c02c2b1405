/**
 * Which tiles of the attention matrix stick-breaking can skip, and how far back it looks. A block of queries walks its
 * keys from the nearest tile to the farthest; once every query of the block has exhausted its stick, all tiles further
 * left are zero (section 4.1, "conditional computation", of https://arxiv.org/abs/2410.17980). In float64, independent
 * of any kernel.
 */

export interface TileOptions {
  tokens: number;
  heads: number;
  kvHeads: number;
  dim: number;
  /** Factor on q·k. */
  scale: number;
  attendCurrent: boolean;
  /** Queries and keys of a tile; the kernels have 64. */
  tile: number;
  /** A stick of which no more than this is left is exhausted; largest first. */
  thresholds: readonly number[];
}

export interface HeadTiles {
  /** Tiles on and below the diagonal. */
  tiles: number;
  /** The number of tiles skipped, for each threshold. */
  skipped: number[];
  /** Weight given to keys by distance: bucket b holds distances from 2^b up to 2^(b+1), all queries together. */
  weightByDistance: number[];
  /** Mean of what queries gave to no key; with early stops, of what was left there. */
  remainder: number;
}

/** @param q [tokens, heads, dim] @param k [tokens, kvHeads, dim] */
export function headTiles(q: ArrayLike<number>, k: ArrayLike<number>, head: number, options: TileOptions): HeadTiles {
  const { tokens, heads, kvHeads, dim, tile, thresholds } = options;
  const rows = columnsOf(q, head, heads, tokens, dim, options.scale);
  const keys = columnsOf(k, Math.floor((head * kvHeads) / heads), kvHeads, tokens, dim, 1);
  const result: HeadTiles = { tiles: 0, skipped: thresholds.map(() => 0), weightByDistance: [], remainder: 0 };
  for (let begin = 0; begin < tokens; begin += tile) {
    const end = Math.min(tokens, begin + tile);
    const left = new Float64Array(end - begin).fill(1);
    const diagonal = Math.floor(begin / tile);
    result.tiles += diagonal + 1;
    let exhausted = 0;
    for (let t = diagonal; t >= 0 && exhausted < thresholds.length; t--) {
      walkTile(
        rows,
        keys,
        left,
        { begin, end },
        { begin: t * tile, end: Math.min(tokens, (t + 1) * tile) },
        options,
        result,
      );
      const most = left.reduce((a, b) => Math.max(a, b), 0);
      while (exhausted < thresholds.length && most <= thresholds[exhausted]!) result.skipped[exhausted++]! += t;
    }
    for (const rest of left) result.remainder += rest / tokens;
  }
  return result;
}

/** One head's rows, side by side and scaled. */
function columnsOf(x: ArrayLike<number>, head: number, heads: number, tokens: number, dim: number, factor: number) {
  const own = new Float64Array(tokens * dim);
  for (let i = 0; i < tokens; i++) {
    for (let d = 0; d < dim; d++) own[i * dim + d] = factor * x[(i * heads + head) * dim + d]!;
  }
  return own;
}

interface Range {
  begin: number;
  end: number;
}

function walkTile(
  rows: Float64Array,
  keys: Float64Array,
  left: Float64Array,
  queries: Range,
  tile: Range,
  { dim, attendCurrent }: TileOptions,
  { weightByDistance }: HeadTiles,
): void {
  for (let j = queries.begin; j < queries.end; j++) {
    const row = rows.subarray(j * dim, (j + 1) * dim);
    let rest = left[j - queries.begin]!;
    for (let i = Math.min(tile.end - 1, attendCurrent ? j : j - 1); i >= tile.begin; i--) {
      let z = 0;
      for (let d = 0; d < dim; d++) z += row[d]! * keys[i * dim + d]!;
      const kept = 1 / (1 + Math.exp(z));
      const bucket = Math.max(0, 31 - Math.clz32(j - i));
      weightByDistance[bucket] = (weightByDistance[bucket] ?? 0) + rest * (1 - kept);
      rest *= kept;
    }
    left[j - queries.begin] = rest;
  }
}
