"""A model of stickbreaking for `transformers`: AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True).

LLaMA-style decoder whose attention is stick-breaking (https://arxiv.org/abs/2410.17980) or softmax with a position scheme
that no model of `transformers` has. The plain formulas in PyTorch, in blocks of queries; keys and values are cached as
they are, before any rotation. What the attention is, config.json says under "stickbreaking".
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

QUERIES_AT_ONCE = 512


class StickbreakingLlamaConfig(PretrainedConfig):
    model_type = "stickbreaking_llama"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(self, stickbreaking=None, **kwargs):
        self.stickbreaking = stickbreaking or {}
        for key in ("embedding_multiplier", "residual_multiplier", "logits_scaling"):
            kwargs.setdefault(key, 1.0)
        super().__init__(**kwargs)


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class HeadNorm(nn.Module):
    """Group norm of each head's output."""

    def __init__(self, heads, head_dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, head_dim))
        self.bias = nn.Parameter(torch.zeros(heads, head_dim))
        self.eps = eps

    def forward(self, x):  # [B, H, T, D]
        normalised = F.layer_norm(x.float(), x.shape[-1:], eps=self.eps).to(x.dtype)
        return normalised * self.weight[:, None] + self.bias[:, None]


class Fire(nn.Module):
    """https://arxiv.org/abs/2310.04418"""

    def __init__(self, heads, width, initial_threshold):
        super().__init__()
        self.w1 = nn.Linear(1, width)
        self.w2 = nn.Linear(width, heads)
        self.c = nn.Parameter(torch.full((1,), 0.1))
        self.threshold_multiplier = nn.Parameter(torch.ones(1))
        self.initial_threshold = initial_threshold

    def forward(self, positions, distances):  # [T, 1], [T, S] -> [H, T, S]
        c = self.c.abs()
        longest = torch.maximum(positions.float(), (self.threshold_multiplier * self.initial_threshold).abs())
        x = torch.log(c * distances.clamp(min=0) + 1) / (torch.log(c * longest + 1) + 1e-6)
        return self.w2(F.relu(self.w1(x[..., None]))).permute(2, 0, 1)


def alibi_slopes(heads):
    powers = lambda count: [2 ** (-8 * (h + 1) / count) for h in range(count)]
    power = 2 ** math.floor(math.log2(heads))
    if power == heads:
        return powers(heads)
    return powers(power) + powers(2 * power)[::2][: heads - power]


def inverse_frequencies(head_dim, theta, scaling, length, context_length):
    """RoPE's, in float64."""
    scaling = scaling or {}
    kind, factor = scaling.get("kind"), scaling.get("factor", 1)
    original = scaling.get("originalContextLength", context_length)
    exponent = head_dim / (head_dim - 2) if head_dim > 2 else 1
    base = theta
    if kind == "ntk":
        base = theta * factor**exponent
    if kind == "dynamic":
        base = theta * (factor * max(length, original) / original - (factor - 1)) ** exponent
    i = torch.arange(head_dim // 2, dtype=torch.float64)
    frequencies = base ** (-2 * i / head_dim)
    if kind == "linear":
        return frequencies / factor
    if kind == "llama3":
        low, high = scaling["lowFrequencyFactor"], scaling["highFrequencyFactor"]
        kept = ((original * frequencies / (2 * math.pi) - low) / (high - low)).clamp(0, 1)
        return frequencies * (kept + (1 - kept) / factor)
    if kind == "yarn":
        dimension = lambda turns: head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))
        low = max(0, math.floor(dimension(scaling["betaFast"])))
        high = min(head_dim - 1, math.ceil(dimension(scaling["betaSlow"])))
        kept = 1 - ((i - low) / (high - low if high != low else 0.001)).clamp(0, 1)
        return frequencies * (kept + (1 - kept) / factor)
    return frequencies


def rotated(x, positions, frequencies):  # [B, H, T, D], [T], [D/2]
    angles = positions.double()[:, None] * frequencies.to(positions.device)[None]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        own = config.stickbreaking
        self.layer = layer
        self.attention = own["attention"]
        self.context_length = own["contextLength"]
        self.heads, self.kv_heads, self.head_dim = own["numHeads"], own["numKvHeads"], own["headDim"]
        self.scale = (own.get("mup") or {}).get("attentionMultiplier") or self.head_dim**-0.5
        hidden, queries, keys = own["hiddenSize"], self.heads * self.head_dim, self.kv_heads * self.head_dim
        biases = own.get("projectionBiases")
        self.q_proj = nn.Linear(hidden, queries, bias=biases is not None)
        self.k_proj = nn.Linear(hidden, keys, bias=biases is not None)
        self.v_proj = nn.Linear(hidden, keys, bias=biases is not None)
        self.o_proj = nn.Linear(queries, hidden, bias=biases == "qkvo")
        if self.attention.get("qkNorm"):
            self.q_norm = RMSNorm(self.head_dim, own["normEpsilon"])
            self.k_norm = RMSNorm(self.head_dim, own["normEpsilon"])
        if self.attention.get("initialReach") is not None:
            self.query_bias = nn.Parameter(torch.zeros(self.heads, self.head_dim))
            self.key_bias = nn.Parameter(torch.zeros(self.kv_heads, self.head_dim))
        if self.attention.get("remainderBias"):
            self.remainder_bias = nn.Parameter(torch.zeros(self.heads, self.head_dim))
        if self.attention.get("headNorm"):
            self.head_norm = HeadNorm(self.heads, self.head_dim, own["normEpsilon"])
        self.position = self.attention.get("position") or {"kind": "none"}
        if self.position["kind"] == "fire":
            self.fire = Fire(self.heads, self.position["width"], self.position["initialThreshold"])
        if self.position["kind"] == "rope" and (self.position.get("scaling") or {}).get("kind") == "yarn":
            scaling = self.position["scaling"]
            factor = scaling["factor"]
            default = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
            self.scale *= scaling.get("attentionFactor", default) ** 2

    def forward(self, x, cache, attended):  # [B, T, hidden], DynamicCache or None, bool [B, S] or None
        batch, length, _ = x.shape
        by_head = lambda flat, heads: flat.view(batch, length, heads, self.head_dim)
        q, k = by_head(self.q_proj(x), self.heads), by_head(self.k_proj(x), self.kv_heads)
        v = by_head(self.v_proj(x), self.kv_heads)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if hasattr(self, "query_bias"):
            q, k = q + self.query_bias, k + self.key_bias
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        total = k.shape[2]
        positions = torch.arange(total, device=x.device)
        first = total - length
        if self.position["kind"] == "rope":
            frequencies = inverse_frequencies(
                self.head_dim, self.position["theta"], self.position.get("scaling"), total, self.context_length
            )
            q, k = rotated(q, positions[first:], frequencies), rotated(k, positions, frequencies)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=1) for t in (k, v))
        parts = []
        for begin in range(0, length, QUERIES_AT_ONCE):
            rows = q[:, :, begin : begin + QUERIES_AT_ONCE]
            at = positions[first + begin : first + begin + rows.shape[2]]
            parts.append(self.attend(rows, k, v, at, positions, attended))
        output = torch.cat(parts, dim=2)
        if hasattr(self, "head_norm"):
            output = self.head_norm(output)
        return self.o_proj(output.transpose(1, 2).reshape(batch, length, -1))

    def attend(self, q, k, v, at, positions, attended):
        logits = (q @ k.transpose(-1, -2)).float() * self.scale
        distance = at[:, None] - positions[None]  # [T, S]
        if self.attention["kind"] == "stick-breaking":
            return self.stick_breaking(logits, distance, v, attended)
        if self.position["kind"] == "alibi":
            slopes = torch.tensor(alibi_slopes(self.heads), device=q.device)
            logits = logits - slopes[:, None, None] * distance
        if self.position["kind"] == "fire":
            logits = logits + self.fire(at[:, None], distance).float()
        seen = distance >= 0
        if self.attention.get("window"):
            seen = seen & (distance < self.attention["window"])
        seen = seen[None, None] if attended is None else seen[None, None] & attended[:, None, None]
        # A row of padding sees nothing; it would be divided by zero.
        weights = logits.masked_fill(~seen, torch.finfo(logits.dtype).min).softmax(-1).masked_fill(~seen, 0)
        return weights.to(v.dtype) @ v

    def stick_breaking(self, logits, distance, v, attended):
        seen = distance >= 0 if self.attention.get("attendCurrent") else distance > 0
        seen = seen[None, None] if attended is None else seen[None, None] & attended[:, None, None]
        broken = F.softplus(logits, threshold=1e4).masked_fill(~seen, 0)
        # What nearer keys, the later ones, took: the sum over all keys behind this one.
        nearer = broken.flip(-1).cumsum(-1).flip(-1) - broken
        weights = torch.exp(-F.softplus(-logits, threshold=1e4) - nearer).masked_fill(~seen, 0)
        output = weights.to(v.dtype) @ v
        if hasattr(self, "remainder_bias"):
            remainder = torch.exp(-broken.sum(-1, keepdim=True)).to(v.dtype)
            output = output + remainder * self.remainder_bias[:, None]
        return output


class FeedForward(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        own = config.stickbreaking
        self.input_layernorm = RMSNorm(own["hiddenSize"], own["normEpsilon"])
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(own["hiddenSize"], own["normEpsilon"])
        self.mlp = FeedForward(own["hiddenSize"], own["intermediateSize"])
        self.multiplier = config.residual_multiplier

    def forward(self, x, cache, attended):
        x = x + self.multiplier * self.self_attn(self.input_layernorm(x), cache, attended)
        return x + self.multiplier * self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        own = config.stickbreaking
        self.embed_tokens = nn.Embedding(own["vocabSize"], own["hiddenSize"])
        self.layers = nn.ModuleList([Layer(config, i) for i in range(own["numLayers"])])
        self.norm = RMSNorm(own["hiddenSize"], own["normEpsilon"])


class StickbreakingLlamaForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = StickbreakingLlamaConfig
    base_model_prefix = "model"
    _no_split_modules = ["Layer"]

    def __init__(self, config):
        super().__init__(config)
        own = config.stickbreaking
        self.model = Decoder(config)
        # A tied output head is the embedding itself.
        if not own.get("tieEmbeddings"):
            self.lm_head = nn.Linear(own["hiddenSize"], own["vocabSize"], bias=False)
        self.post_init()

    def _init_weights(self, module):
        pass  # weights are loaded

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        past_key_values=None,
        labels=None,
        use_cache=None,
        logits_to_keep=0,
        **_,
    ):
        if past_key_values is None and use_cache:
            past_key_values = DynamicCache()
        attended = None if attention_mask is None or bool(attention_mask.all()) else attention_mask.bool()
        x = self.model.embed_tokens(input_ids) * self.config.embedding_multiplier
        for layer in self.model.layers:
            x = layer(x, past_key_values, attended)
        x = self.model.norm(x)
        if isinstance(logits_to_keep, int) and logits_to_keep > 0:
            x = x[:, -logits_to_keep:]
        head = self.lm_head.weight if hasattr(self, "lm_head") else self.model.embed_tokens.weight
        logits = F.linear(x, head) / self.config.logits_scaling
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)
