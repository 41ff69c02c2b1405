/**
 * What `transformers` would make of our checkpoints: its LlamaForCausalLM, MistralForCausalLM, GraniteForCausalLM,
 * GraniteMoeForCausalLM, GraniteMoeSharedForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, Olmo2ForCausalLM and
 * SmolLM3ForCausalLM retold in float64, reading
 * config.json and model.safetensors by their rules alone.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chooseSeed } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { tensor } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LlamaConfigInput, LlamaModel, loadConfig, readSafetensors, writeSafetensors } from './index.js';

const directory = mkdtempSync(join(tmpdir(), 'stickbreaking-hf-'));
afterAll(() => rmSync(directory, { recursive: true }));
beforeAll(() => selectBackend('cpu'));

const seed = chooseSeed();
const base = {
  ...{ vocabSize: 41, hiddenSize: 24, intermediateSize: 36, numLayers: 2, numHeads: 4, numKvHeads: 2, headDim: 8 },
  ...{ contextLength: 12, initializerRange: 0.3 },
} satisfies LlamaConfigInput;
const rope = (scaling: object): LlamaConfigInput['attention'] =>
  ({ kind: 'softmax', position: { kind: 'rope', theta: 500, scaling } }) as never;

const { intermediateSize: _dense, ...sizes } = base;
const mup = { embeddingMultiplier: 3, residualMultiplier: 0.5, attentionMultiplier: 0.2, logitsDivider: 4 };
const experts = { count: 5, active: 2, intermediateSize: 10 };

const models: Record<string, [LlamaConfigInput, type: string]> = {
  plain: [{ ...base, attention: 'softmax+rope' }, 'llama'],
  tied: [{ ...base, attention: 'softmax+rope', tieEmbeddings: true, normEpsilon: 1e-3 }, 'llama'],
  'linear scaling': [{ ...base, attention: rope({ kind: 'linear', factor: 4 }) }, 'llama'],
  'static NTK': [{ ...base, attention: rope({ kind: 'ntk', factor: 4 }) }, 'llama'],
  'dynamic NTK': [{ ...base, attention: rope({ kind: 'dynamic', factor: 2 }) }, 'llama'],
  'dynamic NTK of a shorter context': [
    { ...base, attention: rope({ kind: 'dynamic', factor: 2, originalContextLength: 5 }) },
    'llama',
  ],
  'LLaMA 3 scaling': [{ ...base, attention: rope({ kind: 'llama3', factor: 8, originalContextLength: 60 }) }, 'llama'],
  YaRN: [{ ...base, attention: rope({ kind: 'yarn', factor: 4, originalContextLength: 40 }) }, 'llama'],
  'YaRN from the model’s context, with a factor of its own': [
    { ...base, attention: rope({ kind: 'yarn', factor: 2, betaFast: 3, betaSlow: 0.5, attentionFactor: 1.3 }) },
    'llama',
  ],
  'biases on queries, keys and values': [{ ...base, attention: 'softmax+rope', projectionBiases: 'qkv' }, 'qwen2'],
  'biases on all projections': [{ ...base, attention: 'softmax+rope', projectionBiases: 'qkvo' }, 'llama'],
  'QK-norm': [{ ...base, attention: { kind: 'softmax', position: 'rope', qkNorm: true } }, 'qwen3'],
  'QK-norm and biases': [
    { ...base, attention: { kind: 'softmax', position: 'rope', qkNorm: true }, projectionBiases: 'qkvo' },
    'qwen3',
  ],
  'multipliers and biases': [
    { ...base, attention: 'softmax+rope', projectionBiases: 'qkvo', mup: { residualMultiplier: 0.5 } },
    'granite',
  ],
  'a window': [{ ...base, attention: { kind: 'softmax', position: 'rope', window: 5 } }, 'mistral'],
  'a window in some layers': [
    {
      ...base,
      attention: { kind: 'softmax', position: 'rope', window: 5, windowLayers: [1] },
      projectionBiases: 'qkv',
    },
    'qwen2',
  ],
  'a window in all layers, with biases': [
    { ...base, attention: { kind: 'softmax', position: 'rope', window: 5 }, projectionBiases: 'qkv' },
    'qwen2',
  ],
  'a window in some layers, with QK-norm': [
    { ...base, attention: { kind: 'softmax', position: 'rope', window: 5, windowLayers: [0], qkNorm: true } },
    'qwen3',
  ],
  'RoPE in some layers': [
    { ...base, numLayers: 3, attention: { kind: 'softmax', position: 'rope', nopeLayers: [1] }, tieEmbeddings: true },
    'smollm3',
  ],
  'RoPE in some layers, a window in others': [
    {
      ...{ ...base, numLayers: 3, projectionBiases: 'qkvo' },
      attention: { kind: 'softmax', position: 'rope', nopeLayers: [0], window: 5, windowLayers: [0, 1] },
    },
    'smollm3',
  ],
  'a window in some layers and nothing else': [
    { ...base, attention: { kind: 'softmax', position: 'rope', window: 5, windowLayers: [1] } },
    'smollm3',
  ],
  'norms that follow': [
    { ...base, attention: { kind: 'softmax', position: 'rope', qkNorm: 'projection' }, normPlacement: 'after' },
    'olmo2',
  ],
  'norms that follow, with biases': [
    {
      ...{ ...base, normPlacement: 'after', projectionBiases: 'qkvo' },
      attention: { kind: 'softmax', position: 'rope', qkNorm: 'projection' },
    },
    'olmo2',
  ],
  multipliers: [{ ...base, attention: 'softmax+rope', mup }, 'granite'],
  experts: [{ ...sizes, headDim: 6, attention: 'softmax+rope', experts }, 'granitemoe'],
  'experts, tied, with multipliers': [
    { ...sizes, headDim: 6, attention: 'softmax+rope', experts, mup, tieEmbeddings: true },
    'granitemoe',
  ],
  'a shared expert': [
    { ...sizes, headDim: 6, attention: 'softmax+rope', experts: { ...experts, shared: 7 }, mup },
    'granitemoeshared',
  ],
};

type Json = Record<string, never>;
type Matrix = number[][];

/** The tensors of a file as its header lists them; a matrix as rows, several as the rows of all. */
function readTensors(file: string): Record<string, Matrix> {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__, ...header } = JSON.parse(bytes.toString('utf8', 8, 8 + length));
  expect(__metadata__).toEqual({ format: 'pt' }); // transformers refuses a file without
  return Object.fromEntries(
    Object.entries(header).map(([name, claim]) => {
      const { dtype, shape, data_offsets } = claim as { dtype: string; shape: number[]; data_offsets: number[] };
      expect(dtype).toBe('F32');
      const columns = shape.at(-1)!;
      const rows = shape.slice(0, -1).reduce((product, length) => product * length, 1);
      const at = (i: number) => bytes.readFloatLE(8 + length + data_offsets[0]! + 4 * i);
      return [
        name,
        Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => at(r * columns + c))),
      ];
    }),
  );
}

const times = (x: number[], weight: Matrix) => weight.map((row) => row.reduce((sum, w, i) => sum + w * x[i]!, 0));
const plus = (a: number[], b: number[], factor = 1) => a.map((value, i) => value + factor * b[i]!);

/** modeling_rope_utils.py */
function inverseFrequencies(config: Json, length: number): number[] {
  const { rope_theta, head_dim, rope_scaling, max_position_embeddings } = config as Record<string, number & Json>;
  const scaling = rope_scaling as unknown as ({ rope_type: string } & Record<string, number>) | null;
  if (scaling?.rope_type === 'llama3') return llama3Frequencies(scaling, rope_theta!, head_dim!);
  if (scaling?.rope_type === 'yarn') return yarnFrequencies(scaling, rope_theta!, head_dim!);
  let theta: number = rope_theta!;
  if (scaling?.rope_type === 'dynamic') {
    const seen = Math.max(length, max_position_embeddings!);
    const stretch = (scaling.factor! * seen) / max_position_embeddings! - (scaling.factor! - 1);
    theta *= stretch ** (head_dim! / (head_dim! - 2));
  }
  const plain = Array.from({ length: head_dim! / 2 }, (_, i) => 1 / theta ** ((2 * i) / head_dim!));
  return scaling?.rope_type === 'linear' ? plain.map((frequency) => frequency / scaling.factor!) : plain;
}

const unscaled = (theta: number, dim: number) =>
  Array.from({ length: dim / 2 }, (_, i) => 1 / theta ** ((2 * i) / dim));

/** _compute_llama3_parameters */
function llama3Frequencies(scaling: Record<string, number | string>, theta: number, dim: number): number[] {
  const { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } = scaling as Record<
    string,
    number
  >;
  return unscaled(theta, dim).map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength > original_max_position_embeddings! / low_freq_factor!) return frequency / factor!;
    if (wavelength < original_max_position_embeddings! / high_freq_factor!) return frequency;
    const smooth =
      (original_max_position_embeddings! / wavelength - low_freq_factor!) / (high_freq_factor! - low_freq_factor!);
    return ((1 - smooth) * frequency) / factor! + smooth * frequency;
  });
}

/** _compute_yarn_parameters */
function yarnFrequencies(scaling: Record<string, number | string>, theta: number, dim: number): number[] {
  const {
    factor,
    beta_fast,
    beta_slow,
    original_max_position_embeddings: original,
  } = scaling as Record<string, number>;
  const correction = (rotations: number) =>
    (dim * Math.log(original! / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  const low = Math.max(Math.floor(correction(beta_fast!)), 0);
  const high = Math.min(Math.ceil(correction(beta_slow!)), dim - 1);
  return unscaled(theta, dim).map((extrapolation, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / (low === high ? 0.001 : high - low)));
    return (extrapolation / factor!) * ramp + extrapolation * (1 - ramp);
  });
}

/** What YaRN multiplies the cosine and the sine by. */
function attentionScaling({
  rope_scaling: scaling,
}: {
  rope_scaling?: Record<string, number & string> | null;
}): number {
  if (scaling?.rope_type !== 'yarn') return 1;
  return scaling.attention_factor ?? 0.1 * Math.log(scaling.factor!) + 1;
}

/** q · cos + rotate_half(q) · sin, where rotate_half gives (−second half, first half). */
function rotated(x: number[], position: number, frequencies: number[]): number[] {
  const half = frequencies.length;
  return x.map((value, i) => {
    const angle = position * frequencies[i % half]!;
    return value * Math.cos(angle) + (i < half ? -x[i + half]! : x[i - half]!) * Math.sin(angle);
  });
}

/** output(silu(first half) · second half of input(x)) */
function gated(x: number[], input: Matrix, output: Matrix): number[] {
  const both = times(x, input);
  const half = both.length / 2;
  return times(
    both.slice(0, half).map((gate, i) => (gate / (1 + Math.exp(-gate))) * both[half + i]!),
    output,
  );
}

/** GraniteMoeTopKGating and GraniteMoeParallelExperts, GraniteMoeSharedMLP */
function mixture(x: number[], config: Json, weight: (name: string) => Matrix): number[] {
  const { num_local_experts, num_experts_per_tok, shared_intermediate_size } = config as Record<string, number>;
  const logits = times(x, weight('block_sparse_moe.router.layer'));
  const chosen = logits.map((_, e) => e).sort((a, b) => logits[b]! - logits[a]!);
  const powers = chosen
    .slice(0, num_experts_per_tok)
    .map((e) => ({ e, power: Math.exp(logits[e]! - logits[chosen[0]!]!) }));
  const all = powers.reduce((sum, { power }) => sum + power, 0);
  const of = (name: string, e: number) => {
    const rows = weight(name);
    const each = rows.length / num_local_experts!;
    return rows.slice(e * each, (e + 1) * each);
  };
  const start = shared_intermediate_size
    ? gated(x, weight('shared_mlp.input_linear'), weight('shared_mlp.output_linear'))
    : x.map(() => 0);
  return powers.reduce((sum, { e, power }) => {
    const given = gated(x, of('block_sparse_moe.input_linear', e), of('block_sparse_moe.output_linear', e));
    return plus(sum, given, power / all);
  }, start);
}

function transformersLogits(tokens: readonly number[]): number[] {
  const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'));
  const weights = readTensors(join(directory, 'model.safetensors'));
  const granite = config.model_type.startsWith('granite');
  const { head_dim: dim, num_attention_heads: heads, num_key_value_heads: kvHeads, rms_norm_eps } = config;
  const norm = (x: number[], name: string) => {
    const inverse = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length + rms_norm_eps);
    return x.map((value, i) => value * inverse * weights[name]![0]![i]!);
  };
  const residual = granite ? config.residual_multiplier : 1;
  const scale = granite ? config.attention_multiplier : dim ** -0.5;
  const frequencies = inverseFrequencies(config, tokens.length);
  const turn = (x: number[], position: number) =>
    rotated(x, position, frequencies).map((value) => value * attentionScaling(config));
  const embedding = weights['model.embed_tokens.weight']!;
  let hidden = tokens.map((token) => embedding[token]!.map((x) => x * (granite ? config.embedding_multiplier : 1)));
  for (let l = 0; l < config.num_hidden_layers; l++) {
    const weight = (name: string) => weights[`model.layers.${l}.${name}.weight`]!;
    const olmo = config.model_type === 'olmo2';
    const normed = olmo ? hidden : hidden.map((x) => norm(x, `model.layers.${l}.input_layernorm.weight`));
    const after = (x: number[], name: string) => (olmo ? norm(x, `model.layers.${l}.${name}.weight`) : x);
    const part = (x: number[], head: number) => x.slice(head * dim, (head + 1) * dim);
    const projected = (x: number[], name: string) => {
      const bias = weights[`model.layers.${l}.self_attn.${name}_proj.bias`]?.[0];
      const hasBias = config.model_type === 'qwen2' ? name !== 'o' : config.attention_bias;
      expect(bias !== undefined).toBe(hasBias);
      const without = times(x, weight(`self_attn.${name}_proj`));
      return bias ? plus(without, bias) : without;
    };
    const byHead = (x: number[], name: string) => {
      if (olmo) return norm(x, `model.layers.${l}.self_attn.${name}_norm.weight`);
      if (config.model_type !== 'qwen3') return x;
      const all = Array.from({ length: x.length / dim }, (_, h) => part(x, h));
      return all.flatMap((one) => norm(one, `model.layers.${l}.self_attn.${name}_norm.weight`));
    };
    const q = normed.map((x) => byHead(projected(x, 'q'), 'q'));
    const k = normed.map((x) => byHead(projected(x, 'k'), 'k'));
    const v = normed.map((x) => projected(x, 'v'));
    const slides =
      config.model_type === 'mistral' ? config.sliding_window : config.layer_types?.[l] === 'sliding_attention';
    if (slides && config.model_type !== 'mistral') expect(config.use_sliding_window).toBe(true);
    const turned = config.no_rope_layers?.[l] === 0 ? (x: number[]) => x : turn;
    hidden = hidden.map((x, t) => {
      const mixed = Array.from({ length: heads }, (_, head) => {
        const kvHead = Math.floor(head / (heads / kvHeads)); // repeat_kv
        const query = turned(part(q[t]!, head), t);
        const first = slides ? Math.max(0, t - config.sliding_window + 1) : 0;
        const seen = Array.from({ length: t - first + 1 }, (_, i) => first + i);
        const exponentials = seen.map((i) => {
          const key = turned(part(k[i]!, kvHead), i);
          return Math.exp(scale * key.reduce((sum, value, d) => sum + value * query[d]!, 0));
        });
        const total = exponentials.reduce((a, b) => a + b);
        return Array.from({ length: dim }, (_, d) =>
          seen.reduce((sum, i, n) => sum + (exponentials[n]! / total) * part(v[i]!, kvHead)[d]!, 0),
        );
      }).flat();
      return plus(x, after(projected(mixed, 'o'), 'post_attention_layernorm'), residual);
    });
    hidden = hidden.map((x) => {
      const normed = olmo ? x : norm(x, `model.layers.${l}.post_attention_layernorm.weight`);
      if (config.num_local_experts) return plus(x, mixture(normed, config, weight), residual);
      const gate = times(normed, weight('mlp.gate_proj'));
      const up = times(normed, weight('mlp.up_proj'));
      const inner = gate.map((g, i) => (g / (1 + Math.exp(-g))) * up[i]!);
      return plus(x, after(times(inner, weight('mlp.down_proj')), 'post_feedforward_layernorm'), residual);
    });
  }
  const head = config.tie_word_embeddings ? embedding : weights['lm_head.weight']!;
  return hidden.flatMap((x) =>
    times(norm(x, 'model.norm.weight'), head).map((logit) => logit / (granite ? config.logits_scaling : 1)),
  );
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

describe.each(Object.entries(models))('%s', (_, [config, type]) => {
  // Longer than the contexts that dynamic scaling looks at.
  const tokens = Array.from({ length: 17 }, (_, i) => (i * 23 + seed) % base.vocabSize);

  it('gives the logits that transformers gives, and comes back without our own part of config.json', () => {
    const model = LlamaModel.create(config, { seed });
    // Norms of 1 would hide a norm that is left out, and biases of 0 a bias.
    for (const [name, parameter] of model.parameters) {
      if (name.endsWith('norm.weight')) parameter.assign(parameter.mul(1.3));
      if (!name.endsWith('bias')) continue;
      const values = Array.from({ length: parameter.size }, (_, i) => 0.5 * Math.sin(3 * i + name.length));
      parameter.assign(tensor(values, parameter.shape));
    }
    model.save(directory);
    const file = join(directory, 'config.json');
    const json = JSON.parse(readFileSync(file, 'utf8'));
    expect(json.model_type).toBe(type);
    const logits = model.forward(tokens).dataSync();
    expect(largestDifference(logits, transformersLogits(tokens))).toBeLessThan(2e-4);
    delete json.stickbreaking;
    writeFileSync(file, JSON.stringify(json));
    expect(largestDifference(LlamaModel.load(directory).forward(tokens).dataSync(), logits)).toBeLessThan(2e-5);
  });
});

describe.each(['granitemoe', 'granitemoeshared'])('a %s that transformers wrote', (type) => {
  const folder = new URL(`../fixtures/${type}/`, import.meta.url).pathname;

  it('gives the logits that it gave there', () => {
    const { tokens, logits } = JSON.parse(readFileSync(join(folder, 'logits.json'), 'utf8'));
    const model = LlamaModel.load(folder);
    const wanted = (logits as number[][]).flat();
    const off = model
      .forward(tokens)
      .dataSync()
      .map((logit, i) => logit - wanted[i]!);
    expect(Math.hypot(...off) / Math.hypot(...wanted)).toBeLessThan(1e-5);
  });

  it('is written with its names, shapes and configuration', () => {
    LlamaModel.load(folder).save(directory);
    const json = (of: string) => JSON.parse(readFileSync(join(of, 'config.json'), 'utf8'));
    const [ours, theirs] = [json(directory), json(folder)];
    for (const key of Object.keys(theirs).filter(
      (key) => key.startsWith('num_') || key.endsWith('_size') || key.includes('multiplier'),
    ))
      expect(ours[key], key).toBe(theirs[key]);
    expect(ours.architectures).toEqual(theirs.architectures);
    const shapes = (of: string) => {
      const file = readSafetensors(join(of, 'model.safetensors'));
      const all = [...file.names].sort().map((name) => [name, file.shape(name)]);
      file.close();
      return all;
    };
    expect(shapes(directory)).toEqual(shapes(folder));
  });
});

describe('config.json of others', () => {
  const written = () => {
    LlamaModel.create({ ...base, attention: 'softmax+rope' }, { seed }).save(directory);
    const json = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'));
    delete json.stickbreaking;
    return json;
  };
  const opened = (json: object) => {
    writeFileSync(join(directory, 'config.json'), JSON.stringify(json));
    return LlamaModel.load(directory);
  };

  it.each([
    { rope_theta: 777 },
    { rms_norm_eps: 1e-6 },
    { num_key_value_heads: 1 },
    { model_type: 'mistral' },
    { tie_word_embeddings: true },
  ])('refuses a file whose keys say something else than our own part of it: %j', (change) => {
    LlamaModel.create({ ...base, attention: 'softmax+rope', numKvHeads: 2, numHeads: 2 }, { seed }).save(directory);
    const json = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'));
    const [key] = Object.keys(change);
    expect(() => opened({ ...json, ...change })).toThrow(new RegExp(`config.json contradicts itself: ${key} is `));
    expect(() => opened({ ...json, torch_dtype: 'bfloat16', transformers_version: '5.0' })).not.toThrow();
  });

  it('reads the keys of version 5 and the defaults of what is left out', () => {
    const { rope_theta, rope_scaling, rms_norm_eps, ...json } = written();
    const { config } = opened({ ...json, rope_parameters: { rope_type: 'linear', factor: 2, rope_theta: 777 } });
    expect(config.attention).toEqual({
      kind: 'softmax',
      position: { kind: 'rope', theta: 777, scaling: { kind: 'linear', factor: 2 } },
    });
    expect(config.normEpsilon).toBe(1e-6);
    expect(opened(json).config.attention).toEqual({ kind: 'softmax', position: { kind: 'rope', theta: 10_000 } });
  });

  it.each([
    [{ model_type: 'gpt2' }, /model_type "gpt2" is not supported/],
    [{ model_type: 'constructor' }, /model_type "constructor" is not supported/],
    [{ attention_bias: true }, /'model.layers.0.self_attn.q_proj.bias'/],
    [{ model_type: 'mistral', attention_bias: true }, /attention_bias is true, which is not supported; only false is/],
    [{ model_type: 'olmo' }, /model_type "olmo" is not supported; expected llama, mistral, granite, .*phi3 or/],
    [{ model_type: 'olmo2' }, /the weights have no 'model.layers.0.self_attn.q_norm.weight'/],
    [{ qk_norm: true }, /qk_norm is true, which is not supported; only false is/],
    [{ model_type: 'qwen3', layer_types: ['full_attention', 'sliding_attention'] }, /sliding_attention, but no window/],
    [{ model_type: 'qwen2', layer_types: ['full_attention'] }, /layer_types has 1 entries for 2 layers/],
    [
      { model_type: 'qwen2', layer_types: ['full_attention', 'chunked_attention'] },
      /"chunked_attention", which is not/,
    ],
    [{ model_type: 'smollm3', no_rope_layers: [1] }, /no_rope_layers has 1 entries for 2 layers/],
    [{ model_type: 'smollm3', no_rope_layers: [1, 2] }, /no_rope_layers is \[1,2\]/],
    [{ no_rope_layers: [1, 0] }, /no_rope_layers is \[1,0\], which is not supported/],
    [{ model_type: 'phi3', partial_rotary_factor: 2 }, /partial_rotary_factor is 2/],
    [
      { model_type: 'phi3', partial_rotary_factor: 0.5, rope_scaling: { rope_type: 'yarn', factor: 2 } },
      /rotaryFraction: expected no YaRN beside it/,
    ],
    [{ mlp_bias: 1 }, /mlp_bias is 1, which is not supported/],
    [{ hidden_act: 'gelu' }, /hidden_act is "gelu", which is not supported; only "silu" or "swish" is/],
    [
      { rope_scaling: { rope_type: 'longrope', factor: 8 } },
      /RoPE scaling "longrope" is not supported; expected .*yarn/,
    ],
    [{ rope_scaling: { rope_type: 'llama3', factor: 8 } }, /RoPE: original_max_position_embeddings is missing/],
    [{ rope_scaling: { rope_type: 'yarn', factor: 8, mscale: 1 } }, /RoPE's "mscale" is not supported/],
    [{ rope_scaling: { rope_type: 'linear' } }, /RoPE: factor is missing/],
    [{ rope_scaling: { type: 'linear', factor: '4' } }, /RoPE: factor is "4": Invalid input/],
    [{ rope_scaling: { factor: 4 } }, /RoPE: factor is 4, which is not supported; only 1 is/],
    [{ rope_scaling: 'linear' }, /rope_scaling is "linear": expected keys and values/],
    [{ rope_scaling: { type: 'dynamic', factor: 2, original_max_position_embeddings: 5 } }, /original_max_position/],
    [{ rope_scaling: { type: 'linear', factor: 2, low_freq_factor: 1 } }, /RoPE's "low_freq_factor" is not supported/],
    [{ rope_parameters: { full_attention: { rope_theta: 5 } } }, /RoPE's "full_attention" is not supported/],
    [{ rope_theta: 500, rope_parameters: { rope_theta: 600 } }, /contradicts .* rope_theta is 600 and 500/],
    [{ rope_theta: '10000' }, /RoPE: rope_theta is "10000"/],
    [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor is 0.5/],
    [{ rope_parameters: { partial_rotary_factor: 0.5 } }, /partial_rotary_factor is 0.5/],
    [{ final_logit_softcapping: 30 }, /final_logit_softcapping is 30, which is not supported/],
    [{ quantization_config: { bits: 4 } }, /quantization_config is {"bits":4}, which is not supported/],
    [{ layer_types: ['full_attention', 'sliding_attention'] }, /layer_types has "sliding_attention"/],
    [{ model_type: 'mistral', sliding_window: 5, use_sliding_window: false }, /use_sliding_window is false/],
    [
      { model_type: 'mistral', sliding_window: 5, layer_types: ['full_attention', 'full_attention'] },
      /layer_types has "full_attention"/,
    ],
    [{ model_type: 'mistral', sliding_window: '5' }, /sliding_window is "5"/],
    [{ model_type: 'mistral', sliding_window: 2 ** 32 + 1 }, /sliding_window is 4294967297/],
    [{ hidden_size: '24' }, /hidden_size is "24": Invalid input: expected number/],
    [{ intermediate_size: [36] }, /intermediate_size is \[36\]/],
    [{ num_hidden_layers: undefined }, /num_hidden_layers is missing/],
    [{ tie_word_embeddings: 'false' }, /tie_word_embeddings is "false"/],
    [{ rms_norm_eps: '1e-5' }, /rms_norm_eps is "1e-5"/],
    [{ initializer_range: '0.02' }, /initializer_range is "0.02"/],
  ])('refuses %j', (change, message) => {
    expect(() => opened({ ...written(), ...change })).toThrow(message);
  });

  describe('of experts', () => {
    const moe = (change: object) => {
      LlamaModel.create({ ...sizes, headDim: 6, attention: 'softmax+rope', experts }, { seed }).save(directory);
      const { stickbreaking, ...json } = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'));
      return opened({ ...json, ...change });
    };

    it.each([
      [{ attention_bias: true }, /attention_bias is true/],
      [{ hidden_act: 'gelu' }, /hidden_act is "gelu"/],
      [{ num_local_experts: 0 }, /num_local_experts is 0/],
      [{ num_local_experts: '5' }, /num_local_experts is "5"/],
      [{ num_local_experts: 1 }, /experts\.active: expected at most experts\.count \(1\)/],
      [{ num_local_experts: 6 }, /router.layer.weight' has shape \[5, 24\]; config.json calls for \[6, 24\]/],
      [{ num_experts_per_tok: 1.5 }, /num_experts_per_tok is 1.5/],
      [{ router_aux_loss_coef: -1 }, /router_aux_loss_coef is -1/],
      [{ output_router_logits: 1 }, /output_router_logits is 1/],
      [{ position_embedding_type: 'nope' }, /position_embedding_type is "nope"/],
      [{ model_type: 'granitemoeshared', shared_intermediate_size: 7 }, /shared_mlp.input_linear.weight'/],
      [{ model_type: 'granitemoeshared' }, /shared_intermediate_size is missing/], // releases differ in its default
      [{ model_type: 'granitemoehybrid' }, /model_type "granitemoehybrid" is not supported/],
      [{ model_type: 'llama' }, /num_local_experts is 5, which is not supported; only 0 is/],
    ])('refuses %j', (change, message) => {
      expect(() => moe(change)).toThrow(message);
    });

    it('takes the defaults of the model type', () => {
      const { config } = moe({ num_experts_per_tok: undefined, router_aux_loss_coef: undefined });
      expect(config.experts).toEqual({ ...experts, shared: 0, balance: 0.001 });
    });

    it('has a type of its own where transformers has no such model', () => {
      const own = (change: object) => {
        LlamaModel.create({ ...sizes, experts, ...change } as LlamaConfigInput, { seed }).save(directory);
        return JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'));
      };
      for (const change of [
        { attention: 'stick-breaking' },
        { attention: 'softmax+rope', headDim: 8 },
        { attention: { kind: 'softmax', position: 'rope', window: 5 } },
      ])
        expect(own(change)).toMatchObject({ model_type: 'stickbreaking_llama', num_local_experts: 5 });
    });
  });

  const full = { kind: 'softmax', position: { kind: 'rope', theta: 10_000 } };
  it.each([
    ['llama', { sliding_window: 5, use_sliding_window: true }, full], // transformers ignores both
    ['llama', { layer_types: ['full_attention', 'full_attention'] }, full],
    ['granite', { sliding_window: 5 }, full],
    ['mistral', { sliding_window: 5 }, { ...full, window: 5 }],
    ['mistral', { sliding_window: null, use_sliding_window: false }, full],
    ['mistral', {}, { ...full, window: 4096 }], // MistralConfig's default
  ])('attends as transformers does in a %s with %j', (model_type, change, attention) => {
    expect(opened({ ...written(), model_type, ...change }).config.attention).toEqual(attention);
  });

  const rope2 = { kind: 'softmax', position: { kind: 'rope', theta: 2_000_000 } };
  it.each([
    // What they slide by themselves: the layers from max_window_layers on, or those without RoPE.
    [
      'qwen2',
      { use_sliding_window: true, sliding_window: 5, max_window_layers: 1 },
      { window: 5, windowLayers: [1, 2, 3] },
    ],
    ['qwen2', { use_sliding_window: true, max_window_layers: 0 }, { window: 4096 }],
    ['qwen2', { use_sliding_window: true, sliding_window: 5 }, {}],
    ['qwen3', { sliding_window: 5, max_window_layers: 1 }, { qkNorm: true }],
    ['qwen3', { use_sliding_window: true, sliding_window: null }, { qkNorm: true }],
    ['smollm3', {}, { ...rope2, nopeLayers: [3] }],
    ['smollm3', { no_rope_layer_interval: 2, sliding_window: 5 }, { ...rope2, nopeLayers: [1, 3] }],
    [
      'smollm3',
      { no_rope_layers: [0, 1, 1, 1, 0], use_sliding_window: true, sliding_window: 5, rope_theta: 10_000 },
      { nopeLayers: [0], window: 5, windowLayers: [0] },
    ],
    ['olmo2', { sliding_window: 5 }, { qkNorm: 'projection' }],
    [
      'phi3',
      { sliding_window: 5, partial_rotary_factor: 0.5 },
      { window: 5, position: { ...full.position, rotaryFraction: 0.5 } },
    ],
    ['phi3', { rope_parameters: { partial_rotary_factor: 1, rope_theta: 10_000 } }, {}],
  ])('reads the layers of a %s with %j', (model_type, change, attention) => {
    const { rope_theta, ...json } = written();
    writeFileSync(
      join(directory, 'config.json'),
      JSON.stringify({ ...json, model_type, num_hidden_layers: 4, ...change }),
    );
    expect(loadConfig(directory).attention).toEqual({ ...full, ...attention });
  });

  it('has the defaults of the model type for keys that are left out or null', () => {
    const { tie_word_embeddings, max_position_embeddings, initializer_range, head_dim, ...json } = written();
    const config = (change: object) => {
      writeFileSync(join(directory, 'config.json'), JSON.stringify({ ...json, ...change }));
      return loadConfig(directory);
    };
    const llama = { tieEmbeddings: false, contextLength: 2048, initializerRange: 0.02, headDim: 6, numKvHeads: 4 };
    expect(config({ num_key_value_heads: null, head_dim: null })).toMatchObject(llama);
    expect(config({ num_key_value_heads: undefined })).toMatchObject(llama);
    const mistral = { model_type: 'mistral', num_attention_heads: 16, head_dim: 4 };
    expect(config({ ...mistral, num_key_value_heads: undefined })).toMatchObject({ numKvHeads: 8 });
    expect(config({ ...mistral, num_key_value_heads: null })).toMatchObject({ numKvHeads: 16, contextLength: 131_072 });
    const qwen = { num_attention_heads: 64, num_key_value_heads: undefined, max_position_embeddings: undefined };
    expect(config({ ...qwen, model_type: 'qwen2', head_dim: 4 })).toMatchObject({
      ...{ projectionBiases: 'qkv', numKvHeads: 32, contextLength: 32_768 },
      attention: { kind: 'softmax', position: { kind: 'rope' } },
    });
    const qwen3 = config({ ...qwen, model_type: 'qwen3' });
    expect(qwen3).toMatchObject({ numKvHeads: 32, headDim: 128, attention: { qkNorm: true } });
    expect(qwen3.projectionBiases).toBeUndefined();
    const ones = { embeddingMultiplier: 1, residualMultiplier: 1, attentionMultiplier: 1, logitsDivider: 1 };
    expect(config({ model_type: 'granite' }).mup).toEqual(ones);
  });

  it('reads shards by their index, and refuses an index that leads elsewhere', () => {
    const json = written();
    const model = LlamaModel.load(directory);
    const all = [...model.parameters].map(([name, one]) => {
      return { name, shape: one.shape, values: () => one.dataSync() as Float32Array };
    });
    const half = all.length >> 1;
    const shards = { 'a.safetensors': all.slice(0, half), 'b.safetensors': all.slice(half) };
    for (const [name, tensors] of Object.entries(shards)) writeSafetensors(join(directory, name), tensors);
    rmSync(join(directory, 'model.safetensors'));
    const index = (map: unknown) =>
      writeFileSync(join(directory, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
    index(Object.fromEntries(Object.entries(shards).flatMap(([file, one]) => one.map(({ name }) => [name, file]))));
    expect(opened(json).forward([1, 2, 3]).dataSync()).toEqual(model.forward([1, 2, 3]).dataSync());
    for (const wrong of [{ x: '../a.safetensors' }, { x: 3 }, null]) {
      index(wrong);
      expect(() => opened(json)).toThrow(/is not an index of shards/);
    }
    index({ x: 'none.safetensors' });
    expect(() => opened(json)).toThrow(/cannot read .*none.safetensors: there is no such file/);
  });
});
