/**
 * Hugging Face's `config.json`, both ways. Where a model is one that `transformers` knows (LLaMA, LLaMA with a window =
 * Mistral, LLaMA with multipliers = Granite) it is written as that one and opens there unchanged; every other gets a
 * type of its own. Our own configuration travels along under one key, which `transformers` carries and ignores.
 */
import { UserError } from '@stickbreaking/base';
import { type LlamaConfig, type LlamaConfigInput, LlamaConfigSchema } from './config.js';

const OWN_KEY = 'stickbreaking';

type Json = Record<string, unknown>;

/** The content of `config.json` for a model. */
export function toHuggingFace(config: LlamaConfig): Json {
  const { attention, mup } = config;
  return {
    ...kindOf(config),
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
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
    // Left out, transformers would take token 1 to begin a text and token 2 to end it: the tokenizer knows better.
    bos_token_id: null,
    eos_token_id: null,
    ...(attention.kind === 'softmax'
      ? { ...ropeOf(config), ...(attention.window ? { sliding_window: attention.window } : {}) }
      : {}),
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

function kindOf({ attention, mup }: LlamaConfig): Json {
  const own = { model_type: 'stickbreaking_llama', architectures: ['StickbreakingLlamaForCausalLM'] };
  if (attention.kind !== 'softmax' || attention.position.kind !== 'rope') return own;
  if (attention.window && mup) return own;
  if (attention.window) return { model_type: 'mistral', architectures: ['MistralForCausalLM'] };
  if (mup) return { model_type: 'granite', architectures: ['GraniteForCausalLM'] };
  return { model_type: 'llama', architectures: ['LlamaForCausalLM'] };
}

/** transformers has no static NTK: it is the same as a larger theta. */
function ropeOf({ attention, headDim, contextLength }: LlamaConfig): Json {
  if (attention.kind !== 'softmax' || attention.position.kind !== 'rope') return {};
  const { theta, scaling } = attention.position;
  if (scaling?.kind === 'ntk')
    return { rope_theta: theta * scaling.factor ** (headDim / (headDim - 2)), rope_scaling: null };
  if (!scaling) return { rope_theta: theta, rope_scaling: null };
  const rope = { rope_type: scaling.kind, factor: scaling.factor };
  if (scaling.kind === 'linear') return { rope_theta: theta, rope_scaling: rope };
  // transformers measures a document against max_position_embeddings.
  return {
    rope_theta: theta,
    rope_scaling: rope,
    max_position_embeddings: scaling.originalContextLength ?? contextLength,
  };
}

/** Reads `config.json`, ours or one that `transformers` wrote. */
export function fromHuggingFace(json: Json, file: string): LlamaConfig {
  const result = LlamaConfigSchema.safeParse(json[OWN_KEY] ?? mapped(json, file));
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new UserError(`${file}: ${issue.path.join('.')}: ${issue.message}.`);
}

function mapped(json: Json, file: string): LlamaConfigInput {
  const type = String(json.model_type);
  if (!['llama', 'mistral', 'granite'].includes(type)) {
    throw new UserError(
      `${file}: model_type '${type}' is not supported; expected llama, mistral, granite or a checkpoint of this project.`,
    );
  }
  if (json.attention_bias === true || json.mlp_bias === true) {
    throw new UserError(`${file}: the model has biases in its projections; only models without are supported.`);
  }
  const activation = json.hidden_act ?? 'silu';
  if (activation !== 'silu' && activation !== 'swish') {
    throw new UserError(`${file}: hidden_act is '${activation}'; only silu, as SwiGLU has it, is supported.`);
  }
  const rope = (json.rope_scaling ?? json.rope_parameters ?? undefined) as Json | undefined;
  const scalingKind = rope?.rope_type ?? rope?.type ?? 'default';
  const factor = Number(rope?.factor ?? 1);
  const scaling =
    scalingKind === 'linear'
      ? ({ kind: 'linear', factor } as const)
      : scalingKind === 'dynamic'
        ? ({ kind: 'dynamic', factor } as const)
        : undefined;
  if (!scaling && scalingKind !== 'default') {
    throw new UserError(`${file}: RoPE scaling '${scalingKind}' is not supported; expected linear or dynamic.`);
  }
  const numbers = (key: string) => json[key] as number;
  return {
    vocabSize: numbers('vocab_size'),
    hiddenSize: numbers('hidden_size'),
    intermediateSize: numbers('intermediate_size'),
    numLayers: numbers('num_hidden_layers'),
    numHeads: numbers('num_attention_heads'),
    numKvHeads: (json.num_key_value_heads ?? undefined) as number | undefined,
    headDim: (json.head_dim ?? undefined) as number | undefined,
    contextLength: numbers('max_position_embeddings'),
    tieEmbeddings: json.tie_word_embeddings === true,
    normEpsilon: (json.rms_norm_eps ?? 1e-6) as number, // what transformers takes where it is left out
    ...(typeof json.initializer_range === 'number' ? { initializerRange: json.initializer_range } : {}),
    attention: {
      kind: 'softmax',
      position: {
        kind: 'rope',
        theta: Number(json.rope_theta ?? rope?.rope_theta ?? 10_000),
        ...(scaling ? { scaling } : {}),
      },
      ...(json.sliding_window ? { window: json.sliding_window as number } : {}),
    },
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
