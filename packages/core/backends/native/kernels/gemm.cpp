// Our own matmul, after Goto and van de Geijn (https://doi.org/10.1145/1356052.1356053): both operands are copied into panels
// that a register tile reads in order. Every element of c is summed over k in the same order, whatever the number of threads.
#include "gemm.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "parallel.h"

namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16, kRows = 12;
#elif defined(__AVX2__)
constexpr int kWidth = 8, kRows = 6;
#else
constexpr int kWidth = 4, kRows = 8;
#endif
constexpr int kVectors = 2;
constexpr int kColumns = kWidth * kVectors;
constexpr int64_t kDepth = 256;                // of k, in one go
constexpr int64_t kMostPanels = 8;             // of either operand, to one item of work
constexpr int64_t kWantedItems = 32;

typedef float Vector __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));

// The tile [kRows, kColumns] of the product of two panels.
inline void tile(int64_t depth, const float* __restrict a, const float* __restrict b, Vector (&sum)[kRows][kVectors]) {
  Vector acc[kRows][kVectors] = {};
  for (int64_t p = 0; p < depth; p++) {
    Vector right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) right[v] = *reinterpret_cast<const Vector*>(b + p * kColumns + v * kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; i++) {
      const float left = a[p * kRows + i];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) acc[i][v] += left * right[v];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; i++) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) sum[i][v] = acc[i][v];
  }
}

// Copies lines first … first+width of x, from..from+depth of k, as [depth, width], zeros beyond `lines`. A line's
// element p lies at x[line * lineStride + p * depthStride].
void pack(const float* x, int64_t lineStride, int64_t depthStride, int64_t lines, int64_t depth, int width, float* to) {
  const int real = static_cast<int>(std::min<int64_t>(width, lines));
  if (lineStride == 1) {
    for (int64_t p = 0; p < depth; p++) {
      const float* from = x + p * depthStride;
      for (int i = 0; i < real; i++) to[p * width + i] = from[i];
      for (int i = real; i < width; i++) to[p * width + i] = 0;
    }
    return;
  }
  for (int i = 0; i < real; i++) {
    const float* from = x + i * lineStride;
    for (int64_t p = 0; p < depth; p++) to[p * width + i] = from[p * depthStride];
  }
  for (int i = real; i < width; i++) {
    for (int64_t p = 0; p < depth; p++) to[p * width + i] = 0;
  }
}

void store(const Vector (&sum)[kRows][kVectors], float* c, int64_t ldc, int64_t rows, int64_t columns, bool add) {
  const float* from = reinterpret_cast<const float*>(sum);
  if (rows >= kRows && columns >= kColumns) {
    for (int i = 0; i < kRows; i++) {
      for (int v = 0; v < kVectors; v++) {
        Vector* to = reinterpret_cast<Vector*>(c + i * ldc + v * kWidth);
        *to = add ? *to + sum[i][v] : sum[i][v];
      }
    }
    return;
  }
  for (int64_t i = 0; i < std::min<int64_t>(rows, kRows); i++) {
    for (int64_t j = 0; j < std::min<int64_t>(columns, kColumns); j++) {
      float* to = c + i * ldc + j;
      *to = add ? *to + from[i * kColumns + j] : from[i * kColumns + j];
    }
  }
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

void own_gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
              const float* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  const int64_t rowPanels = ceil_div(m, kRows), columnPanels = ceil_div(n, kColumns);
  const int64_t depthMax = std::min(k, kDepth);
  static std::vector<float> packedA, packedB;  // the caller is one thread
  if (static_cast<int64_t>(packedA.size()) < rowPanels * kRows * depthMax) packedA.resize(rowPanels * kRows * depthMax);
  if (static_cast<int64_t>(packedB.size()) < columnPanels * kColumns * depthMax)
    packedB.resize(columnPanels * kColumns * depthMax);
  float* const pa = packedA.data();
  float* const pb = packedB.data();

  // Items of work: as many panels as leave enough items for several threads.
  int64_t across = kMostPanels, down = kMostPanels, packed = kMostPanels;
  while (across * down > 1 && ceil_div(rowPanels, down) * ceil_div(columnPanels, across) < kWantedItems)
    (across > down ? across : down) /= 2;
  while (packed > 1 && ceil_div(rowPanels + columnPanels, packed) < kWantedItems) packed /= 2;
  const int64_t blockRows = down * kRows, blockColumns = across * kColumns;

  for (int64_t from = 0; from < k; from += kDepth) {
    const int64_t depth = std::min(kDepth, k - from);
    parallel_for(ceil_div(rowPanels + columnPanels, packed), [&](int64_t item) {
      for (int64_t panel = item * packed; panel < std::min((item + 1) * packed, rowPanels + columnPanels); panel++) {
        if (panel < rowPanels) {
          const int64_t row = panel * kRows, ls = transposeA ? 1 : lda, ds = transposeA ? lda : 1;
          pack(a + row * ls + from * ds, ls, ds, m - row, depth, kRows, pa + row * depth);
        } else {
          const int64_t column = (panel - rowPanels) * kColumns, ls = transposeB ? ldb : 1, ds = transposeB ? 1 : ldb;
          pack(b + column * ls + from * ds, ls, ds, n - column, depth, kColumns, pb + column * depth);
        }
      }
    });
    const int64_t blocksDown = ceil_div(m, blockRows), blocksAcross = ceil_div(n, blockColumns);
    parallel_for(blocksDown * blocksAcross, [&](int64_t item) {
      const int64_t row0 = item % blocksDown * blockRows, column0 = item / blocksDown * blockColumns;
      for (int64_t column = column0; column < std::min(n, column0 + blockColumns); column += kColumns) {
        for (int64_t row = row0; row < std::min(m, row0 + blockRows); row += kRows) {
          Vector sum[kRows][kVectors];
          tile(depth, pa + row * depth, pb + column * depth, sum);
          store(sum, c + row * ldc + column, ldc, m - row, n - column, accumulate || from > 0);
        }
      }
    });
  }
}
