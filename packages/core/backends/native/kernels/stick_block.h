// The weights of one block of stick-breaking attention. https://arxiv.org/abs/2410.17980, equations 1 to 4, with a running
// product in place of the sum of logarithms: a key takes the share β = σ(z) of what the nearer keys left of the stick.
#pragma once
#include <algorithm>
#include <cmath>

#include "packed.h"

struct StickShape {
  float logitScale;  // on q·k, log2(e) included
  bool attendCurrent;

  // How many of the document's keys the block's first and its last row see.
  int64_t seen_first(const QueryBlock& block) const { return seen(block, block.firstPosition); }
  int64_t seen_last(const QueryBlock& block) const { return seen(block, block.last_position()); }

  int64_t seen(const QueryBlock& block, int64_t position) const {
    return std::min(block.keys, position + (attendCurrent ? 1 : 0));
  }
};

// Lane by lane from the nearest key to the farthest: logits [keys, width] become weights, and `remainder` [width], what is
// left of each lane's stick, is updated. With kKeepBeta, β is kept in `beta` [keys, width]. Masked keys get weight 0.
template <bool kMasked, bool kKeepBeta>
inline void stick_breaking_block(const QueryBlock& block, const StickShape& shape, KeyRange keys, int64_t width,
                                 float* logits, float* beta, float* remainder) {
  for (int64_t lane = 0; lane < width; lane += kLanes) {
    Floats remaining = load(remainder + lane);
    const Ints last = positions_from(block.firstPosition + lane + (shape.attendCurrent ? 0 : -1));
    for (int64_t c = keys.count - 1; c >= 0; c--) {
      float* at = logits + c * width + lane;
      Floats expLogit = exp2_of(load(at));  // e^z, finite
      if (kMasked) expLogit = splat(static_cast<int32_t>(keys.begin + c)) <= last ? expLogit : Floats{};
      const Floats oneMinusBeta = 1.0f / (1.0f + expLogit), sigmoid = expLogit * oneMinusBeta;
      store(at, remaining * sigmoid);
      if (kKeepBeta) store(beta + c * width + lane, sigmoid);
      remaining *= oneMinusBeta;
    }
    store(remainder + lane, remaining);
  }
}

template <bool kKeepBeta>
inline void stick_breaking_weights(const QueryBlock& block, const StickShape& shape, KeyRange keys, int64_t width,
                                   float* logits, float* beta, float* remainder) {
  if (keys.begin + keys.count > shape.seen_first(block))
    stick_breaking_block<true, kKeepBeta>(block, shape, keys, width, logits, beta, remainder);
  else
    stick_breaking_block<false, kKeepBeta>(block, shape, keys, width, logits, beta, remainder);
  // Rows that only fill the last register tile.
  for (int64_t i = keys.count * width; i < keys.padded() * width; i++) logits[i] = 0;
}

// Every row's stick before it comes to any key: whole, or as `sticks` [N, heads] has it; none for the lanes beyond.
inline void begin_sticks(const QueryBlock& block, const float* sticks, int64_t heads, int64_t head, float* remainder) {
  for (int64_t i = 0; i < block.width(); i++) {
    const float stick = sticks && i < block.rows ? sticks[(block.firstRow + i) * heads + head] : 1.0f;
    remainder[i] = i < block.rows ? stick : 0.0f;
  }
}
