/**
 * The feed-forward kinds. A new one is a file beside these and an entry in `kinds`, under its key of the configuration.
 */
import type { z } from 'zod';
import type { FeedForwardKind } from './feed_forward_kind.js';
import { swiGlu } from './swiglu.js';

const kinds = { intermediateSize: swiGlu };

type Schemas = { [Key in keyof typeof kinds]: (typeof kinds)[Key]['schema'] };

/** Keys of a model's configuration, each of which selects a feed-forward kind. */
export const feedForwardSchemas = Object.fromEntries(
  Object.entries(kinds).map(([key, { schema }]) => [key, schema]),
) as Schemas;

/** The kind that a configuration selects, and its setting. */
export function feedForwardOf(config: { [Key in keyof Schemas]: z.output<Schemas[Key]> }): {
  kind: FeedForwardKind;
  setting: unknown;
} {
  const [key] = (Object.keys(kinds) as (keyof Schemas)[]).filter((one) => config[one] !== undefined);
  return { kind: kinds[key!] as FeedForwardKind, setting: config[key!] };
}

/** The settings in a `config.json` written by `transformers`. @throws UserError that names the key that does not fit */
export function feedForwardFromHuggingFace(
  json: Record<string, unknown>,
  file: string,
): Record<keyof Schemas, unknown> {
  const settings = Object.entries(kinds).map(([key, kind]) => [key, kind.fromHuggingFace(json, file)]);
  return Object.fromEntries(settings) as Record<keyof Schemas, unknown>;
}
