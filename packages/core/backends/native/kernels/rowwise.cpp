// x·weightᵀ for few rows, as in generation: the weights are read once, and every number is summed over k in one order,
// whatever the number of rows or threads, so a row's bits do not depend on the rows beside it.
#include "rowwise.h"

#include <algorithm>

#include "parallel.h"
#include "vector.h"

namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kMostRows = 4;
#else
constexpr int kMostRows = 2;
#endif
constexpr int kOuts = 4;  // sum_lanes takes four
constexpr int64_t kTile = kOuts * 4;
// Of k in one go: what a tile reads stays in the first cache.
constexpr int64_t kDepth = 512;
// Below this many products, waking other threads costs more than it gains.
constexpr int64_t kAlone = 1 << 16;

// Lanes of two vectors in another order, counted through both.
#if defined(__clang__) || __GNUC__ >= 12
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (Ints){__VA_ARGS__})
#endif

// The sum of each vector's lanes: its halves are added until one lane is left, those of all four side by side.
inline void sum_lanes(Floats a, Floats b, Floats c, Floats d, float* sums) {
#if defined(__AVX512F__)
  const Floats ab = PICK(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                    PICK(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const Floats cd = PICK(c, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                    PICK(c, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  Floats all = PICK(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
               PICK(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  all += PICK(all, all, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  all += PICK(all, all, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif defined(__AVX2__)
  const Floats ab = PICK(a, b, 0, 1, 2, 3, 8, 9, 10, 11) + PICK(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  const Floats cd = PICK(c, d, 0, 1, 2, 3, 8, 9, 10, 11) + PICK(c, d, 4, 5, 6, 7, 12, 13, 14, 15);
  Floats all = PICK(ab, cd, 0, 1, 4, 5, 8, 9, 12, 13) + PICK(ab, cd, 2, 3, 6, 7, 10, 11, 14, 15);
  all += PICK(all, all, 1, 0, 3, 2, 5, 4, 7, 6);
#else
  const Floats ab = PICK(a, b, 0, 1, 4, 5) + PICK(a, b, 2, 3, 6, 7);
  const Floats cd = PICK(c, d, 0, 1, 4, 5) + PICK(c, d, 2, 3, 6, 7);
  const Floats all = PICK(ab, cd, 0, 2, 4, 6) + PICK(ab, cd, 1, 3, 5, 7);
#endif
  for (int o = 0; o < 4; o++) sums[o] = all[o * kLanes / 4];
}

// Adds to y [rows, outs], or begins it, the products of kRows rows and kColumns weights over `depth` of their `width` numbers.
template <int kRows, int kColumns>
inline void tile(int64_t depth, int64_t width, const float* x, const float* weight, float* y, int64_t outs, bool add) {
  Floats sum[kRows][kColumns] = {};
  int64_t k = 0;
  for (; k + kLanes <= depth; k += kLanes) {
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
    float sums[4];
    if constexpr (kColumns == kOuts) sum_lanes(sum[r][0], sum[r][1], sum[r][2], sum[r][3], sums);
    else sum_lanes(sum[r][0], Floats{}, Floats{}, Floats{}, sums);
    for (int o = 0; o < kColumns; o++) {
      float rest = 0;
      for (int64_t i = k; i < depth; i++) rest = __builtin_fmaf(x[r * width + i], weight[o * width + i], rest);
      const float whole = sums[o] + rest;
      y[r * outs + o] = add ? y[r * outs + o] + whole : whole;
    }
  }
}

template <int kColumns>
inline void columns(int64_t rows, int64_t width, const float* x, const float* weight, float* y, int64_t outs) {
  int64_t k = 0;
  do {
    const int64_t depth = std::min(kDepth, width - k);
    int64_t r = 0;
    for (; r + kMostRows <= rows; r += kMostRows)
      tile<kMostRows, kColumns>(depth, width, x + r * width + k, weight + k, y + r * outs, outs, k > 0);
    for (; r < rows; r++) tile<1, kColumns>(depth, width, x + r * width + k, weight + k, y + r * outs, outs, k > 0);
    k += kDepth;
  } while (k < width);
}

}  // namespace

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
