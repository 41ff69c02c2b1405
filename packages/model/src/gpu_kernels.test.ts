import { selectBackend } from '@stickbreaking/core';
import { type CountingCuda, registerCountingCuda } from '@stickbreaking/core/cuda';
import { dispose } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { LlamaModel, parseConfig } from './index.js';

let device: CountingCuda;
beforeAll(async () => {
  device = registerCountingCuda('counting');
  await selectBackend('counting');
});
const fire = { kind: 'softmax', position: { kind: 'fire', width: 192 } };
const kinds: [string, unknown][] = [
  ['stick-breaking', 'stick-breaking'],
  ['stick headNorm', { kind: 'stick-breaking', headNorm: true, remainderBias: true, qkNorm: true, initialReach: 16 }],
  ['softmax+rope', 'softmax+rope'],
  ['alibi sink', { kind: 'softmax', position: 'alibi', sink: true }],
  ['fire', 'softmax+fire'],
  ['fire192', fire],
  ['forget', 'softmax+forget'],
  ['nope window', { kind: 'softmax', position: 'rope', window: 20, windowLayers: [0], nopeLayers: [1] }],
];
describe.each([64, 80, 96, 160])('heads of %d', (headDim) => {
  it.each(kinds)('%s', async (_, attention) => {
    const config = parseConfig({
      vocabSize: 97,
      hiddenSize: headDim * 4,
      intermediateSize: 64,
      numLayers: 2,
      numHeads: 4,
      numKvHeads: 2,
      contextLength: 512,
      attention,
    });
    const model = LlamaModel.from(config, (_, shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)));
    const found: Record<string, string> = {};
    const step = async (name: string, run: () => unknown) => {
      device.onCpu.clear();
      try {
        await run();
      } catch (e) {
        found[`${name} ERROR`] = (e as Error).stack!.split('\n').slice(0, 6).join(' | ');
      }
      found[name] = [...device.onCpu].join(' ');
    };
    await step('generate', async () => {
      for await (const _ of model.generate(new Int32Array(70), { maxNewTokens: 4, temperature: 0 }));
    });
    await step('batch', async () => {
      for await (const _ of model.generateBatch(
        [10, 33, 5, 70].map((n, i) => ({ prompt: new Int32Array(n), maxNewTokens: 3 + i, seed: i, topK: 5 })),
      ));
    });
    const ids = new Int32Array(300);
    await step('train', () => {
      const { loss, gradients } = model.gradients({ tokens: ids, targets: ids, cuSeqlens: [0, 100, 300] }, {});
      loss.dispose();
      dispose([...gradients.values()]);
    });
    await step('losses', () => {
      model.tokenLosses({ tokens: ids, targets: ids, cuSeqlens: [0, 100, 300] }).dispose();
    });
    console.log(headDim, _, JSON.stringify(found));
    expect(1).toBe(1);
  });
});
