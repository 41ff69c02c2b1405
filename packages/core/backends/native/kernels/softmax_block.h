// Shared by the softmax kernels: the keys that a query sees, and the biased logits of a block, in base 2.
#pragma once
#include "fire.h"
#include "packed.h"

// A masked key's logit: low enough that its weight is 0, finite so that no NaN arises. A row without any visible key
// subtracts kLowestRowMax, so that its weights stay 0.
constexpr float kMaskedLogit = -1e30f;
constexpr float kLowestRowMax = -1e29f;

struct SoftmaxShape {
  float logitScale;        // on q·k, log2(e) included
  int64_t window;          // 0: all keys
  const float* slopes;     // ALiBi's, or null
  const FireTables* fire;  // or null
  const float* keyBias;    // what is added to a key's logits, [kvHeads, keyTokens], or null
  int64_t keyTokens, group;

  int64_t first_key(int64_t position) const {
    return window == 0 || position < window ? 0 : position - window + 1;
  }
  int64_t first_key_block(const QueryBlock& block) const { return first_key(block.firstPosition) / kBlock; }
  int64_t end_key_block(const QueryBlock& block) const { return block.last_position() / kBlock + 1; }

  // Whether the mask hides some key of the range from some query of the block.
  bool masks(const QueryBlock& block, KeyRange keys) const {
    return keys.begin + keys.count - 1 > block.firstPosition || keys.begin < first_key(block.last_position());
  }
};

// Adds ALiBi's, FIRE's or the keys' bias to a block's logits [keys, width], which are q·k in base 2, and masks hidden keys.
inline void bias_and_mask(const QueryBlock& block, const SoftmaxShape& shape, KeyRange keys, int64_t head,
                          float* logits) {
  const int64_t width = block.width();
  const bool masked = shape.masks(block, keys);
  if (!masked && !shape.slopes && !shape.fire && !shape.keyBias) return;
  const float slope = shape.slopes ? shape.slopes[head] * kLog2E : 0.0f;
  const float* keyBias =
      shape.keyBias ? shape.keyBias + head / shape.group * shape.keyTokens + block.firstKey + keys.begin : nullptr;
  for (int64_t lane = 0; lane < width; lane += kLanes) {
    const int64_t position = block.firstPosition + lane;
    const Ints last = positions_from(position);
    const Ints first = shape.window == 0 ? Ints{} : last - static_cast<int32_t>(shape.window - 1);
    for (int64_t c = 0; c < keys.count; c++) {
      float* at = logits + c * width + lane;
      Floats logit = load(at);
      const Ints key = splat(static_cast<int32_t>(keys.begin + c));
      if (shape.slopes) logit -= slope * __builtin_convertvector(last - key, Floats);
      if (shape.fire) {
        const Floats x = shape.fire->numerator(position - keys.begin - c) * shape.fire->inverse(position);
        logit += kLog2E * fire_bias(*shape.fire, head, x);
      }
      if (keyBias) logit += keyBias[c] * kLog2E;
      if (masked) logit = ((key <= last) & (key >= first)) ? logit : splat(kMaskedLogit);
      store(at, logit);
    }
  }
}

// A bias [keyTokens, kvHeads] as the kernels read it, [kvHeads, keyTokens]; empty where there is none.
inline std::vector<float> by_head(const float* keyBias, const Pack& pack) {
  const int64_t tokens = pack.cuSeqlensK[pack.documents];
  std::vector<float> out(keyBias ? tokens * pack.kvHeads : 0);
  for (size_t i = 0; i < out.size(); i++) out[i] = keyBias[i % tokens * pack.kvHeads + i / tokens];
  return out;
}

inline int64_t longest_document(const Pack& pack) {
  int64_t longest = 0;
  for (int64_t s = 0; s < pack.documents; s++)
    longest = std::max<int64_t>(longest, pack.cuSeqlensK[s + 1] - pack.cuSeqlensK[s]);
  return longest;
}
