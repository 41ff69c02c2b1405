// How fast this machine trains a model, from a step or two of it.
import { generator } from '@stickbreaking/base';
import { countParameters, type LlamaConfig, LlamaModel, type TokenBatch } from '@stickbreaking/model';
import { batchGradients, disposeAll } from './batch_gradients.js';
import { Optimizer } from './optimizer.js';
import { residualTypeOf } from './residual_type.js';
import { type RunConfig, stageSizes } from './run_config.js';

/** Floating-point operations that measuring may take: some seconds. */
const budgets: Readonly<Record<string, number>> = { native: 4e11, cpu: 2e9 };
/** Fewer tokens than this say nothing of a step of thousands. */
const FEWEST_TOKENS = 64;
/** Of a mixture of experts, two layers of it. */
const MOST_PARAMETERS = 2e7;

interface Times {
  /** of the forward and backward pass, per token */
  token: number;
  /** of an update of all parameters */
  update: number;
}

/**
 * Seconds that the run would take, validation included, checkpoints and tokenizing left out. The model is measured with one
 * and with two layers, as each layer takes as long as the next.
 *
 * @returns undefined where measuring would take too long, or the backend is none that is measured
 */
export async function secondsOfRun(config: RunConfig, backend: string): Promise<number | undefined> {
  let total = 0;
  for (const stage of stageSizes(config)) {
    const times = await timesOf(config, stage, backend);
    if (!times) return undefined;
    const tokens = stage.steps * stage.batchTokens;
    total += tokens * times.token + stage.steps * times.update;
    const { validation } = config;
    // A forward pass alone is a third of both.
    if (validation) total += (Math.ceil(stage.steps / validation.everySteps) * validation.tokens * times.token) / 3;
  }
  return total;
}

async function timesOf(
  config: RunConfig,
  { contextLength, microBatchTokens }: { contextLength: number; microBatchTokens: number },
  backend: string,
): Promise<Times | undefined> {
  const { numLayers } = config.model;
  const smaller = (layers: number) => ({
    ...withShareOfExperts(config.model, tokens / microBatchTokens),
    numLayers: layers,
  });
  let tokens = microBatchTokens;
  const budget = budgets[backend] ?? 0;
  const cost = () => 3 * 6 * countParameters(smaller(2)) * tokens;
  while (tokens > 0 && cost() > budget) tokens = Math.floor(tokens * Math.max(0.5, budget / cost()));
  // Experts are made and updated too, however few tokens they get.
  const tooMany = () => config.model.experts && tokens > FEWEST_TOKENS && countParameters(smaller(2)) > MOST_PARAMETERS;
  while (tooMany()) tokens = Math.max(FEWEST_TOKENS, Math.floor(tokens / 2));
  if (tokens < Math.min(FEWEST_TOKENS, microBatchTokens)) return undefined;
  const size = { contextLength: Math.min(contextLength, tokens), tokens };
  const one = await measured(config, smaller(1), size);
  const two = numLayers === 1 ? one : await measured(config, smaller(2), size);
  const whole = (key: keyof Times) => Math.max(two[key], one[key] + (numLayers - 1) * (two[key] - one[key]));
  // An update takes as long for every parameter.
  const left = countParameters(config.model) / countParameters(smaller(numLayers));
  return { token: whole('token'), update: left * whole('update') };
}

/** Of a mixture, so many experts that as large a share of a micro-batch gives each as many tokens as the whole gives to all. */
function withShareOfExperts(model: LlamaConfig, share: number): LlamaConfig {
  const { experts } = model;
  if (!experts) return model;
  const count = Math.max(experts.active, Math.round(share * experts.count));
  return { ...model, experts: { ...experts, count } };
}

/** The faster of two steps: the first also compiles and allocates. */
async function measured(
  config: RunConfig,
  model: LlamaConfig,
  size: { contextLength: number; tokens: number },
): Promise<Times> {
  const { recompute, precision, optimizer: settings, seed } = config;
  const made = LlamaModel.create(model, { seed });
  const optimizer = new Optimizer(made.parameters, settings);
  const fastest: Times = { token: Number.POSITIVE_INFINITY, update: Number.POSITIVE_INFINITY };
  for (let i = 0; i < 2; i++) {
    const begin = performance.now();
    const { gradients, gradientNorm } = (await batchGradients(made, [randomBatch(model.vocabSize, size)], {
      recompute,
      precision,
      residualType: residualTypeOf(config),
    }))!;
    const middle = performance.now();
    optimizer.update(gradients, gradientNorm, 0);
    disposeAll(gradients);
    fastest.token = Math.min(fastest.token, (middle - begin) / 1000 / size.tokens);
    fastest.update = Math.min(fastest.update, (performance.now() - middle) / 1000);
  }
  optimizer.dispose();
  made.dispose();
  return fastest;
}

function randomBatch(
  vocabSize: number,
  { contextLength, tokens }: { contextLength: number; tokens: number },
): TokenBatch {
  const random = generator(0, 'plan');
  const ids = Int32Array.from({ length: tokens + 1 }, () => Math.floor(random() * vocabSize));
  const documents = Math.ceil(tokens / contextLength);
  return {
    tokens: ids.subarray(0, tokens),
    targets: ids.subarray(1),
    cuSeqlens: Int32Array.from({ length: documents + 1 }, (_, i) => Math.min(tokens, i * contextLength)),
  };
}
