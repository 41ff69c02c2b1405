// Stages: what a run does one after the other, each with its own length, context, schedule and data.
import { UserError } from '@stickbreaking/base';
import type { TokenBatch } from '@stickbreaking/model';
import type { z } from 'zod';
import { peakOf, ScheduleSchema, type StageSchedule, warmupTokensOf } from './schedule.js';

/** Packed micro-batches without end. */
export interface BatchSource {
  /** The next micro-batch. */
  next(): TokenBatch;
  /** Plain JSON from which another source of the same data continues with exactly the next batch. */
  cursor(): unknown;
}

/** A source of packed batches. */
export interface StageData {
  /** Plain JSON of what, beside the text itself, decides the batches; a run that is resumed must agree in it. */
  identity?: unknown;
  /**
   * Starts at the beginning, or goes on from what `cursor()` gave. `stage` is the one that will read: a later stage
   * may go on with this data in micro-batches of another size or at another context length.
   */
  // biome-ignore lint/suspicious/noExplicitAny: only the source knows the shape of its cursor, which was JSON in between
  open(stage: PlacedStage, cursor?: any): BatchSource | Promise<BatchSource>;
}

/** One stage of a run. */
export interface TrainStage {
  name?: string | undefined;
  schedule: z.input<typeof ScheduleSchema>;
  /** optimizer steps */
  steps: number;
  /** longest document piece, in tokens */
  contextLength: number;
  /** tokens of an optimizer step: a whole number of micro-batches */
  batchTokens: number;
  /** tokens of a batch of the stage's data */
  microBatchTokens: number;
  /** Default: the data of the stage before, from where it stopped. */
  data?: StageData | undefined;
}

/** A stage with its place in the run. */
export interface PlacedStage extends StageSchedule {
  name: string;
  microBatchTokens: number;
  /** micro-batches of an optimizer step */
  microBatches: number;
  /** The stage whose data it reads: itself, or an earlier one. */
  dataStage: number;
  /** `identity` of its own data. */
  data?: unknown;
}

/**
 * Places stages one after the other and checks that they fit together.
 *
 * @throws UserError that names the stage and what does not fit
 */
export function placeStages(stages: readonly TrainStage[]): PlacedStage[] {
  if (stages.length === 0) throw new UserError('The run has no stages; give it at least one.');
  const placed: PlacedStage[] = [];
  let tokensBefore = 0;
  for (const [i, stage] of stages.entries()) {
    const { steps, contextLength, batchTokens, microBatchTokens } = stage;
    const name = stage.name ?? `stage ${i + 1}`;
    const schedule = ScheduleSchema.parse(stage.schedule);
    const microBatches = batchTokens / microBatchTokens;
    const fault = faultOf({ ...stage, microBatches }, i, schedule.peak);
    if (fault) throw new UserError(`${name}: ${fault}.`);
    const dataStage = stage.data ? i : placed[i - 1]!.dataStage;
    const one = { name, schedule, steps, contextLength, batchTokens, microBatchTokens, microBatches, tokensBefore };
    const identity = stage.data?.identity;
    placed.push({ ...one, dataStage, ...(identity === undefined ? {} : { data: identity }) });
    const warmup = warmupTokensOf(placed.at(-1)!);
    if (warmup > steps * batchTokens) {
      throw new UserError(`${name}: the warm-up of ${warmup} tokens is longer than its ${steps * batchTokens} tokens.`);
    }
    if (peakOf(placed, i) === 0) {
      throw new UserError(
        `${name}: its schedule has no peak, and the stage before ends at a learning rate of 0, from which nothing would be learned; give the schedule a peak, or the stage before a 'final' above 0.`,
      );
    }
    tokensBefore += steps * batchTokens;
  }
  return placed;
}

function faultOf(stage: TrainStage & { microBatches: number }, index: number, peak: number | undefined) {
  const { steps, contextLength, batchTokens, microBatchTokens, microBatches } = stage;
  for (const [name, value] of Object.entries({ steps, contextLength, batchTokens, microBatchTokens })) {
    if (!(Number.isSafeInteger(value) && value > 0)) return `${name} is ${value}; expected a whole number above 0`;
  }
  if (!Number.isInteger(microBatches)) {
    return `batchTokens ${batchTokens} is not a multiple of microBatchTokens ${microBatchTokens}`;
  }
  if (contextLength > microBatchTokens) {
    return `contextLength ${contextLength} is above microBatchTokens ${microBatchTokens}: no document could be that long`;
  }
  if (index === 0 && !stage.data) return 'the first stage needs data';
  if (index === 0 && peak === undefined) return 'the schedule of the first stage needs a peak';
  return undefined;
}

export const totalSteps = (stages: readonly PlacedStage[]) => stages.reduce((sum, { steps }) => sum + steps, 0);

export function totalTokens(stages: readonly PlacedStage[]): number {
  return stages.reduce((sum, { steps, batchTokens }) => sum + steps * batchTokens, 0);
}
