/** What a model does on a GPU, it does there alone: no op runs on the CPU. Found on a device that only counts. */
import { selectBackend } from '@stickbreaking/core';
import { type CountingCuda, registerCountingCuda } from '@stickbreaking/core/cuda';
import { add, dispose, type Tensor, tidy } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { LlamaModel, ownTokens, parseConfig, type SequenceGroup } from './index.js';

let device: CountingCuda;

beforeAll(async () => {
  device = registerCountingCuda('counting');
  await selectBackend('counting');
});

const experts = { count: 16, active: 4, intermediateSize: 32 };
const kinds: [string, object][] = [
  ['stick-breaking', {}],
  [
    'stick-breaking with norms',
    { attention: { kind: 'stick-breaking', headNorm: true, qkNorm: true, initialReach: 16 } },
  ],
  ['RoPE', { attention: 'softmax+rope' }],
  [
    'layers that differ',
    { attention: { kind: 'softmax', position: 'rope', window: 20, windowLayers: [0], nopeLayers: [1] } },
  ],
  ['ALiBi and a sink', { attention: { kind: 'softmax', position: 'alibi', sink: true } }],
  ['FIRE', { attention: 'softmax+fire' }],
  ['FIRE of 192 units', { attention: { kind: 'softmax', position: { kind: 'fire', width: 192 } } }],
  ['a forget gate', { attention: 'softmax+forget' }],
  ['a mixture', { intermediateSize: undefined, experts }],
];

// Heads of 64 have fused kernels for all, those up to 128 for whole documents, and larger ones for neither.
describe.each([64, 80, 96, 160])('heads of %d', (headDim) => {
  it.each(kinds)('%s', async (_, changed) => {
    const sizes = { vocabSize: 97, hiddenSize: headDim * 4, intermediateSize: 64, contextLength: 512 };
    const config = parseConfig({ ...sizes, numLayers: 2, numHeads: 4, numKvHeads: 2, ...changed });
    const model = LlamaModel.from(config, (_, shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)));
    const ids = new Int32Array(300);
    const batch = { tokens: ids, targets: ids, cuSeqlens: [0, 100, 300] };
    const train = (sequence?: SequenceGroup) => {
      const own = sequence ? ownTokens({ ...batch, cuSeqlens: Int32Array.from(batch.cuSeqlens) }, sequence) : batch;
      const { loss, gradients } = model.gradients(own, sequence ? { sequence } : {});
      dispose([loss, ...gradients.values()]);
    };
    const found: Record<string, string[]> = {};
    const watch = async (name: string, run: () => unknown) => {
      device.onCpu.clear();
      await run();
      found[name] = [...device.onCpu];
    };

    let made = 0;
    await watch('generating', async () => {
      for await (const _ of model.generate(ids.subarray(0, 70), { maxNewTokens: 4, temperature: 0 })) made++;
    });
    await watch('generating in a batch', async () => {
      const requests = [10, 33, 5, 70].map((length, i) => ({
        prompt: ids.subarray(0, length),
        maxNewTokens: 3 + i,
        seed: i,
      }));
      for await (const event of model.generateBatch(requests)) if ('token' in event) made++;
    });
    expect(made).toBe(4 + 3 + 4 + 5 + 6);
    await watch('training', () => train());
    await watch('scoring', () =>
      model.scoreContinuations(ids.subarray(0, 50), [ids.subarray(0, 3), ids.subarray(0, 9)]),
    );
    await watch('looking at weights', () =>
      tidy(() => {
        model.forward(ids, { observe: ({ weights }) => void weights() });
      }),
    );
    if (config.attention.kind === 'stick-breaking') await watch('training in a ring', () => train(lastOfRing(4)));
    expect(found).toEqual(Object.fromEntries(Object.keys(found).map((name) => [name, []])));
    model.dispose();
  });
});

/** The last of a ring, to which all others' keys come. */
function lastOfRing(size: number): SequenceGroup {
  const copies = (tensors: readonly Tensor[]) => tensors.map((one) => add(one, one));
  return { rank: size - 1, size, by: 'ring', exchange: (parts) => add(parts, parts), shift: copies, most: () => 1 };
}
