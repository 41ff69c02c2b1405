// One block of stick-breaking weights. https://arxiv.org/abs/2410.17980, equations 1 to 4, with a running product in
// place of the sum of logarithms: β = σ(z) is what a key breaks off of what nearer keys left.
#pragma once
#include <cmath>

#include "packed.h"

struct StickShape {
  float logitScale;  // on q·k, log2(e) included
  bool attendCurrent;

  // How many of the document's keys a query at this position sees.
  int64_t seen(int64_t position) const { return position + (attendCurrent ? 1 : 0); }
};

// Lane by lane from the nearest key to the farthest: logits [keys, width] become weights; `left` [width] is what is
// left of each lane's stick, before and after. With `beta` [keys, width], σ(z) is kept there. Hidden keys get 0.
template <bool kMasked, bool kKeepBeta>
inline void break_block(const QueryBlock& block, const StickShape& shape, KeyRange keys, int64_t width, float* logits,
                        float* beta, float* left) {
  for (int64_t lane = 0; lane < width; lane += kLanes) {
    Floats rest = load(left + lane);
    const Ints last = positions_from(block.firstPosition + lane + (shape.attendCurrent ? 0 : -1));
    for (int64_t c = keys.count - 1; c >= 0; c--) {
      float* at = logits + c * width + lane;
      Floats power = exp2_of(load(at));  // e^z, finite
      if (kMasked) power = splat(static_cast<int32_t>(keys.begin + c)) <= last ? power : Floats{};
      const Floats kept = 1.0f / (1.0f + power), broken = power * kept;
      store(at, rest * broken);
      if (kKeepBeta) store(beta + c * width + lane, broken);
      rest *= kept;
    }
    store(left + lane, rest);
  }
}

template <bool kKeepBeta>
inline void break_keys(const QueryBlock& block, const StickShape& shape, KeyRange keys, int64_t width, float* logits,
                       float* beta, float* left) {
  if (keys.begin + keys.count > shape.seen(block.firstPosition))
    break_block<true, kKeepBeta>(block, shape, keys, width, logits, beta, left);
  else
    break_block<false, kKeepBeta>(block, shape, keys, width, logits, beta, left);
  // Rows that only fill the last register tile.
  for (int64_t i = keys.count * width; i < keys.padded() * width; i++) logits[i] = 0;
}

// A whole stick for every row, none for the lanes beyond.
inline void whole_sticks(const QueryBlock& block, float* left) {
  for (int64_t i = 0; i < block.width(); i++) left[i] = i < block.rows ? 1.0f : 0.0f;
}
