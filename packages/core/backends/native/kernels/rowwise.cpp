// x·weightᵀ for few rows, as in generation: the weights are read once, and every number is summed over k in one order,
// whatever the number of rows or threads, so a row's bits do not depend on the rows beside it.
#include <algorithm>
#include <cstdint>

#include "parallel.h"
#include "vector.h"

namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kMostRows = 4;
#else
constexpr int kMostRows = 2;
#endif
constexpr int kOuts = 4;
constexpr int64_t kTile = kOuts * kMostRows;
// Below this many products, waking other threads costs more than it gains.
constexpr int64_t kAlone = 1 << 16;

inline float sum_lanes(Floats x) {
  float total = x[0];
  for (int i = 1; i < kLanes; i++) total += x[i];
  return total;
}

// y[rows, outs] of kRows rows and kColumns weights.
template <int kRows, int kColumns>
inline void tile(int64_t width, const float* x, const float* weight, float* y, int64_t outs) {
  Floats sum[kRows][kColumns] = {};
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes) {
    Floats right[kColumns];
#pragma GCC unroll 8
    for (int o = 0; o < kColumns; o++) right[o] = load(weight + o * width + k);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) {
      const Floats left = load(x + r * width + k);
#pragma GCC unroll 8
      for (int o = 0; o < kColumns; o++) sum[r][o] += left * right[o];
    }
  }
  for (int r = 0; r < kRows; r++) {
    for (int o = 0; o < kColumns; o++) {
      float rest = 0;
      for (int64_t i = k; i < width; i++) rest = __builtin_fmaf(x[r * width + i], weight[o * width + i], rest);
      y[r * outs + o] = sum_lanes(sum[r][o]) + rest;
    }
  }
}

template <int kColumns>
inline void columns(int64_t rows, int64_t width, const float* x, const float* weight, float* y, int64_t outs) {
  int64_t r = 0;
  for (; r + kMostRows <= rows; r += kMostRows) tile<kMostRows, kColumns>(width, x + r * width, weight, y + r * outs, outs);
  for (; r < rows; r++) tile<1, kColumns>(width, x + r * width, weight, y + r * outs, outs);
}

}  // namespace

// x [rows, width], weight [outs, width], y [rows, outs].
extern "C" void sb_rowwise(int64_t rows, int64_t outs, int64_t width, const float* x, const float* weight, float* y) {
  const int64_t groups = (outs + kTile - 1) / kTile;
  const int64_t work = std::max<int64_t>(1, rows * width * kTile);
  const int64_t perItem = std::max<int64_t>(1, std::min(kAlone / work, (groups + 63) / 64));
  const bool alone = rows * outs * width <= kAlone;
  const int64_t items = alone ? 1 : (groups + perItem - 1) / perItem;
  const int64_t step = alone ? outs : perItem * kTile;
  parallel_for(items, [&](int64_t item) {
    const int64_t end = std::min(outs, (item + 1) * step);
    int64_t o = item * step;
    for (; o + kOuts <= end; o += kOuts) columns<kOuts>(rows, width, x, weight + o * width, y + o, outs);
    for (; o < end; o++) columns<1>(rows, width, x, weight + o * width, y + o, outs);
  });
}
