import { parseYaml } from '@stickbreaking/base/node';
import { describe, expect, it } from 'vitest';
import { countParameters, type LlamaConfigInput, LlamaConfigSchema, parseConfig } from './index.js';

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
      "x.yaml:6: key 'attention.windw' is not known; did you mean 'window'?",
    ],
    ['attention: sofmax\n', [], /x\.yaml:6: attention: expected one of stick-breaking, softmax\+rope/],
    ['contextLength: long\n', [], /x\.yaml:6: contextLength: .*expected .*number.* \(got "long"\)/],
    [
      'headDim: 5\nattention: softmax+rope\n',
      [],
      /headDim: expected an even number with RoPE, which rotates pairs; it is 5/,
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
