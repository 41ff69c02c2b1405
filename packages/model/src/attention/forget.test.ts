/** The forget gate in a model: weights by the published formula (https://arxiv.org/abs/2503.02130), and caches that remember it. */
import { selectBackend } from '@stickbreaking/core';
import { tensor } from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import { LlamaModel, type ObservedAttention, parseConfig } from '../index.js';

beforeAll(() => selectBackend('cpu'));

const [heads, headDim, hiddenSize] = [2, 4, 8];
const tokens = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3];
const gateWeight = Array.from({ length: heads * hiddenSize }, (_, i) => Math.sin(3 * i + 1));
const gateBias = [0.4, -1.1];

function modelWith(position: object) {
  const attention = { kind: 'softmax', position: { kind: 'forget', ...position } } as const;
  const sizes = { vocabSize: 11, hiddenSize, intermediateSize: 8, numLayers: 1, numHeads: heads, headDim };
  return LlamaModel.create(parseConfig({ ...sizes, initializerRange: 0.3, attention }), { seed: 4 });
}

/** exp(scale·q·k + Σ log f) over the tokens after the key, normalised. */
function expected({ q, k, scale, gates }: ObservedAttention): number[] {
  const [queries, keys, logs] = [q.dataSync(), k.dataSync(), gates!.dataSync()];
  const weights: number[] = [];
  for (let head = 0; head < heads; head++) {
    for (let query = 0; query < tokens.length; query++) {
      const row = tokens.map((_, key) => {
        if (key > query) return 0;
        let logit = 0;
        for (let d = 0; d < headDim; d++) {
          logit += scale * queries[(query * heads + head) * headDim + d]! * keys[(key * heads + head) * headDim + d]!;
        }
        for (let between = key + 1; between <= query; between++) logit += logs[between * heads + head]!;
        return Math.exp(logit);
      });
      const total = row.reduce((sum, weight) => sum + weight, 0);
      weights.push(...row.map((weight) => weight / total));
    }
  }
  return weights;
}

it('weighs keys by the published formula, with gates made of the hidden states', () => {
  const model = modelWith({});
  for (const [name, parameter] of model.parameters) {
    if (name.endsWith('forget_gate.weight')) parameter.assign(tensor(gateWeight, parameter.shape));
    if (name.endsWith('forget_gate.bias')) parameter.assign(tensor(gateBias, parameter.shape));
  }
  const observe = (observed: ObservedAttention) => {
    const wanted = expected(observed);
    const actual = observed.weights().dataSync();
    for (const [i, weight] of wanted.entries()) expect(Math.abs(actual[i]! - weight), `weight ${i}`).toBeLessThan(1e-6);
    // σ(w·x + b), from the normalised embedding: its root mean square is one, and the norm's weight as well.
    const embedding = model.parameters.get('model.embed_tokens.weight')!.dataSync() as Float32Array;
    const gates = observed.gates!.dataSync();
    for (const [row, token] of tokens.entries()) {
      const x = embedding.subarray(token * hiddenSize, (token + 1) * hiddenSize);
      const rms = Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / hiddenSize + 1e-5);
      for (let head = 0; head < heads; head++) {
        const z = x.reduce(
          (sum, value, i) => sum + (value / rms) * gateWeight[head * hiddenSize + i]!,
          gateBias[head]!,
        );
        expect(gates[row * heads + head]).toBeCloseTo(-Math.log1p(Math.exp(-z)), 5);
      }
    }
  };
  model.lastLogits(tokens, { observe }).dispose();
  model.dispose();
});

it('goes on from a cache, and from a fork of it, as if all had been read at once', () => {
  const model = modelWith({});
  const cache = model.createCache();
  model.extendCache(tokens.slice(0, 5), { cache });
  const other = cache.fork();
  for (const kept of [cache, other]) {
    model.extendCache(tokens.slice(5, 7), { cache: kept });
    for (let i = 7; i < tokens.length; i++) {
      const whole = model.lastLogits(tokens.slice(0, i + 1));
      const next = model.lastLogits(tokens.slice(i, i + 1), { cache: kept });
      expect(next.sub(whole).abs().max().dataSync()[0], `token ${i}`).toBeLessThan(1e-5);
    }
    kept.dispose();
  }
  model.dispose();
});

it('begins with gates that leave a key about as long as it is told', () => {
  const model = modelWith({ initialReach: [4, 64] });
  const bias = model.parameters.get('model.layers.0.self_attn.forget_gate.bias')!.dataSync();
  for (const [h, reach] of [4, 64].entries()) expect(1 / (1 + Math.exp(-bias[h]!))).toBeCloseTo(1 - 1 / reach, 6);
  model.dispose();
});

it('is refused with a sink, which it could not be compared with', () => {
  expect(() =>
    parseConfig({
      ...{ vocabSize: 11, hiddenSize, intermediateSize: 8, numLayers: 1, numHeads: heads },
      attention: { kind: 'softmax', position: 'forget', sink: true },
    }),
  ).toThrow('no sink beside forget gates');
});
