/** A file that extends another: values laid over values, each remembering the file it came from. */

/** A value with the layer it came from. */
export type Layered<Layer> =
  | { layer: Layer; entries: Map<string, Layered<Layer>> }
  | { layer: Layer; entries?: undefined; value: unknown };

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A file's plain values as one layer. */
export function layerOf<Layer>(value: unknown, layer: Layer): Layered<Layer> {
  if (!isMapping(value)) return { layer, value };
  return { layer, entries: new Map(Object.entries(value).map(([key, inner]) => [key, layerOf(inner, layer)])) };
}

/**
 * `over` laid on `base`. Mappings are merged key by key; a list or a single value replaces what was there, and `null`
 * takes it out. Mappings of two kinds have different keys, so that the upper one replaces the lower one as a whole.
 */
export function layOver<Layer>(base: Layered<Layer>, over: Layered<Layer>): Layered<Layer> {
  if (!base.entries || !over.entries || kindOf(base) !== (kindOf(over) ?? kindOf(base))) return over;
  const entries = new Map(base.entries);
  for (const [key, value] of over.entries) {
    const below = entries.get(key);
    if (!value.entries && value.value === null) entries.delete(key);
    else entries.set(key, below ? layOver(below, value) : value);
  }
  return { layer: over.layer, entries };
}

function kindOf(mapping: Layered<unknown>): unknown {
  const kind = mapping.entries?.get('kind');
  return kind && !kind.entries ? kind.value : undefined;
}

/** The values alone. */
export function valuesOf(layered: Layered<unknown>): unknown {
  if (!layered.entries) return layered.value;
  return Object.fromEntries([...layered.entries].map(([key, inner]) => [key, valuesOf(inner)]));
}

/** The layer that says what stands at `path`, or at its nearest parent. */
export function layerAt<Layer>(layered: Layered<Layer>, path: readonly PropertyKey[]): Layer {
  const inner = path.length > 0 ? layered.entries?.get(String(path[0])) : undefined;
  return inner ? layerAt(inner, path.slice(1)) : layered.layer;
}
