/** Runs a stick-breaking model over held-out text and records, layer by layer, which tiles its heads skip. */
import { UserError } from '@stickbreaking/base';
import { openCheckpoint } from '@stickbreaking/eval';
import { isStickBreaking, type LlamaConfigInput, type LlamaModel, type ObservedAttention } from '@stickbreaking/model';
import { z } from 'zod';
import { defined } from '../config.js';
import type { ArmContext } from '../study.js';
import { heldOutTokens } from '../text/held_out.js';
import type { PreparedText } from '../text/text.js';
import { type TrainingResult, TrainingResultSchema, trainOnText } from '../text/train.js';
import type { SpeedConfig } from './config.js';
import { headTiles, type TileOptions } from './tiles.js';

/** Tiles of the kernels, and when a stick counts as exhausted: in bfloat16, and in float32 (half a last bit of one). */
const TILE = 64;
const thresholds = [2 ** -9, 2 ** -25];

export const SkippingResultSchema = z.object({
  ...TrainingResultSchema.partial().shape,
  length: z.number(),
  windows: z.number(),
  tile: z.number(),
  thresholds: z.array(z.number()),
  /** For every layer and head, over all windows. */
  heads: z.array(
    z.object({
      layer: z.number(),
      head: z.number(),
      /** Share of tiles skipped, by threshold. */
      skipped: z.array(z.number()),
      /** Share of the weight by distance, from 1, 2, 4, … */
      byDistance: z.array(z.number()),
      remainder: z.number(),
    }),
  ),
});

export type SkippingResult = z.infer<typeof SkippingResultSchema>;

export async function skippingOnText(
  config: NonNullable<SpeedConfig['skipping']>,
  text: PreparedText,
  context: ArmContext,
): Promise<SkippingResult | undefined> {
  const given = await modelOf(config, text, context);
  if (!given) return undefined;
  const { model, tokenizer, result } = given;
  try {
    const { attention } = model.config;
    if (!isStickBreaking(attention)) {
      throw new UserError(
        `${config.checkpoint} has ${attention.kind} attention; skipping.checkpoint needs stick-breaking.`,
      );
    }
    const tokens = await heldOutTokens(text.heldOut, tokenizer, config.length * config.windows);
    const windows = Math.floor(tokens.length / config.length);
    if (windows === 0) {
      throw new UserError(
        `${[text.heldOut.path].flat().join(', ')} has ${tokens.length} tokens, too few for skipping.length ${config.length}.`,
      );
    }
    const sums = new Map<string, HeadSum>();
    for (let w = 0; w < windows; w++) {
      const window = tokens.subarray(w * config.length, (w + 1) * config.length);
      const observe = (observed: ObservedAttention) => {
        context.say(`window ${w + 1} of ${windows}, layer ${observed.layer + 1}`);
        addLayer(sums, observed, attention.attendCurrent);
      };
      model.lastLogits(window, { observe }).dispose();
      if (context.signal.aborted) return undefined;
    }
    const heads = [...sums.values()].map((sum) => shares(sum, windows));
    return { ...result, length: config.length, windows, tile: TILE, thresholds, heads };
  } finally {
    model.dispose();
  }
}

async function modelOf(
  config: NonNullable<SpeedConfig['skipping']>,
  text: PreparedText,
  context: ArmContext,
): Promise<{ model: LlamaModel; tokenizer: PreparedText['tokenizer']; result: Partial<TrainingResult> } | undefined> {
  if (config.checkpoint !== undefined) return { ...(await openCheckpoint(config.checkpoint)), result: {} };
  const { model: sizes, training: recipe, seed } = config;
  const model = {
    ...defined(sizes!),
    vocabSize: text.tokenizer.vocabSize,
    contextLength: recipe!.contextLength,
    attention: 'stick-breaking',
  } as LlamaConfigInput;
  const trained = await trainOnText({ model, recipe: recipe!, seed }, text, context);
  return trained && { ...trained, tokenizer: text.tokenizer };
}

interface HeadSum {
  layer: number;
  head: number;
  tiles: number;
  skipped: number[];
  weightByDistance: number[];
  remainder: number;
}

function addLayer(sums: Map<string, HeadSum>, { layer, q, k, scale }: ObservedAttention, attendCurrent: boolean): void {
  const [tokens, heads, dim] = q.shape;
  const options: TileOptions = {
    tokens,
    heads,
    kvHeads: k.shape[1],
    dim,
    scale,
    attendCurrent,
    tile: TILE,
    thresholds,
  };
  const [queries, keys] = [q.dataSync(), k.dataSync()];
  for (let head = 0; head < heads; head++) {
    const found = headTiles(queries, keys, head, options);
    const sum = sums.get(`${layer}.${head}`) ?? {
      ...{ layer, head, tiles: 0, skipped: thresholds.map(() => 0) },
      ...{ weightByDistance: [], remainder: 0 },
    };
    sum.tiles += found.tiles;
    sum.remainder += found.remainder;
    for (const [i, skipped] of found.skipped.entries()) sum.skipped[i]! += skipped;
    for (let b = 0; b < found.weightByDistance.length; b++) {
      sum.weightByDistance[b] = (sum.weightByDistance[b] ?? 0) + (found.weightByDistance[b] ?? 0);
    }
    sums.set(`${layer}.${head}`, sum);
  }
}

function shares({ layer, head, tiles, skipped, weightByDistance, remainder }: HeadSum, windows: number) {
  const total = weightByDistance.reduce((a, b) => a + b, 0);
  const short = (value: number) => Number(value.toFixed(5));
  return {
    layer,
    head,
    skipped: skipped.map((count) => short(count / tiles)),
    byDistance: weightByDistance.map((weight) => short(weight / total)),
    remainder: short(remainder / windows),
  };
}
