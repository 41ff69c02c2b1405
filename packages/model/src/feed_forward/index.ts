/**
 * The feed-forward kinds. A new one is a file beside these and an entry in `kinds`, under its key of the configuration.
 */
import type { z } from 'zod';
import { experts } from './experts.js';
import type { FeedForwardKind } from './feed_forward_kind.js';
import { swiGlu } from './swiglu.js';

/** In the order in which a `config.json` of `transformers` is shown to them. */
const kinds = { experts, intermediateSize: swiGlu };

type Kinds = typeof kinds;
type Schemas = { [Key in keyof Kinds]: z.ZodOptional<Kinds[Key]['schema']> };
type Settings = { [Key in keyof Kinds]?: z.output<Kinds[Key]['schema']> | undefined };

const keys = Object.keys(kinds) as (keyof Kinds)[];

/** Keys of a model's configuration, of which one is set and selects a feed-forward kind. */
export const feedForwardSchemas = Object.fromEntries(
  Object.entries(kinds).map(([key, { schema }]) => [key, schema.optional()]),
) as Schemas;

/** Why a configuration selects no kind, or two, as the end of a message that begins with the key. */
export function feedForwardFault(config: Settings): { key: string; message: string } | undefined {
  const set = keys.filter((key) => config[key] !== undefined);
  if (set.length === 1) return undefined;
  if (set.length === 0) return { key: 'intermediateSize', message: 'expected this or experts, and neither is there' };
  return { key: set[0]!, message: `expected this or ${set[1]}, not both` };
}

/** The kind that a configuration selects, and its setting. */
export function feedForwardOf(config: Settings): { kind: FeedForwardKind; setting: unknown } {
  const key = keys.find((one) => config[one] !== undefined)!;
  return { kind: kinds[key] as FeedForwardKind, setting: config[key] };
}

/** How many experts each layer's router chooses from; 0: there is none. */
export function routedExperts(config: Settings): number {
  const { kind, setting } = feedForwardOf(config);
  return kind.experts?.(setting) ?? 0;
}

/** Whether a training step depends on how often each expert was chosen in the one before. */
export function usesCountsBefore(config: Settings): boolean {
  const { kind, setting } = feedForwardOf(config);
  return kind.usesCountsBefore?.(setting) ?? false;
}

/** The settings in a `config.json` written by `transformers`. @throws UserError that names the key that does not fit */
export function feedForwardFromHuggingFace(json: Record<string, unknown>, file: string): Settings {
  for (const key of keys) {
    const setting = kinds[key].fromHuggingFace(json, file);
    if (setting !== undefined) return { [key]: setting };
  }
  throw new Error('no feed-forward kind recognises itself');
}
