/** Shared by the configurations of all studies. */
import { count as boundedCount, type LlamaConfigInput, LlamaConfigSchema, positive } from '@stickbreaking/model';
import { z } from 'zod';

export const count = boundedCount();
export const rate = positive();
export const learningRates = z.array(rate).min(1);

/** A learning rate as shown in reports and in the names of arms. */
export const shownRate = (rate: number) => Number(rate.toPrecision(3)).toExponential();

export const common = {
  /** The study's folder. */
  output: z.string().min(1),
  backend: z.string().default('auto'),
};

/** What tells a study's arms apart. */
export const armNames = {
  /** What the findings and other keys of the file know the arm by; default: its name. */
  id: z.string().min(1).optional(),
  /** As the report calls it. */
  name: z.string().min(1),
};

export const withId = <A extends { id?: string | undefined; name: string }>(arm: A) => ({
  ...arm,
  id: arm.id ?? arm.name,
});

/** The sizes of a model, without what the study decides: attention, vocabulary and context. */
export const ModelSizesSchema = z.strictObject({
  hiddenSize: count,
  intermediateSize: count,
  numLayers: count,
  numHeads: count,
  numKvHeads: count.optional(),
  headDim: count.optional(),
  tieEmbeddings: z.boolean().default(true),
  initializerRange: positive().default(0.02),
});

export type ModelSizes = z.output<typeof ModelSizesSchema>;

/** An attention kind as every model configuration writes it: a name such as `softmax+rope`, or its options. */
export const AttentionInputSchema = LlamaConfigSchema.in.shape.attention.unwrap();

export type AttentionInput = LlamaConfigInput['attention'];

/** `{ a: undefined }` without a. */
export function defined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as never;
}
