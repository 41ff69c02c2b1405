// One query of a group of heads against the cached keys of its document, in segments of whole pages.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "vector.h"

// Keys of a segment, counted from the document's first. Segments are computed each by itself and combined in order, so that
// the number of threads does not matter.
constexpr int64_t kSegment = 128;
// A stick of which less is left is exhausted: a float32 output changes only where values further back are some thirty times
// larger.
constexpr float kExhausted = 1.0f / (1 << 30);

// Whether stick-breaking attention stops where nothing is left; stick_breaking.cpp.
bool block_skipping();

struct DecodeShape {
  int64_t rows, heads, kvHeads, headDim, pageTokens, tableWidth;
  const int32_t* lengths;  // [rows]
  const int32_t* table;    // [rows, tableWidth]
  float logitScale;        // on q·k, log2(e) included
  bool stickBreaking, attendCurrent;
  int64_t window;          // softmax; 0: all keys
  const float* slopes;     // ALiBi's [heads], or null
  float exhausted;         // a stick below this is exhausted

  int64_t group() const { return heads / kvHeads; }
  // The keys a query sees: [first, end).
  int64_t end(int64_t row) const { return lengths[row] - (stickBreaking && !attendCurrent ? 1 : 0); }
  int64_t first(int64_t row) const {
    return stickBreaking || window == 0 ? 0 : std::max<int64_t>(0, lengths[row] - window);
  }
};

// What a segment comes to for one head: the weighted sum of its values, and for stick-breaking what it leaves of a whole stick,
// for softmax the largest logit and the sum of weights relative to it.
struct SegmentResult {
  float* output;  // [headDim]
  float left, largest, sum;
};

inline float dot(const float* a, const float* b, int64_t size) {
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < size; i++) total += a[i] * b[i];
  return total;
}

// A query's products with some consecutive keys, at most as many as a vector has lanes.
inline Floats dots(const float* query, const float* keys, int64_t count, int64_t dim) {
  Floats products{};
  if (dim % kLanes != 0) {
    for (int64_t i = 0; i < count; i++) products[i] = dot(query, keys + i * dim, dim);
    return products;
  }
  // Four at a time, whose lanes are added up side by side; behind the last key, the last again.
  float sums[kLanes] = {};
  for (int64_t i = 0; i < count; i += 4) {
    const float* key[4];
    for (int64_t j = 0; j < 4; j++) key[j] = keys + std::min(i + j, count - 1) * dim;
    Floats sum[4] = {};
    for (int64_t at = 0; at < dim; at += kLanes) {
      const Floats own = load(query + at);
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) sum[j] += own * load(key[j] + at);
    }
    sum_lanes(sum[0], sum[1], sum[2], sum[3], sums + i);
  }
  return load(sums);
}

inline void add_scaled(float* to, float factor, const float* from, int64_t size) {
#pragma omp simd
  for (int64_t i = 0; i < size; i++) to[i] += factor * from[i];
}

// to [dim] += Σ weights[i]·values[i], from the last of `count` to the first.
inline void add_weighted(float* to, Floats weights, const float* values, int64_t count, int64_t dim) {
  int64_t at = 0;
  for (; at + 2 * kLanes <= dim; at += 2 * kLanes) {
    Floats first = load(to + at), second = load(to + at + kLanes);
    for (int64_t i = count - 1; i >= 0; i--) {
      first += weights[i] * load(values + i * dim + at);
      second += weights[i] * load(values + i * dim + at + kLanes);
    }
    store(to + at, first);
    store(to + at + kLanes, second);
  }
  for (int64_t i = count - 1; i >= 0 && at < dim; i--) add_scaled(to + at, weights[i], values + i * dim + at, dim - at);
}

// Some consecutive keys, from the last: each takes its share of what is left.
inline void break_stick(Floats logits, int64_t count, const float* values, int64_t dim, SegmentResult& result) {
  const Floats t = exp2_of(logits), oneMinusBeta = 1.0f / (1.0f + t), sigmoid = t * oneMinusBeta;
  Floats weights{};
  for (int64_t i = count - 1; i >= 0; i--) {
    weights[i] = result.left * sigmoid[i];
    result.left *= oneMinusBeta[i];
  }
  add_weighted(result.output, weights, values, count, dim);
}

// Some consecutive keys, the first of which lies `distance` before the query.
inline void add_softmax(Floats logits, int64_t count, float slope, float distance, const float* values, int64_t dim,
                        SegmentResult& result) {
  float most = result.largest;
  for (int64_t i = 0; i < count; i++) {
    logits[i] -= slope * (distance - static_cast<float>(i));
    most = std::max(most, logits[i]);
  }
  if (most > result.largest) {
    const float factor = exp2_or_zero(splat(result.largest - most))[0];
    for (int64_t i = 0; i < dim; i++) result.output[i] *= factor;
    result.sum *= factor;
    result.largest = most;
  }
  const Floats weights = exp2_or_zero(logits - most);
  for (int64_t i = 0; i < count; i++) result.sum += weights[i];
  add_weighted(result.output, weights, values, count, dim);
}

// Keys [begin, end) of one key-value head, all within a segment, for the heads of its group; `results` [group]. Pages are read
// from the last; stick-breaking stops behind a page that leaves nothing of any head's stick. Returns how many keys were read.
inline int64_t decode_segment(const DecodeShape& shape, int64_t row, int64_t kvHead, int64_t begin, int64_t end,
                              const float* queries, const float* keyPages, const float* valuePages,
                              SegmentResult* results) {
  const int64_t group = shape.group(), dim = shape.headDim, tokens = shape.pageTokens;
  for (int64_t g = 0; g < group; g++) {
    std::fill(results[g].output, results[g].output + dim, 0.0f);
    results[g].left = 1;
    results[g].largest = -1e30f;
    results[g].sum = 0;
  }
  int64_t at = end;
  while (at > begin) {
    const int64_t page = (at - 1) / tokens, from = std::max(begin, page * tokens);
    const int64_t place =
        (shape.table[row * shape.tableWidth + page] * shape.kvHeads + kvHead) * tokens * dim - page * tokens * dim;
    const float *keys = keyPages + place, *values = valuePages + place;
    bool exhausted = shape.stickBreaking;
    for (int64_t g = 0; g < group; g++) {
      SegmentResult& result = results[g];
      const float slope = shape.slopes ? shape.slopes[kvHead * group + g] * kLog2E : 0.0f;
      // As many keys at once as a vector has lanes, from the last.
      for (int64_t high = at; high > from; high -= kLanes) {
        const int64_t low = std::max(from, high - kLanes), count = high - low;
        const Floats logits = dots(queries + g * dim, keys + low * dim, count, dim);
        if (shape.stickBreaking) break_stick(logits, count, values + low * dim, dim, result);
        else add_softmax(logits, count, slope, static_cast<float>(shape.lengths[row] - 1 - low), values + low * dim, dim, result);
      }
      exhausted = exhausted && !(result.left >= shape.exhausted);
    }
    at = from;
    if (exhausted) break;
  }
  return end - at;
}
