// FIRE's bias (https://arxiv.org/abs/2310.04418): an MLP with one hidden layer on x = log(|c|·distance + 1) divided by
// log(|c|·max(position, threshold) + 1). Both logarithms come from tables, one by distance and one by position.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "packed.h"

struct FireInputs {
  int64_t width;            // W, of the hidden layer
  float initialThreshold;   // which *threshold multiplies
  const float *w1, *b1;     // [W]
  const float *w2, *b2;     // [heads, W], [heads]
  const float *c, *threshold;
};

constexpr double kFireEpsilon = 1e-6;

// How far a distance or a position may lie outside the document: lanes beyond the last row, keys after the query.
constexpr int64_t kFireMargin = 2 * kBlock;

class FireTables {
 public:
  FireTables(const FireInputs& inputs, int64_t longestDocument, bool gradients) : in(inputs) {
    const int64_t size = longestDocument + 2 * kFireMargin;
    const double c = std::fabs(*in.c), threshold = std::fabs(*in.threshold * in.initialThreshold);
    numerator_.assign(size, 0.0f);
    inverse_.assign(size, 0.0f);
    for (int64_t i = kFireMargin; i < size; i++) {
      const double at = static_cast<double>(i - kFireMargin), longest = std::max(at, threshold);
      numerator_[i] = static_cast<float>(std::log(c * at + 1));
      inverse_[i] = static_cast<float>(1 / (std::log(c * longest + 1) + kFireEpsilon));
    }
    if (!gradients) return;
    for (auto* table : {&numeratorByC_, &denominatorByC_, &denominatorByThreshold_}) table->assign(size, 0.0f);
    for (int64_t i = kFireMargin; i < size; i++) {
      const double at = static_cast<double>(i - kFireMargin), longest = std::max(at, threshold);
      numeratorByC_[i] = static_cast<float>(at / (at * c + 1));
      denominatorByC_[i] = static_cast<float>(longest / (longest * c + 1));
      denominatorByThreshold_[i] = static_cast<float>(threshold > at ? c / (longest * c + 1) : 0);
    }
  }

  Floats numerator(int64_t distance) const { return at(numerator_, distance); }
  Floats inverse(int64_t position) const { return at(inverse_, position); }
  Floats numerator_by_c(int64_t distance) const { return at(numeratorByC_, distance); }
  Floats denominator_by_c(int64_t position) const { return at(denominatorByC_, position); }
  Floats denominator_by_threshold(int64_t position) const { return at(denominatorByThreshold_, position); }

  const FireInputs in;

 private:
  static Floats at(const std::vector<float>& table, int64_t first) { return load(table.data() + kFireMargin + first); }
  std::vector<float> numerator_, inverse_, numeratorByC_, denominatorByC_, denominatorByThreshold_;
};

// The bias of one key for a vector of queries.
inline Floats fire_bias(const FireTables& fire, int64_t head, Floats x) {
  const FireInputs& in = fire.in;
  Floats bias = splat(in.b2[head]);
  for (int64_t w = 0; w < in.width; w++)
    bias += in.w2[head * in.width + w] * at_least(x * in.w1[w] + in.b1[w], 0.0f);
  return bias;
}

// Sums of the gradients of FIRE's six parameters; those of |c| and |threshold|, whose signs are applied at the end.
struct FireSums {
  std::vector<double> w1, b1, w2, b2;
  double c = 0, threshold = 0;

  FireSums(int64_t width, int64_t heads) : w1(width), b1(width), w2(heads * width), b2(heads) {}

  void add(const FireSums& other) {
    const auto each = [](std::vector<double>& to, const std::vector<double>& from) {
      for (size_t i = 0; i < to.size(); i++) to[i] += from[i];
    };
    each(w1, other.w1);
    each(b1, other.b1);
    each(w2, other.w2);
    each(b2, other.b2);
    c += other.c;
    threshold += other.threshold;
  }
};

// Adds the contribution of one block, whose bias has the gradient dBias [keys, width]. `scratch` holds twice as many floats.
inline void fire_gradients(const FireTables& fire, const QueryBlock& block, KeyRange keys, int64_t head,
                           const float* dBias, float* scratch, FireSums& sums) {
  const FireInputs& in = fire.in;
  const int64_t width = block.width(), size = keys.count * width;
  float *x = scratch, *dx = scratch + size;
  Floats dB2{};
  for (int64_t c = 0; c < keys.count; c++) {
    for (int64_t lane = 0; lane < width; lane += kLanes) {
      const int64_t position = block.firstPosition + lane, at = c * width + lane;
      store(x + at, fire.numerator(position - keys.begin - c) * fire.inverse(position));
      store(dx + at, Floats{});
      dB2 += load(dBias + at);
    }
  }
  sums.b2[head] += sum_of(dB2);
  for (int64_t w = 0; w < in.width; w++) {
    const float w1 = in.w1[w], b1 = in.b1[w], w2 = in.w2[head * in.width + w];
    Floats dW1{}, dB1{}, dW2{};
    for (int64_t at = 0; at < size; at += kLanes) {
      const Floats along = load(x + at), gradient = load(dBias + at);
      const Floats before = along * w1 + b1;
      const Floats dHidden = before > 0.0f ? gradient * w2 : Floats{};
      dW2 += gradient * at_least(before, 0.0f);
      dB1 += dHidden;
      dW1 += dHidden * along;
      store(dx + at, load(dx + at) + dHidden * w1);
    }
    sums.w1[w] += sum_of(dW1);
    sums.b1[w] += sum_of(dB1);
    sums.w2[head * in.width + w] += sum_of(dW2);
  }
  for (int64_t lane = 0; lane < width; lane += kLanes) {
    const int64_t position = block.firstPosition + lane;
    const Floats inverse = fire.inverse(position);
    Floats byNumerator{}, byInverse{};
    for (int64_t c = 0; c < keys.count; c++) {
      const Floats gradient = load(dx + c * width + lane);
      byNumerator += gradient * fire.numerator_by_c(position - keys.begin - c);
      byInverse += gradient * fire.numerator(position - keys.begin - c);
    }
    const Floats dDenominator = byInverse * inverse * -inverse;
    sums.c += sum_of(byNumerator * inverse + dDenominator * fire.denominator_by_c(position));
    sums.threshold += sum_of(dDenominator * fire.denominator_by_threshold(position));
  }
}
