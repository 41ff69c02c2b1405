import { nonNegative } from '@stickbreaking/model';
import { z } from 'zod';
import { AttentionInputSchema, armNames, common, count, learningRates, ModelSizesSchema, withId } from '../config.js';

/** Several mixtures of training sequences instead of one, each with learning rates of its own; every one is tried. */
const recipes = z.array(z.strictObject({ fewestPairs: count, learningRates })).min(1);

const ArmSchema = z
  .strictObject({
    ...armNames,
    attention: AttentionInputSchema,
    /** Default: the study's. */
    pairs: z.array(count).min(1).optional(),
    /** Default: the study's. */
    learningRates: learningRates.optional(),
    /** Default: the study's. */
    recipes: recipes.optional(),
  })
  .refine(({ learningRates, recipes }) => !(learningRates && recipes), {
    error: 'expected learningRates or recipes, which have learning rates of their own, not both',
  });

const TrainingSchema = z.strictObject({
  /** The most optimizer steps; a run that has solved the task ends earlier. */
  steps: count,
  /** Sequences of a step. */
  sequences: count,
  /**
   * Training sequences have from this many pairs up to the task's; default: all the task's. Tests always have the
   * task's.
   */
  fewestPairs: count.optional(),
  warmupSteps: z.int().nonnegative(),
  /** The share of correct answers from which a run counts as having solved the task. */
  solvedAt: z.number().min(0).max(1).default(0.99),
  /** Steps between checks of the share of correct answers. */
  checkEvery: count.default(250),
  /** Sequences of each check, and of the final one. */
  checkSequences: count.default(64),
  testSequences: count.default(256),
  weightDecay: nonNegative().default(0.1),
});

/** `study: mqrar`: section 5.1 of the paper, figures 3 and 4. */
export const MqrarConfigSchema = z.strictObject({
  study: z.literal('mqrar'),
  ...common,
  /** The first tries every learning rate; the others are trained with the best one that it found. */
  seeds: z.array(z.int().nonnegative()).min(1).default([0]),
  task: z.strictObject({
    /** Tokens of a sequence. */
    sequenceLength: count,
    /** Variables and values to draw from; the paper does not state them. */
    variables: count,
    values: count,
  }),
  /** Key-value pairs, each a point of figure 3. */
  pairs: z.array(count).min(1),
  /** Tried in this order, the best kept. */
  learningRates,
  recipes: recipes.optional(),
  /** Skip a mixture's remaining learning rates once one has solved the task. */
  stopSweepWhenSolved: z.boolean().default(true),
  model: ModelSizesSchema,
  training: TrainingSchema,
  arms: z.array(ArmSchema.transform(withId)).min(1),
  /** Figure 4: other models, smaller, whose attention on the paper's example is drawn. */
  example: z
    .strictObject({
      pairs: count.default(16),
      sequenceLength: count,
      learningRates,
      model: ModelSizesSchema,
      training: TrainingSchema,
      /** Ids of arms. */
      arms: z.array(z.string()).min(1),
    })
    .optional(),
});

export type MqrarConfig = z.output<typeof MqrarConfigSchema>;
export type MqrarTraining = MqrarConfig['training'];
