/**
 * Hugging Face's `config.json`, both ways. A model that `transformers` knows (LLaMA; with a window, Mistral; with
 * multipliers, Granite) is written as that model and opens there unchanged; every other gets a type of its own. Our own
 * configuration is included under one key, which `transformers` keeps and ignores.
 */
import { UserError } from '@stickbreaking/base';
import type { HuggingFaceAttention } from './attention/attention_kind.js';
import { attentionFromHuggingFace, attentionKind } from './attention/index.js';
import { type LlamaConfig, type LlamaConfigInput, LlamaConfigSchema } from './config.js';
import { feedForwardFromHuggingFace, feedForwardOf } from './feed_forward/index.js';

const OWN_KEY = 'stickbreaking';

type Json = Record<string, unknown>;

/** The content of `config.json` for a model. */
export function toHuggingFace(config: LlamaConfig): Json {
  const { mup } = config;
  const attention = attentionKind(config.attention).toHuggingFace(config.attention, config);
  const feedForward = feedForwardOf(config);
  return {
    ...familyOf(attention, mup !== undefined),
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    ...feedForward.kind.toHuggingFace(feedForward.setting),
    num_hidden_layers: config.numLayers,
    num_attention_heads: config.numHeads,
    num_key_value_heads: config.numKvHeads,
    head_dim: config.headDim,
    hidden_act: 'silu',
    attention_bias: false,
    attention_dropout: 0,
    mlp_bias: false,
    rms_norm_eps: config.normEpsilon,
    initializer_range: config.initializerRange,
    max_position_embeddings: config.contextLength,
    tie_word_embeddings: config.tieEmbeddings,
    torch_dtype: 'float32',
    use_cache: true,
    // Without these keys transformers would begin a text with token 1 and end it with token 2; the tokenizer knows
    // better.
    bos_token_id: null,
    eos_token_id: null,
    ...attention.keys,
    ...(mup
      ? {
          embedding_multiplier: mup.embeddingMultiplier,
          residual_multiplier: mup.residualMultiplier,
          attention_multiplier: mup.attentionMultiplier ?? 1 / Math.sqrt(config.headDim),
          logits_scaling: mup.logitsDivider,
        }
      : {}),
    [OWN_KEY]: config,
  };
}

const families = {
  llama: 'LlamaForCausalLM',
  mistral: 'MistralForCausalLM',
  granite: 'GraniteForCausalLM',
} as const;

function familyOf({ family }: HuggingFaceAttention, multipliers: boolean): Json {
  const named = multipliers ? (family === 'llama' ? 'granite' : undefined) : family;
  if (!named) return { model_type: 'stickbreaking_llama', architectures: ['StickbreakingLlamaForCausalLM'] };
  return { model_type: named, architectures: [families[named]] };
}

/** Reads a `config.json`, ours or one written by `transformers`. */
export function fromHuggingFace(json: Json, file: string): LlamaConfig {
  const result = LlamaConfigSchema.safeParse(json[OWN_KEY] ?? mapped(json, file));
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new UserError(`${file}: ${issue.path.join('.')}: ${issue.message}.`);
}

function mapped(json: Json, file: string): LlamaConfigInput {
  const type = String(json.model_type);
  if (!(type in families)) {
    throw new UserError(
      `${file}: model_type '${type}' is not supported; expected ${Object.keys(families).join(', ')} or a checkpoint of this project.`,
    );
  }
  if (json.attention_bias === true || json.mlp_bias === true) {
    throw new UserError(`${file}: the model has biases in its projections; only models without are supported.`);
  }
  const activation = json.hidden_act ?? 'silu';
  if (activation !== 'silu' && activation !== 'swish') {
    throw new UserError(`${file}: hidden_act is '${activation}'; only silu, which SwiGLU uses, is supported.`);
  }
  const numbers = (key: string) => json[key] as number;
  return {
    vocabSize: numbers('vocab_size'),
    hiddenSize: numbers('hidden_size'),
    ...(feedForwardFromHuggingFace(json) as Pick<LlamaConfigInput, 'intermediateSize'>),
    numLayers: numbers('num_hidden_layers'),
    numHeads: numbers('num_attention_heads'),
    numKvHeads: (json.num_key_value_heads ?? undefined) as number | undefined,
    headDim: (json.head_dim ?? undefined) as number | undefined,
    contextLength: numbers('max_position_embeddings'),
    tieEmbeddings: json.tie_word_embeddings === true,
    normEpsilon: (json.rms_norm_eps ?? 1e-6) as number, // transformers' default
    ...(typeof json.initializer_range === 'number' ? { initializerRange: json.initializer_range } : {}),
    attention: attentionFromHuggingFace(json, file),
    ...(type === 'granite'
      ? {
          mup: {
            embeddingMultiplier: numbers('embedding_multiplier'),
            residualMultiplier: numbers('residual_multiplier'),
            attentionMultiplier: numbers('attention_multiplier'),
            logitsDivider: numbers('logits_scaling'),
          },
        }
      : {}),
  };
}
