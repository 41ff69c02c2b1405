/** Models whose layers are not LLaMA's: norms that follow, RoPE or a window in some layers, parts of heads that are turned. */
import { seededRandom } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { tensor, tidy } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { type LlamaConfigInput, LlamaModel, parseConfig } from './index.js';

const base = {
  ...{ vocabSize: 41, hiddenSize: 24, intermediateSize: 36, numLayers: 3, numHeads: 4, numKvHeads: 2, headDim: 8 },
  ...{ contextLength: 32, initializerRange: 0.3 },
} satisfies LlamaConfigInput;
const softmax = (attention: object, others: object = {}) =>
  ({ ...base, ...others, attention: { kind: 'softmax', position: 'rope', ...attention } }) as LlamaConfigInput;

const kinds: Record<string, LlamaConfigInput> = {
  'norms that follow': softmax({ qkNorm: 'projection' }, { normPlacement: 'after', projectionBiases: 'qkvo' }),
  'norms that follow sticks': {
    ...{ ...base, normPlacement: 'after' },
    attention: { kind: 'stick-breaking', qkNorm: 'projection', initialReach: 4 },
  },
  'a window in some layers': softmax({ window: 5, windowLayers: [0, 2] }),
  'RoPE in some layers': softmax({ nopeLayers: [1], window: 6, windowLayers: [1] }, { tieEmbeddings: true }),
  'ALiBi in some layers': softmax({ position: 'alibi', nopeLayers: [0] }),
  'a part of each head turned': softmax({ position: { kind: 'rope', rotaryFraction: 0.75 }, qkNorm: true }),
  // Of several layers, the later ones' cached keys come from what the earlier ones gave at another length.
  'a part of each head turned, scaled with the length': softmax(
    {
      position: {
        ...{ kind: 'rope', rotaryFraction: 0.5 },
        scaling: { kind: 'dynamic', factor: 2, originalContextLength: 8 },
      },
    },
    { numLayers: 1 },
  ),
};

const tokens = Array.from({ length: 15 }, (_, i) => (i * 17 + 3) % base.vocabSize);

function noisy(config: LlamaConfigInput): LlamaModel {
  const model = LlamaModel.create(config, { seed: 5 });
  const random = seededRandom(5, 'noise');
  // Norms of 1 and biases of 0 would hide what is left out.
  for (const one of model.parameters.values()) {
    const values = one.dataSync().map((value) => value + 0.2 * random.normal());
    one.assign(tensor(values, one.shape));
  }
  return model;
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

describe.each(Object.entries(kinds))('%s', (_, config) => {
  describe.each(['cpu', 'native'])('on %s', (backend) => {
    beforeAll(() => selectBackend(backend));

    it('gives token by token what it gives at once', () => {
      // A dynamic scaling turns earlier keys anew with every length.
      const isDynamic = JSON.stringify(config).includes('dynamic');
      const model = noisy(config);
      const whole = model.forward(tokens).arraySync();
      const caches = [model.createCache(), model.createCache()];
      const prompts = [tokens.slice(0, 4), tokens.slice(0, 9)];
      model.nextLogits(prompts.flat(), { cuSeqlens: [0, 4, 13], cache: caches });
      for (let step = 0; step < 6; step++) {
        const next = prompts.map((prompt) => tokens[prompt.length + step]!);
        const logits = model.nextLogits(next, { cuSeqlens: [0, 1, 2], cache: caches }).arraySync();
        for (const [s, prompt] of prompts.entries()) {
          const at = prompt.length + step;
          const wanted = isDynamic ? model.forward(tokens.slice(0, at + 1)).arraySync()[at]! : whole[at]!;
          expect(largestDifference(logits[s]!, wanted)).toBeLessThan(1e-4);
        }
      }
      for (const cache of caches) cache.dispose();
      model.dispose();
    });
  });

  it('has the same gradients however much is made again, and they are the loss’s', async () => {
    const batch = { tokens, targets: [...tokens.slice(1), -1], cuSeqlens: [0, 9, 15] };
    const all: Record<string, Float32Array>[] = [];
    await selectBackend('native');
    for (const recompute of ['none', 'attention', 'block'] as const) {
      const model = noisy(config);
      const { gradients } = model.gradients(batch, { recompute });
      all.push(Object.fromEntries([...gradients].map(([name, one]) => [name, one.dataSync() as Float32Array])));
      model.dispose();
    }
    for (const [name, wanted] of Object.entries(all[0]!)) {
      const size = Math.max(1e-3, Math.hypot(...wanted));
      for (const own of all.slice(1)) expect(largestDifference(own[name]!, wanted) / size, name).toBeLessThan(1e-4);
    }
    // In some direction, the gradient is the slope of the loss.
    const model = noisy(config);
    const random = seededRandom(1, 'direction');
    const direction = new Map([...model.parameters].map(([name, one]) => [name, random.normals(one.size)]));
    const loss = (step: number) => {
      for (const [name, one] of model.parameters) {
        const moved = tidy(() => one.add(tensor(direction.get(name)!, one.shape).mul(step)));
        one.assign(moved);
        moved.dispose();
      }
      return model.loss(batch).dataSync()[0]!;
    };
    const slope = (loss(2e-4) - loss(-4e-4)) / 4e-4;
    const product = Object.entries(all[0]!).reduce(
      (sum, [name, one]) => sum + one.reduce((own, value, i) => own + value * direction.get(name)![i]!, 0),
      0,
    );
    expect(Math.abs(product / 14 / slope - 1)).toBeLessThan(0.03);
    model.dispose();
  });

  it('comes back from a configuration written out', () => {
    const parsed = parseConfig(config);
    expect(parseConfig(JSON.parse(JSON.stringify(parsed)))).toEqual(parsed);
  });
});

it.each([
  [softmax({ windowLayers: [0] }), /attention.*windowLayers: expected a window beside it|expected one of/],
  [softmax({ window: 4, windowLayers: [3] }), /attention.windowLayers: the model has layers 0 to 2, and no 3/],
  [softmax({ nopeLayers: [5] }), /attention.nopeLayers: the model has layers 0 to 2, and no 5/],
  [softmax({ position: { kind: 'rope', rotaryFraction: 0.4 } }), /headDim: expected an even number .* RoPE turns 3/],
])('refuses %j', (config, message) => {
  expect(() => parseConfig(config)).toThrow(message);
});
