// The learning rate as a function of tokens. A stage warms up in a straight line and then follows one of five shapes.
// Stick-breaking models were trained in two stages (Tan et al. 2024, 5.3): warm-up and Power decay, which depends on
// tokens and batch size but not on the run's length, then an exponential decay to zero (Shen et al. 2024,
// arXiv:2408.13359; Hu et al. 2024, arXiv:2404.06395).
import { nonNegative, positive } from '@stickbreaking/model';
import { z } from 'zod';

const rate = nonNegative();
const warmup = {
  /** Warm-up length: in tokens, or in optimizer steps; at most one of the two. */
  warmupTokens: z.int().nonnegative().optional(),
  warmupSteps: z.int().nonnegative().optional(),
  /** Learning rate at which the warm-up starts. */
  warmupFrom: rate.default(0),
};
/** The rate at which a decay ends, exactly, when all the stage's tokens have been seen. */
const final = rate.default(0);
/** Highest learning rate. A stage after the first may leave it out: it goes on from where the previous one ended. */
const peak = positive().optional();

/** The schema of a learning-rate schedule. */
export const ScheduleSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('power'),
    peak: positive(),
    a: positive().default(4.6),
    b: z.number().min(-100).max(-1e-6).default(-0.51),
    ...warmup,
  }),
  z.strictObject({
    kind: z.literal('exponential'),
    peak,
    final,
    /** How many e-foldings the decay takes; the larger, the faster it falls at first. */
    rate: positive().default(5),
    ...warmup,
  }),
  z.strictObject({ kind: z.literal('constant'), peak, ...warmup }),
  z.strictObject({ kind: z.literal('cosine'), peak, final, ...warmup }),
  z.strictObject({ kind: z.literal('linear'), peak, final, ...warmup }),
]);

/** A learning-rate schedule. */
export type Schedule = z.output<typeof ScheduleSchema>;

/** What of a stage its learning rate depends on. */
export interface StageSchedule {
  schedule: Schedule;
  /** optimizer steps in the stage */
  steps: number;
  batchTokens: number;
  contextLength: number;
  /** tokens of the stages before */
  tokensBefore: number;
}

/**
 * Learning rate of step `step` (from 0) of stage `index`.
 *
 * With n the tokens before the step and T the stage's tokens (both counted from the stage's start), W the warm-up:
 * - warm-up: from `warmupFrom` in a straight line, so that the step which completes W tokens has the peak;
 * - power: min(peak, β·a·N^b), N the tokens since the start of the run, β = batchTokens / contextLength sequences;
 * - exponential: final + (peak − final)·(e^(−k·p) − e^(−k)) / (1 − e^(−k)), p = (n − W)/(T − W), k = `rate`. An
 *   exponential never meets zero; this one is moved down by its own last value, so that it is at `final` at p = 1;
 * - cosine: final + (peak − final)·(1 + cos πp)/2; linear: peak + (final − peak)·p; constant: peak. No step is taken at
 * p = 1: the last step's rate is one step short of `final`. If the warm-up takes the whole stage (W = T), there is no
 * decay, and the last step has the peak.
 */
export function learningRate(stages: readonly StageSchedule[], index: number, step: number): number {
  const stage = stages[index]!;
  const { schedule, batchTokens } = stage;
  const warm = warmupTokensOf(stage);
  const top = peakOf(stages, index);
  const tokens = step * batchTokens;
  if (tokens + batchTokens <= warm) {
    const reach = decayed(stage, top, warm);
    return schedule.warmupFrom + ((reach - schedule.warmupFrom) * (tokens + batchTokens)) / warm;
  }
  return decayed(stage, top, tokens);
}

export function warmupTokensOf(stage: StageSchedule): number {
  const { warmupTokens, warmupSteps } = stage.schedule;
  return warmupTokens ?? (warmupSteps ?? 0) * stage.batchTokens;
}

/** The schedule after the warm-up, at `tokens` since the stage's start. */
function decayed(stage: StageSchedule, peak: number, tokens: number): number {
  const { schedule, batchTokens, contextLength, tokensBefore } = stage;
  if (schedule.kind === 'constant') return peak;
  if (schedule.kind === 'power') {
    const sequences = batchTokens / contextLength;
    return Math.min(peak, sequences * schedule.a * Math.max(1, tokensBefore + tokens) ** schedule.b);
  }
  const warm = warmupTokensOf(stage);
  const length = stage.steps * batchTokens - warm;
  // A stage that is all warm-up has no decay: it ends at the peak, where the warm-up has brought it.
  const progress = length > 0 ? Math.min(1, Math.max(0, (tokens - warm) / length)) : 0;
  return schedule.final + (peak - schedule.final) * remaining(schedule, progress);
}

/** What is left of the way from peak to final: 1 at progress 0, 0 at progress 1. */
function remaining(schedule: Schedule, progress: number): number {
  if (schedule.kind === 'cosine') return (1 + Math.cos(Math.PI * progress)) / 2;
  if (schedule.kind !== 'exponential') return 1 - progress;
  const end = Math.exp(-schedule.rate);
  return (Math.exp(-schedule.rate * progress) - end) / (1 - end);
}

/** Whether the rate of a step says nothing about the stage's length, so that a finished stage may be made longer. */
export const isOpenEnded = ({ kind }: Pick<Schedule, 'kind'>) => kind === 'constant' || kind === 'power';

/** A stage that states no peak goes on from the learning rate at which the stage before it ended. */
export function peakOf(stages: readonly StageSchedule[], index: number): number {
  const stage = stages[index]!;
  if (stage.schedule.peak !== undefined) return stage.schedule.peak;
  const before = stages[index - 1]!; // the run's schema asks the first stage for a peak
  return decayed(before, peakOf(stages, index - 1), before.steps * before.batchTokens);
}
