/** The feed-forward kinds. A new one is a file beside these and a place in `kinds`, under its key of the configuration. */
import type { z } from 'zod';
import type { FeedForwardKind } from './feed_forward_kind.js';
import { swiGlu } from './swiglu.js';

const kinds = { intermediateSize: swiGlu };

type Schemas = { [Key in keyof typeof kinds]: (typeof kinds)[Key]['schema'] };

/** Keys of a model's configuration that call for a feed-forward kind. */
export const feedForwardSchemas = Object.fromEntries(
  Object.entries(kinds).map(([key, { schema }]) => [key, schema]),
) as Schemas;

/** The kind that a configuration calls for, and what it says of it. */
export function feedForwardOf(config: { [Key in keyof Schemas]: z.output<Schemas[Key]> }): {
  kind: FeedForwardKind;
  setting: unknown;
} {
  const [key] = (Object.keys(kinds) as (keyof Schemas)[]).filter((one) => config[one] !== undefined);
  return { kind: kinds[key!] as FeedForwardKind, setting: config[key!] };
}

/** The settings of a `config.json` that `transformers` wrote; the schemas look at them afterwards. */
export function feedForwardFromHuggingFace(json: Record<string, unknown>): Record<keyof Schemas, unknown> {
  const settings = Object.entries(kinds).map(([key, kind]) => [key, kind.fromHuggingFace(json)]);
  return Object.fromEntries(settings) as Record<keyof Schemas, unknown>;
}
