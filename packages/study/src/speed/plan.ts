/** The arms of a study of speed: every attention at every length, and the tiles that stick-breaking skips. */
import { type LlamaConfigInput, parseConfig } from '@stickbreaking/model';
import { z } from 'zod';
import { defined } from '../config.js';
import type { Arm } from '../study.js';
import type { SpeedConfig } from './config.js';
import { MeasureResultSchema } from './measure.js';
import { SkippingResultSchema } from './skipping.js';

export const SpeedResultSchema = z.union([MeasureResultSchema, SkippingResultSchema]);

export type SpeedResult = z.infer<typeof SpeedResultSchema>;

export const speedId = (arm: string, length: number) => `${arm}, ${length} tokens`;
export const SKIPPING = 'tiles on real text';

export const planned = (config: SpeedConfig): Arm[] => [...measurements(config), ...skippingArm(config)];

function measurements(config: SpeedConfig): Arm[] {
  const { vocabSize, warmupSteps, steps, secondsAtMost } = config;
  return config.arms.flatMap(({ id, attention, lengths = config.lengths }) =>
    lengths.map((length) => {
      const tokens = Math.max(length, Math.floor(config.tokens / length) * length);
      const model = { ...defined(config.model), vocabSize, contextLength: length, attention } as LlamaConfigInput;
      parseConfig(model);
      return { id: speedId(id, length), settings: { model, length, tokens, warmupSteps, steps, secondsAtMost } };
    }),
  );
}

function skippingArm({ skipping }: SpeedConfig): Arm[] {
  if (!skipping) return [];
  const { text, ...rest } = skipping;
  const { folder: _, ...what } = text;
  return [{ id: SKIPPING, settings: { ...rest, text: what } }];
}
