/**
 * Hugging Face's `config.json`, both ways. A model that `transformers` knows (LLaMA; with a window, Mistral; with
 * multipliers, Granite; of experts, GraniteMoE; with biases on queries, keys and values, Qwen 2; with QK-norm, Qwen 3; with norms
 * that follow, OLMo 2; with RoPE or a window in some layers only, SmolLM 3) is written as that model and opens there unchanged; every other gets a type of its own,
 * whose code for `transformers` lies beside the file as far as there is any. Our own
 * configuration is included under one key, which `transformers` keeps and ignores.
 */
import { UserError } from '@stickbreaking/base';
import type { z } from 'zod';
import type { Family as AttentionFamily, HuggingFaceAttention } from './attention/attention_kind.js';
import { attentionFromHuggingFace, attentionKind } from './attention/index.js';
import { count, positive } from './bounds.js';
import { type LlamaConfig, type LlamaConfigInput, LlamaConfigSchema } from './config.js';
import { feedForwardFromHuggingFace, feedForwardOf } from './feed_forward/index.js';
import { flag, type Json, readKey, refuseOthers, say } from './huggingface_keys.js';
import { AUTO_MAP } from './modeling_names.js';

const OWN_KEY = 'stickbreaking';

/**
 * The content of `config.json` for a model.
 *
 * @param eosTokenId the token that ends a generated text, where a tokenizer is known
 */
export function toHuggingFace(config: LlamaConfig, { eosTokenId }: { eosTokenId?: number | undefined } = {}): Json {
  const { mup } = config;
  const attention = attentionKind(config.attention).toHuggingFace(config.attention, config);
  const feedForward = feedForwardOf(config);
  const family = attention.families.find((one) => fits[one](config));
  const named = namedAs(family, attention, config);
  // GraniteMoE has them always, and would take 1 for the factor on q·k.
  const multipliers = mup ?? (isGranite(named.model_type) ? ONES : undefined);
  return {
    ...named,
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    ...feedForward.kind.toHuggingFace(feedForward.setting),
    num_hidden_layers: config.numLayers,
    num_attention_heads: config.numHeads,
    num_key_value_heads: config.numKvHeads,
    head_dim: config.headDim,
    hidden_act: 'silu',
    attention_bias: config.projectionBiases === 'qkvo',
    attention_dropout: 0,
    mlp_bias: false,
    rms_norm_eps: config.normEpsilon,
    initializer_range: config.initializerRange,
    max_position_embeddings: config.contextLength,
    tie_word_embeddings: config.tieEmbeddings,
    torch_dtype: 'float32',
    use_cache: true,
    // Without these keys transformers would begin a text with token 1, end it with token 2, and in SmolLM 3 fail on a padding
    // token that the vocabulary does not have.
    bos_token_id: null,
    pad_token_id: null,
    eos_token_id: eosTokenId ?? null,
    ...attention.keys(family),
    ...(multipliers
      ? {
          embedding_multiplier: multipliers.embeddingMultiplier,
          residual_multiplier: multipliers.residualMultiplier,
          attention_multiplier: multipliers.attentionMultiplier ?? 1 / Math.sqrt(config.headDim),
          logits_scaling: multipliers.logitsDivider,
        }
      : {}),
    [OWN_KEY]: config,
  };
}

const families = {
  llama: 'LlamaForCausalLM',
  mistral: 'MistralForCausalLM',
  granite: 'GraniteForCausalLM',
  granitemoe: 'GraniteMoeForCausalLM',
  granitemoeshared: 'GraniteMoeSharedForCausalLM',
  qwen2: 'Qwen2ForCausalLM',
  qwen3: 'Qwen3ForCausalLM',
  olmo2: 'Olmo2ForCausalLM',
  smollm3: 'SmolLM3ForCausalLM',
} as const;

type Family = keyof typeof families;

/** Families that have the multipliers of maximal update parametrisation. */
const isGranite = (type: unknown) => typeof type === 'string' && type.startsWith('granite');
const ONES: NonNullable<LlamaConfig['mup']> = { embeddingMultiplier: 1, residualMultiplier: 1, logitsDivider: 1 };

function namedAs(
  family: AttentionFamily | undefined,
  { inPython }: HuggingFaceAttention,
  config: LlamaConfig,
): { model_type: string; architectures: string[]; auto_map?: Record<string, string> } {
  const named = family && familyWith(family, config);
  if (!named) {
    const own = { model_type: 'stickbreaking_llama', architectures: ['StickbreakingLlamaForCausalLM'] };
    const isPlain = !feedForwardOf(config).kind.family && config.normPlacement !== 'after';
    return inPython && isPlain ? { ...own, auto_map: AUTO_MAP } : own;
  }
  return { model_type: named, architectures: [families[named]] };
}

const hasNormsBefore = ({ normPlacement }: LlamaConfig) => normPlacement !== 'after';

/** Whether a family has what the model has beside its attention; LLaMA stands for those that attend like it, too. */
const fits: Record<AttentionFamily, (config: LlamaConfig) => boolean> = {
  llama: (config) => hasNormsBefore(config) && config.projectionBiases !== 'qkv',
  mistral: (config) => isPlain(config) && hasNormsBefore(config) && !config.projectionBiases,
  qwen2: (config) => isPlain(config) && hasNormsBefore(config) && config.projectionBiases === 'qkv',
  qwen3: (config) => isPlain(config) && hasNormsBefore(config) && config.projectionBiases !== 'qkv',
  olmo2: (config) => isPlain(config) && !hasNormsBefore(config) && config.projectionBiases !== 'qkv',
  smollm3: (config) => isPlain(config) && hasNormsBefore(config) && config.projectionBiases !== 'qkv',
};

/** Without multipliers and experts. */
const isPlain = (config: LlamaConfig) => !config.mup && !feedForwardOf(config).kind.family;

/** The family itself, or one that is like LLaMA but for multipliers and experts. */
function familyWith(family: AttentionFamily, config: LlamaConfig): Family | undefined {
  const { kind, setting } = feedForwardOf(config);
  if (kind.family) return config.projectionBiases ? undefined : kind.family(setting, config);
  return config.mup ? 'granite' : family;
}

/** Reads a `config.json`, ours or one written by `transformers`. */
export function fromHuggingFace(json: Json, file: string): LlamaConfig {
  const own = json[OWN_KEY];
  const result = LlamaConfigSchema.safeParse(own ?? mapped(json, file));
  if (result.success) {
    if (own) checkAgreement(json, result.data, file);
    return result.data;
  }
  const issue = result.error.issues[0]!;
  throw new UserError(`${file}: ${(own ? [OWN_KEY, ...issue.path] : issue.path).join('.')}: ${issue.message}.`);
}

/** Keys that say nothing of what the model computes, or that the tokenizer knows better. */
const apart = [
  ...['architectures', 'torch_dtype', 'use_cache', 'bos_token_id', 'eos_token_id', 'pad_token_id'],
  'initializer_range',
  ...['router_aux_loss_coef', 'output_router_logits', 'auto_map'],
];

/** Other programs read the keys around our own part: a change that only one of them was told makes two models of one. */
function checkAgreement(json: Json, config: LlamaConfig, file: string): void {
  const text = (value: unknown) => JSON.stringify(value ?? null);
  for (const [key, expected] of Object.entries(toHuggingFace(config))) {
    if (key === OWN_KEY || apart.includes(key) || !(key in json) || text(json[key]) === text(expected)) continue;
    throw new UserError(
      `${file} contradicts itself: ${key} is ${say(json[key])}, and ${say(expected)} by its part '${OWN_KEY}'; ` +
        'change both, or remove that part.',
    );
  }
}

/** What the model types take where a key is left out. */
const llamaDefaults = {
  ...{ numKvHeads: null, headDim: null, contextLength: 2048, normEpsilon: 1e-6, tieEmbeddings: false },
} as const;
const defaults = {
  llama: llamaDefaults,
  mistral: { ...llamaDefaults, numKvHeads: 8, contextLength: 131_072 },
  granite: llamaDefaults,
  granitemoe: llamaDefaults,
  granitemoeshared: llamaDefaults,
  qwen2: { ...llamaDefaults, numKvHeads: 32, contextLength: 32_768 },
  qwen3: { ...llamaDefaults, numKvHeads: 32, headDim: 128, contextLength: 32_768 },
  olmo2: { ...llamaDefaults, normEpsilon: 1e-5 },
  smollm3: { ...llamaDefaults, numKvHeads: 4, contextLength: 32_768, tieEmbeddings: true },
  phi3: { ...llamaDefaults, contextLength: 4096, normEpsilon: 1e-5 },
} as const;

type ReadFamily = keyof typeof defaults;

/** The configuration as `transformers` understands it for the file's model type, its defaults included. */
function mapped(json: Json, file: string): LlamaConfigInput {
  const type = json.model_type;
  if (typeof type !== 'string' || !Object.hasOwn(defaults, type)) {
    throw new UserError(
      `${file}: model_type ${say(type)} is not supported; expected ${Object.keys(defaults).join(', ')} or a checkpoint of this project.`,
    );
  }
  const { num_local_experts, partial_rotary_factor, ...others } = harmless;
  refuseOthers(json, file, others);
  if (!isMixture(type)) refuseOthers(json, file, { num_local_experts });
  if (type !== 'phi3') refuseOthers(json, file, { partial_rotary_factor });
  // These do not look at it, or it is not read for them.
  if (['mistral', 'qwen2', 'phi3'].includes(type) || isMixture(type))
    refuseOthers(json, file, { attention_bias: [false] });
  // A model has QK-norm or not by its type alone.
  const hasQkNorm = type === 'qwen3' || type === 'olmo2';
  refuseOthers(json, file, { qk_norm: [hasQkNorm], use_qk_norm: [hasQkNorm] });
  const key = <Schema extends z.ZodType>(name: string, schema: Schema) => readKey(json, file, name, schema);
  const byDefault = defaults[type as ReadFamily];
  const hasBias = key('attention_bias', flag(false));
  return {
    vocabSize: key('vocab_size', count()),
    hiddenSize: key('hidden_size', count()),
    ...feedForwardFromHuggingFace(json, file),
    numLayers: key('num_hidden_layers', count()),
    numHeads: key('num_attention_heads', count()),
    // Absent: the model type's own default; null: as many as heads.
    numKvHeads: key('num_key_value_heads', count().nullish().default(byDefault.numKvHeads)) ?? undefined,
    headDim: key('head_dim', count().nullish().default(byDefault.headDim)) ?? undefined,
    contextLength: key('max_position_embeddings', count().default(byDefault.contextLength)),
    tieEmbeddings: key('tie_word_embeddings', flag(byDefault.tieEmbeddings)),
    normEpsilon: key('rms_norm_eps', positive().default(byDefault.normEpsilon)),
    ...(type === 'olmo2' ? { normPlacement: 'after' } : {}),
    initializerRange: key('initializer_range', positive().default(0.02)),
    attention: attentionFromHuggingFace(json, file),
    ...(type === 'qwen2' ? { projectionBiases: 'qkv' } : hasBias ? { projectionBiases: 'qkvo' } : {}),
    ...(isGranite(type)
      ? {
          mup: {
            embeddingMultiplier: key('embedding_multiplier', positive().default(1)),
            residualMultiplier: key('residual_multiplier', positive().default(1)),
            attentionMultiplier: key('attention_multiplier', positive().default(1)),
            logitsDivider: key('logits_scaling', positive().default(1)),
          },
        }
      : {}),
  };
}

const isMixture = (type: string) => type === 'granitemoe' || type === 'granitemoeshared';

/**
 * Keys that change what a model computes, and the values that do not. `transformers` looks at some of them in other
 * model types only; a file that sets them describes another model than its type says, or one that is not supported.
 */
const harmless = {
  hidden_act: ['silu', 'swish'],
  mlp_bias: [false],
  qkv_bias: [false],
  partial_rotary_factor: [1],
  rope_interleaved: [false],
  final_logit_softcapping: [],
  attn_logit_softcapping: [],
  query_pre_attn_scalar: [],
  clip_qkv: [],
  logit_scale: [1],
  alibi: [false],
  num_local_experts: [0],
  num_experts: [0],
  add_cross_attention: [false],
  is_encoder_decoder: [false],
  quantization_config: [],
} as const;
