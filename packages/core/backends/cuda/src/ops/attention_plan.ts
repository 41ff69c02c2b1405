/**
 * What each block of the fused attention kernels works on: runs of 64-query or 64-key blocks of one document, the longest
 * first, so that the last blocks to finish are short ones. Plans lie on the GPU and are kept for the next layers and
 * steps with the same documents.
 */
import type { CudaBackend } from '../backend.js';
import { KEY_ITEM, QUERY_ITEM, STRETCH_BLOCKS, TILE_ROWS } from '../kernel_interface.js';
import type { Struct, StructFields, StructValues } from '../struct.js';

const KEPT_PLANS = 64;
const STRETCH_ROWS = STRETCH_BLOCKS * TILE_ROWS;
const stretchesOf = (queries: number) => Math.ceil(queries / STRETCH_ROWS);

export interface Plan {
  /** Device address of `count` items. */
  address: number;
  count: number;
  /** Keys, or queries, that all of them go over, and the longest. */
  work: number;
  longest: number;
}

export interface AttentionPlans {
  /** 64-row blocks of all documents. */
  rowBlocks: number;
  /** Pairs of a row block and a key tile that it may see. */
  tiles: number;
  /** Whether each document's queries are its keys. */
  square: boolean;
  /** Device address, [rowBlocks]: number of such pairs before a row block's. */
  carryBase: number;
  queries(warpgroups: number): Plan;
  keys(warpgroups: number): Plan;
  /** Stretches of STRETCH_BLOCKS blocks of queries, document after document, of each the last first. */
  stretches(): Plan;
  /** Queries of the longest document. */
  longest: number;
}

interface Item<F extends StructFields> {
  /** Keys, or queries, that the block goes over. */
  work: number;
  item: StructValues<F>;
}

const kept = new WeakMap<CudaBackend, Map<string, AttentionPlans & { release(): void }>>();

/** @param behind whether queries come behind all of their document's keys, rather than as the last of them */
export function attentionPlans(
  backend: CudaBackend,
  cuSeqlens: Int32Array,
  cuSeqlensK: Int32Array,
  behind = false,
): AttentionPlans {
  const plans = kept.get(backend) ?? new Map();
  kept.set(backend, plans);
  const key = `${cuSeqlens.join()}|${cuSeqlensK === cuSeqlens ? '' : cuSeqlensK.join()}${behind ? '|behind' : ''}`;
  const found = plans.get(key);
  if (found) return found;
  if (plans.size >= KEPT_PLANS) {
    for (const plan of plans.values()) plan.release();
    plans.clear();
  }
  const made = makePlans(backend, cuSeqlens, cuSeqlensK, behind);
  plans.set(key, made);
  return made;
}

function makePlans(backend: CudaBackend, cuSeqlens: Int32Array, cuSeqlensK: Int32Array, behind: boolean) {
  const owned: number[] = [];
  const upload = (values: ArrayBufferView) => {
    const address = backend.driver.allocate(values.byteLength);
    backend.upload(address, values);
    owned.push(address);
    return address;
  };
  const documents = Array.from({ length: cuSeqlens.length - 1 }, (_, s) => {
    const queries = cuSeqlens[s + 1]! - cuSeqlens[s]!;
    const keys = cuSeqlensK[s + 1]! - cuSeqlensK[s]!;
    // The first query's position among the keys.
    return { q0: cuSeqlens[s]!, queries, k0: cuSeqlensK[s]!, keys, offset: behind ? keys : keys - queries };
  });
  const base: number[] = [];
  let tiles = 0;
  const firstRowBlock = documents.map(({ queries, keys, offset }) => {
    const first = base.length;
    for (let row = 0; row < queries; row += TILE_ROWS) {
      base.push(tiles);
      tiles += Math.ceil(Math.min(keys, offset + row + TILE_ROWS) / TILE_ROWS);
    }
    return first;
  });
  let stretchCount = 0;
  const firstStretch = documents.map(({ queries }) => {
    stretchCount += stretchesOf(queries);
    return stretchCount - stretchesOf(queries);
  });
  const stretchOf = (document: number, row: number) =>
    firstStretch[document]! + stretchesOf(documents[document]!.queries) - 1 - Math.floor(row / STRETCH_ROWS);
  const memo = <F extends StructFields>(struct: Struct<F>, make: (rows: number) => Item<F>[]) => {
    const made = new Map<number, Plan>();
    return (warpgroups: number) => {
      let plan = made.get(warpgroups);
      if (!plan) {
        const items = make(warpgroups * TILE_ROWS).sort((a, b) => b.work - a.work);
        const work = items.reduce((sum, one) => sum + one.work, 0);
        const address = upload(struct.array(items.map(({ item }) => item)));
        plan = { address, count: items.length, work, longest: items[0]?.work ?? 0 };
        made.set(warpgroups, plan);
      }
      return plan;
    };
  };
  const queryItem = (s: number, from: number, rows: number) => {
    const { q0, k0, keys, offset } = documents[s]!;
    const rowBlock = firstRowBlock[s]! + from / TILE_ROWS;
    const places = { rowBlock, stretch: stretchOf(s, from), unused: 0 };
    return { q0: q0 + from, rows, k0, keys, first: offset + from, ...places };
  };
  const queries = memo(QUERY_ITEM, (rows) =>
    documents.flatMap(({ queries, keys }, s) =>
      parts(queries, rows, 'short first').map(({ from, count }) => {
        const item = queryItem(s, from, count);
        return { work: Math.min(keys, item.first + count), item };
      }),
    ),
  );
  const keys = memo(KEY_ITEM, (rows) =>
    documents.flatMap(({ q0, queries, k0, keys, offset }, s) =>
      parts(keys, rows, 'short last').map(({ from, count }) => {
        const document = { q0, queries, offset, rowBlock: firstRowBlock[s]! };
        const item = { k0: k0 + from, keys: count, position: from, ...document, unused: 0 };
        return { work: behind ? queries : keys - from, item };
      }),
    ),
  );
  let stretches: Plan | undefined;
  const makeStretches = (): Plan => {
    const items = documents.flatMap(({ queries }, s) =>
      parts(queries, STRETCH_ROWS, 'short last')
        .reverse()
        .map(({ from, count }) => queryItem(s, from, count)),
    );
    const work = documents.reduce((sum, { queries }) => sum + queries, 0);
    return { address: upload(QUERY_ITEM.array(items)), count: items.length, work, longest: STRETCH_ROWS };
  };
  const longest = documents.reduce((most, { queries }) => Math.max(most, queries), 0);
  return {
    rowBlocks: base.length,
    tiles,
    square: documents.every(({ offset }) => offset === 0),
    carryBase: upload(Int32Array.from(base)),
    queries,
    keys,
    stretches: () => {
      stretches ??= makeStretches();
      return stretches;
    },
    longest,
    release: () => {
      for (const address of owned) backend.driver.release(address);
    },
  };
}

/**
 * Heads that are worked on together, of `heads`: as many as the cache has room for, or more where a section of so few would end before
 * its longest block does, which leaves multiprocessors idle behind the last section. Sections are of even size.
 */
export function headsOfSection(
  heads: number,
  cached: number,
  { work, longest }: Pick<Plan, 'work' | 'longest'>,
  multiprocessors: number,
): number {
  const busy = Math.round((longest * multiprocessors) / work);
  const sections = Math.max(1, Math.round(heads / Math.max(1, cached, busy)));
  return Math.ceil(heads / sections);
}

/**
 * A document in parts of `rows` rows, and one of fewer where they do not come out even, all but the document's end whole
 * blocks. The short part keeps some warpgroups idle for as long as its rows' walk is: it lies where that is shortest.
 */
export function parts(length: number, rows: number, order: 'short first' | 'short last') {
  const whole = Math.ceil(length / TILE_ROWS) * TILE_ROWS;
  const short = order === 'short first' ? whole % rows : 0;
  const starts = Array.from({ length: Math.ceil((whole - short) / rows) }, (_, i) => short + i * rows);
  return (short > 0 ? [0, ...starts] : starts).map((from, i, all) => ({
    from,
    count: Math.min(length, all[i + 1] ?? length) - from,
  }));
}
