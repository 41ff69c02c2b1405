// Training steps of the quickstart's model on random tokens: tokens per second, and where the time goes.
import { selectBackend } from '@stickbreaking/core';
import { LlamaModel } from '@stickbreaking/model';
import { batchGradients, Optimizer, OptimizerSchema } from '@stickbreaking/train';
import { printProfile, startProfile } from '../profile.mjs';

export async function benchTraining(backend, { model: config, batchTokens, microBatchTokens, contextLength }, steps) {
  await selectBackend(backend);
  const model = LlamaModel.create(config);
  const optimizer = new Optimizer(model.parameters, OptimizerSchema.parse({}));
  const batch = () => {
    const tokens = Int32Array.from({ length: microBatchTokens }, () => Math.floor(Math.random() * config.vocabSize));
    const documents = microBatchTokens / contextLength;
    return {
      tokens,
      targets: tokens,
      cuSeqlens: Int32Array.from({ length: documents + 1 }, (_, i) => i * contextLength),
    };
  };
  const batches = Array.from({ length: batchTokens / microBatchTokens }, batch);
  const step = async () => {
    const { gradients, gradientNorm } = await batchGradients(model, batches);
    optimizer.update(gradients, gradientNorm, 1e-3);
    for (const gradient of gradients.values()) gradient.dispose();
  };
  await step();
  const endProfile = startProfile();
  for (let i = 0; i < steps; i++) await step();
  const profile = endProfile();
  optimizer.dispose();
  model.dispose();
  const tokensPerSecond = (steps * batchTokens * 1000) / profile.milliseconds;
  return { tokensPerSecond, profile };
}
