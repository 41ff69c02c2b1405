// Training steps of the quickstart's models on random tokens: tokens per second, and where the time goes.
import { median } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { LlamaModel } from '@stickbreaking/model';
import { batchGradients, loadRunConfig, Optimizer, OptimizerSchema } from '@stickbreaking/train';
import { printProfile, startProfile } from '../profile.mjs';

const configs = ['configs/quickstart-stick-breaking.yaml', 'configs/quickstart-softmax-rope.yaml'];
const steps = 7;

function randomBatch({ vocabSize, contextLength }, length) {
  const tokens = Int32Array.from({ length }, () => Math.floor(Math.random() * vocabSize));
  const cuSeqlens = Int32Array.from({ length: length / contextLength + 1 }, (_, i) => i * contextLength);
  return { tokens, targets: tokens, cuSeqlens };
}

async function measure(path) {
  const { model: config, batchTokens, microBatchTokens } = loadRunConfig(path, []);
  await selectBackend('native');
  const model = LlamaModel.create(config);
  const optimizer = new Optimizer(model.parameters, OptimizerSchema.parse({}));
  const batches = Array.from({ length: batchTokens / microBatchTokens }, () => randomBatch(config, microBatchTokens));
  const step = async () => {
    const start = performance.now();
    const { gradients } = await batchGradients(model, batches, {
      early: (gradients, norm) => optimizer.update(gradients, norm, 1e-3),
    });
    for (const gradient of gradients.values()) gradient.dispose();
    return performance.now() - start;
  };
  await step();
  const times = [];
  const endProfile = startProfile();
  for (let i = 0; i < steps; i++) times.push(await step());
  const profile = endProfile();
  optimizer.dispose();
  model.dispose();
  return { config: path, batchTokens, tokensPerSecond: (batchTokens * 1000) / median(times), profile };
}

export async function benchTraining() {
  console.log("\nTraining steps of the quickstart's models");
  const results = [];
  for (const path of configs) {
    const result = await measure(path);
    results.push(result);
    console.log(`  ${path}: ${result.tokensPerSecond.toFixed(0)} tokens/s`);
    printProfile(result.profile);
  }
  return results;
}
