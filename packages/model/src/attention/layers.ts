/** Layers that attend differently, as Hugging Face's `config.json` says it: windows and RoPE in some layers only. */
import { UserError } from '@stickbreaking/base';
import { z } from 'zod';
import { count } from '../bounds.js';
import { flag, type Json, readKey, refuseOthers, say } from '../huggingface_keys.js';
import type { Family } from './attention_kind.js';

/** As softmax attention has them; layers are counted from 0. */
export interface DifferentLayers {
  window?: number | undefined;
  /** Default: all. */
  windowLayers?: number[] | undefined;
  /** Default: none. */
  nopeLayers?: number[] | undefined;
}

const SLIDING = 'sliding_attention';
const FULL = 'full_attention';
const layersWhere = (numLayers: number, holds: (layer: number) => boolean) =>
  Array.from({ length: numLayers }, (_, layer) => layer).filter(holds);

/** The families whose layers may differ like this, and the keys of each. */
export function layersToHuggingFace(
  { window, windowLayers, nopeLayers = [] }: DifferentLayers,
  { numLayers }: { numLayers: number },
): { alike: boolean; families: readonly Family[]; keys(family: Family | undefined): Json } {
  const slides = (layer: number) => window !== undefined && (windowLayers?.includes(layer) ?? true);
  const sliding = layersWhere(numLayers, slides).length;
  const hasRope = nopeLayers.length === 0;
  const byWindow: Family[] = [
    ...(sliding === 0 ? (['llama', 'olmo2'] as const) : []),
    ...(sliding === numLayers ? (['mistral'] as const) : []),
    ...(['qwen2', 'qwen3', 'smollm3'] as const),
  ];
  const layers = Array.from({ length: numLayers }, (_, layer) => layer);
  const pattern = {
    use_sliding_window: sliding > 0,
    sliding_window: sliding > 0 ? window : null,
    layer_types: layers.map((layer) => (slides(layer) ? SLIDING : FULL)),
  };
  return {
    alike: hasRope && (sliding === 0 || sliding === numLayers),
    families: hasRope ? byWindow : byWindow.filter((family) => family === 'smollm3'),
    keys(family) {
      if (family === 'smollm3')
        return { ...pattern, no_rope_layers: layers.map((l) => (nopeLayers.includes(l) ? 0 : 1)) };
      if (sliding > 0 && (family === 'qwen2' || family === 'qwen3')) return pattern;
      return sliding > 0 ? { sliding_window: window } : {};
    },
  };
}

/**
 * How the layers of a `config.json` written by `transformers` differ, as its model type reads it.
 *
 * @throws UserError that names the key that is not supported, or contradicts another
 */
export function layersFromHuggingFace(json: Json, file: string): DifferentLayers {
  const type = String(json.model_type);
  const numLayers = readKey(json, file, 'num_hidden_layers', count());
  const types = readKey(json, file, 'layer_types', z.array(z.string()).nullish()) ?? undefined;
  const other = types?.find((one) => one !== SLIDING && one !== FULL);
  if (other !== undefined) {
    throw new UserError(
      `${file}: layer_types has ${say(other)}, which is not supported; only ${FULL} and ${SLIDING} are.`,
    );
  }
  if (types && types.length !== numLayers) {
    throw new UserError(`${file}: layer_types has ${types.length} entries for ${numLayers} layers.`);
  }
  if (!['smollm3', 'qwen2', 'qwen3'].includes(type)) return alikeFromHuggingFace(json, file, types);
  const nopeLayers = type === 'smollm3' ? nopeFromHuggingFace(json, file, numLayers) : [];
  const window = readKey(
    json,
    file,
    'sliding_window',
    count()
      .nullish()
      .default(type === 'smollm3' ? null : 4096),
  );
  const slides = readKey(json, file, 'use_sliding_window', flag(false)) && window !== null && window !== undefined;
  if (!slides && types?.includes(SLIDING)) {
    throw new UserError(
      `${file}: layer_types has ${SLIDING}, but no window is in use (use_sliding_window, sliding_window).`,
    );
  }
  const first = readKey(json, file, 'max_window_layers', z.int().min(0).nullish()) ?? 28;
  const byDefault = (layer: number) => (type === 'smollm3' ? nopeLayers.includes(layer) : layer >= first);
  const windowLayers = slides
    ? layersWhere(numLayers, (layer) => (types ? types[layer] === SLIDING : byDefault(layer)))
    : [];
  return {
    ...(windowLayers.length > 0 ? { window: window! } : {}),
    ...(windowLayers.length > 0 && windowLayers.length < numLayers ? { windowLayers } : {}),
    ...(nopeLayers.length > 0 ? { nopeLayers } : {}),
  };
}

/** SmolLM3's: a 1 for each layer with RoPE, or by default all but every fourth. */
function nopeFromHuggingFace(json: Json, file: string, numLayers: number): number[] {
  const flags = readKey(json, file, 'no_rope_layers', z.array(z.union([z.literal(0), z.literal(1)])).nullish());
  const interval = readKey(json, file, 'no_rope_layer_interval', count().nullish()) ?? 4;
  if (!flags) return layersWhere(numLayers, (layer) => (layer + 1) % interval === 0);
  if (flags.length < numLayers) {
    throw new UserError(`${file}: no_rope_layers has ${flags.length} entries for ${numLayers} layers.`);
  }
  return layersWhere(numLayers, (layer) => flags[layer] === 0);
}

/** Of the other types, only Mistral and Phi-3 have a window: `transformers` ignores the key in the rest. */
function alikeFromHuggingFace(json: Json, file: string, types: readonly string[] | undefined): DifferentLayers {
  const type = String(json.model_type);
  const hasWindow = type === 'mistral' || type === 'phi3';
  const window = hasWindow
    ? (readKey(
        json,
        file,
        'sliding_window',
        count()
          .nullish()
          .default(type === 'mistral' ? 4096 : null),
      ) ?? undefined)
    : undefined;
  // They look at neither of these, so a file in which they say something else describes another model.
  if (window) refuseOthers(json, file, { use_sliding_window: [true] });
  refuseOthers(json, file, { no_rope_layers: [] });
  const expected = window ? SLIDING : FULL;
  const other = types?.find((one) => one !== expected);
  if (other !== undefined) {
    throw new UserError(
      `${file}: layer_types has ${say(other)}, which is not supported; every layer of this model has ${expected}.`,
    );
  }
  return window ? { window } : {};
}
