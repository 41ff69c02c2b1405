import { LlamaModel, parseConfig } from '@stickbreaking/model';
import { expect, it } from 'vitest';
import { isReadInBfloat16 } from './gpu_world.js';

it('several GPUs have in bfloat16 what one reads so: no norm, no bias and nothing of FIRE', () => {
  const config = parseConfig({
    ...{ vocabSize: 8, hiddenSize: 8, intermediateSize: 8, numLayers: 1, numHeads: 2, contextLength: 8 },
    attention: { kind: 'softmax', position: { kind: 'fire' } },
    tieEmbeddings: false,
  });
  const model = LlamaModel.from(config, (_, shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)));
  const names = [...model.parameters].flatMap(([name, one]) => (isReadInBfloat16(name, one) ? [name] : []));
  expect(names.sort()).toEqual(
    [
      ...['q', 'k', 'v', 'o'].map((one) => `model.layers.0.self_attn.${one}_proj.weight`),
      ...['gate', 'up', 'down'].map((one) => `model.layers.0.mlp.${one}_proj.weight`),
      ...['model.embed_tokens.weight', 'lm_head.weight'],
    ].sort(),
  );
  expect([...model.parameters.keys()].some((name) => name.includes('.fire.w1.weight'))).toBe(true);
  model.dispose();
});
