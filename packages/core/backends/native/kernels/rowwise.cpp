// x·weightᵀ for few rows, as in generation: the weights are read once, and every number is summed over k in one order,
// whatever the number of rows or threads, so a row's bits do not depend on the rows beside it. The order is that of a vector:
// each lane sums the k that are its own, and lanes are added by halves. A row alone has k in the lanes. Rows that fill a
// vector have a lane each, and the sums of what would be a lane stand apart, which spares adding up lanes.
#include "rowwise.h"

#include <algorithm>
#include <vector>

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
// Weights against which rows in lanes are multiplied at once.
constexpr int kAbreast = 8;
// So many rows fill a vector well enough to have a lane each.
constexpr int64_t kFewestInLanes = kLanes * 3 / 4;
// Of k in one go: what a tile reads stays in the first cache.
constexpr int64_t kDepth = 512;
// Below this many products, waking other threads costs more than it gains.
constexpr int64_t kAlone = 1 << 16;

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

// Rows of x [rows, width], so many to a group, as [groups, width, kLanes]; where there are no more, zeros.
std::vector<float> rows_in_lanes(int64_t groups, int64_t rows, int64_t width, const float* x) {
  std::vector<float> turned(groups * width * kLanes);
  for (int64_t r = 0; r < std::min(rows, groups * kLanes); r++) {
    float* to = turned.data() + r / kLanes * width * kLanes + r % kLanes;
    for (int64_t k = 0; k < width; k++) to[k * kLanes] = x[r * width + k];
  }
  return turned;
}

// y [rows, outs] of one group and kColumns weights.
template <int kColumns>
inline void lanes(int64_t rows, int64_t width, const float* x, const float* weight, float* y, int64_t outs) {
  Floats total[kColumns] = {};
  for (int64_t begin = 0; begin == 0 || begin < width; begin += kDepth) {
    const int64_t end = std::min(width, begin + kDepth), whole = begin + (end - begin) / kLanes * kLanes;
    Floats part[kLanes][kColumns];
    for (int lane = 0; lane < kLanes; lane++) {
      Floats sum[kColumns] = {};
      for (int64_t k = begin + lane; k < whole; k += kLanes) {
        const Floats left = load(x + k * kLanes);
#pragma GCC unroll 8
        for (int o = 0; o < kColumns; o++) sum[o] += left * weight[o * width + k];
      }
      for (int o = 0; o < kColumns; o++) part[lane][o] = sum[o];
    }
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int lane = 0; lane < half; lane++) {
        for (int o = 0; o < kColumns; o++) part[lane][o] += part[lane + half][o];
      }
    }
    for (int o = 0; o < kColumns; o++) {
      Floats rest = {};
      for (int64_t k = whole; k < end; k++) {
        for (int r = 0; r < kLanes; r++) rest[r] = __builtin_fmaf(x[k * kLanes + r], weight[o * width + k], rest[r]);
      }
      total[o] = begin > 0 ? total[o] + (part[0][o] + rest) : part[0][o] + rest;
    }
  }
  for (int64_t r = 0; r < rows; r++) {
    for (int o = 0; o < kColumns; o++) y[r * outs + o] = total[o][r];
  }
}

}  // namespace

extern "C" void sb_rowwise(int64_t rows, int64_t outs, int64_t width, const float* x, const float* weight, float* y) {
  // The first rows have lanes, the others, too few, are multiplied row by row.
  const int64_t inGroups = (rows + kLanes - kFewestInLanes) / kLanes * kLanes, inLanes = std::min(rows, inGroups);
  const std::vector<float> turned = rows_in_lanes(inGroups / kLanes, inLanes, width, x);
  const int64_t groups = (outs + kTile - 1) / kTile;
  const int64_t work = std::max<int64_t>(1, rows * width * kTile);
  const int64_t perItem = std::max<int64_t>(1, std::min(kAlone / work, (groups + 63) / 64));
  const bool alone = rows * outs * width <= kAlone;
  const int64_t items = alone ? 1 : (groups + perItem - 1) / perItem;
  const int64_t step = alone ? outs : perItem * kTile;
  parallel_for(items, [&](int64_t item) {
    const int64_t end = std::min(outs, (item + 1) * step);
    for (int64_t o = item * step; o < end;) {
      const int64_t count = std::min<int64_t>(kAbreast, end - o);
      for (int64_t r = 0; r < inLanes; r += kLanes) {
        const float* group = turned.data() + r * width;
        const int64_t own = std::min<int64_t>(kLanes, inLanes - r);
        if (count == kAbreast) lanes<kAbreast>(own, width, group, weight + o * width, y + r * outs + o, outs);
        else for (int64_t i = o; i < o + count; i++) lanes<1>(own, width, group, weight + i * width, y + r * outs + i, outs);
      }
      o += count;
    }
    if (inLanes == rows) return;
    const float* others = x + inLanes * width;
    float* to = y + inLanes * outs;
    int64_t o = item * step;
    for (; o + kOuts <= end; o += kOuts) columns<kOuts>(rows - inLanes, width, others, weight + o * width, to + o, outs);
    for (; o < end; o++) columns<1>(rows - inLanes, width, others, weight + o * width, to + o, outs);
  });
}
