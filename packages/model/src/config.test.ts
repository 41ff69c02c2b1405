import { parseYaml } from '@stickbreaking/base/node';
import { describe, expect, it } from 'vitest';
import {
  countActiveParameters,
  countParameters,
  type LlamaConfigInput,
  LlamaConfigSchema,
  parseConfig,
} from './index.js';

const sizes = 'vocabSize: 100\nhiddenSize: 32\nintermediateSize: 64\nnumLayers: 2\nnumHeads: 4\n';
const read = (text: string, overrides: string[] = []) => parseYaml(text, 'x.yaml', LlamaConfigSchema, { overrides });

describe('a model configuration', () => {
  it('takes every attention kind in one line', () => {
    expect(read(`${sizes}attention: softmax+alibi`).attention).toEqual({
      kind: 'softmax',
      position: { kind: 'alibi' },
    });
    expect(read(`${sizes}attention: { kind: softmax, position: rope, window: 64 }`).attention).toMatchObject({
      window: 64,
    });
    expect(read(`${sizes}attention: { kind: stick-breaking, headNorm: true }`).attention).toMatchObject({
      headNorm: true,
    });
  });

  it.each([
    ['hidenSize: 3\n', [], "x.yaml:6: key 'hidenSize' is not known; did you mean 'hiddenSize'?"],
    [
      'attention: { kind: softmax, windw: 3 }\n',
      [],
      "x.yaml:6: key 'attention.windw' is not known; did you mean 'attention.window'?",
    ],
    ['attention: sofmax\n', [], /x\.yaml:6: attention: expected one of stick-breaking, softmax\+rope/],
    ['contextLength: long\n', [], /x\.yaml:6: contextLength: .*expected .*number.* \(got "long"\)/],
    [
      'headDim: 5\nattention: softmax+rope\n',
      [],
      /headDim: expected an even number with RoPE, which rotates pairs; it is 5/,
    ],
    [
      'experts: { count: 8, active: 2, intermediateSize: 8 }\n',
      [],
      'x.yaml:6: experts: expected this or intermediateSize, not both',
    ],
    ['', ['numHeads=5'], /hiddenSize: expected a multiple of numHeads/],
    ['', ['numHeds=5'], "override 'numHeds=5': key 'numHeds' is not known; did you mean 'numHeads'?"],
    ['', ['numHeads'], "override 'numHeads': expected key.path=value"],
    ['a: [1\n', [], /x\.yaml:\d+: this is not YAML/],
  ])('says in one line what is wrong with %j %j', (text, overrides, message) => {
    expect(() => read(sizes + text, overrides)).toThrow(message);
    try {
      read(sizes + text, overrides);
    } catch (error) {
      expect((error as Error).message).not.toContain('\n');
    }
  });

  it.each([
    ['', 'x.yaml:1: intermediateSize: expected this or experts, and neither is there'],
    [
      'experts: { count: 8, active: 9, intermediateSize: 8 }\n',
      'x.yaml:5: experts.active: expected at most experts.count (8)',
    ],
    ['experts: { count: 8, intermediateSize: 8 }\n', "x.yaml:5: key 'experts.active' is missing"],
    ['experts: { count: 8, active: 2, intermediateSize: 8, balanse: 1 }\n', "did you mean 'experts.balance'?"],
    ['experts: 8\n', /x\.yaml:5: experts: .*expected object/],
  ])('says in one line what is wrong with a mixture: %j', (text, message) => {
    expect(() => read(sizes.replace('intermediateSize: 64\n', '') + text)).toThrow(message);
  });

  it('counts the parameters of Table 5, all and those that a token passes', () => {
    const heads = { numLayers: 40, numHeads: 12, numKvHeads: 4, headDim: 128, vocabSize: 49_152 };
    const attention = { kind: 'stick-breaking', remainderBias: true, headNorm: true } as const;
    const [small, large] = [
      { ...heads, attention, hiddenSize: 1536, experts: { count: 64, active: 8, intermediateSize: 512 } },
      { ...heads, attention, hiddenSize: 4096, experts: { count: 72, active: 12, intermediateSize: 768 } },
    ];
    const counts = (config: LlamaConfigInput) => {
      const parsed = parseConfig(config);
      return [countParameters(parsed), countActiveParameters(parsed)];
    };
    expect(counts({ ...small, tieEmbeddings: true })).toEqual([6_371_194_368, 1_086_371_328]);
    expect(counts({ ...large, tieEmbeddings: true })).toEqual([28_063_817_728, 5_414_576_128]);
    expect(counts(small)[0]).toBe(6_446_691_840);
    expect(counts(large)[0]).toBe(28_265_144_320);
    expect(counts({ ...small, tieEmbeddings: true, attention: 'stick-breaking' })[0]).toBe(6_371_010_048);
    expect(counts({ ...large, tieEmbeddings: true, attention: 'stick-breaking' })[0]).toBe(28_063_633_408);
    // One shared expert of an expert's size, untied: what the paper prints, 6.5 and 28.6 billion, 1 and 6 active.
    const shared = (config: typeof small) => ({
      ...config,
      experts: { ...config.experts, shared: config.experts.intermediateSize },
    });
    expect(counts(shared(small))[0]).toBe(6_541_063_680);
    expect(counts(shared(large))[0]).toBe(28_642_631_680);
  });

  it('counts the parameters of Table 1 without allocating them', () => {
    const table: [number, LlamaConfigInput][] = [
      [367_526_912, { vocabSize: 32_000, hiddenSize: 1024, intermediateSize: 2730, numLayers: 24, numHeads: 32 }],
      [
        1_208_083_968,
        {
          vocabSize: 49_152,
          hiddenSize: 1536,
          intermediateSize: 4096,
          numLayers: 40,
          numHeads: 24,
          tieEmbeddings: true,
        },
      ],
      [
        3_513_473_280,
        {
          vocabSize: 50_304,
          hiddenSize: 2304,
          intermediateSize: 9216,
          numLayers: 40,
          numHeads: 36,
          tieEmbeddings: true,
        },
      ],
    ];
    for (const [expected, config] of table) expect(countParameters(parseConfig(config))).toBe(expected);
  });
});
