/** Trains one model of a study on text, through the public training loop. */
import { join } from 'node:path';
import { type LoaderCursor, openDataset, PackedLoader, type TokenDataset } from '@stickbreaking/data';
import { type LlamaConfigInput, type LlamaModel, parseConfig, resolveCheckpoint } from '@stickbreaking/model';
import { newModel, readMetrics, type StageData, train } from '@stickbreaking/train';
import { z } from 'zod';
import type { ArmContext } from '../study.js';
import type { Recipe } from './config.js';
import type { PreparedText } from './text.js';

export interface TrainingSettings {
  model: LlamaConfigInput;
  recipe: Recipe;
  seed: number;
}

export const TrainingResultSchema = z.object({
  parameters: z.number(),
  steps: z.number(),
  tokens: z.number(),
  /** Mean loss of the steps up to each point. */
  losses: z.array(z.object({ tokens: z.number(), loss: z.number() })),
});

export type TrainingResult = z.infer<typeof TrainingResultSchema>;

export interface TrainedModel {
  model: LlamaModel;
  result: TrainingResult;
}

/** The trained model, which the caller disposes of; undefined when the signal stopped it. */
export async function trainOnText(
  { model, recipe, seed }: TrainingSettings,
  { tokenizer, shards }: PreparedText,
  context: ArmContext,
  startFrom?: string,
): Promise<TrainedModel | undefined> {
  const dataset = openDataset(shards);
  const directory = join(context.directory, 'run');
  const { contextLength, batchTokens, microBatchTokens = batchTokens } = recipe;
  const steps = recipe.stages.reduce((sum, stage) => sum + stage.steps, 0);
  try {
    const data = packed(dataset, seed);
    const trained = await train({
      model,
      seed,
      directory,
      resume: true,
      // What an arm trains on with is its subject: the study says how its attention differs.
      startFrom: startFrom === undefined ? undefined : { path: startFrom, allow: ['attention'] },
      optimizer: recipe.optimizer,
      tokenizer,
      identity: { tokenizer: tokenizer.hash, data: dataset.hash, interleave: INTERLEAVE },
      checkpoints: { everySteps: 500, keepLast: 1, keepBest: false },
      arithmetic: context.backend.arithmetic,
      signal: context.signal,
      stages: recipe.stages.map((stage, i) => ({
        ...stage,
        ...{ contextLength, batchTokens, microBatchTokens },
        ...(i === 0 ? { data } : {}),
      })),
      hooks: {
        onNotice: context.notice,
        onStep: ({ step, loss, tokensPerSecond }) =>
          context.say(
            `step ${step}/${steps}, loss ${loss?.toFixed(3) ?? 'not finite'}, ${Math.round(tokensPerSecond)} tokens/s`,
          ),
      },
    });
    if (!trained.finished) {
      trained.model.dispose();
      return undefined;
    }
    const parameters = [...trained.model.parameters.values()].reduce((sum, { size }) => sum + size, 0);
    const losses = lossCurve(join(directory, 'metrics.jsonl'));
    const { step, tokens } = trained.state;
    return { model: trained.model, result: { parameters, steps: step, tokens, losses } };
  } finally {
    dataset.close();
  }
}

/** Documents read in turns, so that a step of long documents is of more than one. */
const INTERLEAVE = 16;

function packed(dataset: TokenDataset, seed: number): StageData {
  return {
    open: ({ contextLength, microBatchTokens }, cursor) =>
      new PackedLoader({
        mixture: [{ dataset, weight: 1 }],
        contextLength,
        microBatchTokens,
        interleave: INTERLEAVE, // books are long: without it a step would be of one book
        seed,
        ...(cursor === undefined ? {} : { cursor: cursor as LoaderCursor }),
      }),
  };
}

/** About forty points of the run's loss. */
function lossCurve(file: string): TrainingResult['losses'] {
  const steps = readMetrics(file).flatMap((line) => ('loss' in line && line.loss !== null ? [line] : []));
  const width = Math.max(1, Math.ceil(steps.length / 40));
  const points: TrainingResult['losses'] = [];
  for (let begin = 0; begin + width <= steps.length; begin += width) {
    const some = steps.slice(begin, begin + width);
    const loss = some.reduce((sum, one) => sum + one.loss!, 0) / width;
    points.push({ tokens: some.at(-1)!.tokens, loss: Number(loss.toFixed(4)) });
  }
  return points;
}

/** A model that was trained in an arm's folder, under a configuration of the same parameters. */
export function loadTrained(folder: string, model: LlamaConfigInput): { model: LlamaModel; result: object } {
  const checkpoint = resolveCheckpoint(join(folder, 'run'));
  return { model: newModel(parseConfig(model), 0, checkpoint), result: {} };
}
