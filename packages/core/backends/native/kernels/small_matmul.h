// Matmul of blocks that lie in the first two caches, as in attention, without copying them into panels. A register tile of c
// is summed over the whole depth. Numbers of a are broadcast to all lanes as they are read, so a may be transposed.
#pragma once
#include <cstdint>

#include "vector.h"

// The rows of a block are a multiple of this, its columns a multiple of kLanes.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows = 8;
#else
constexpr int kTileRows = 4;
#endif

template <bool kTransposeA, int kVectors>
inline void small_tile(int64_t depth, const float* __restrict a, int64_t lda, const float* __restrict b, int64_t ldb,
                       float* __restrict c, int64_t ldc, bool accumulate) {
  Floats sum[kTileRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; i++) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) sum[i][v] = accumulate ? load(c + i * ldc + v * kLanes) : Floats{};
  }
  for (int64_t p = 0; p < depth; p++) {
    Floats right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) right[v] = load(b + p * ldb + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kTileRows; i++) {
      const float left = kTransposeA ? a[p * lda + i] : a[i * lda + p];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) sum[i][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; i++) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) store(c + i * ldc + v * kLanes, sum[i][v]);
  }
}

// c[rows, columns] (+)= op(a)[rows, depth] · b[depth, columns]; op transposes where asked.
template <bool kTransposeA>
inline void small_matmul(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t lda, const float* b,
                          int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  const int64_t rowStep = kTransposeA ? 1 : lda;
  int64_t j = 0;
  for (; j + 2 * kLanes <= columns; j += 2 * kLanes) {
    for (int64_t i = 0; i < rows; i += kTileRows)
      small_tile<kTransposeA, 2>(depth, a + i * rowStep, lda, b + j, ldb, c + i * ldc + j, ldc, accumulate);
  }
  for (; j < columns; j += kLanes) {
    for (int64_t i = 0; i < rows; i += kTileRows)
      small_tile<kTransposeA, 1>(depth, a + i * rowStep, lda, b + j, ldb, c + i * ldc + j, ldc, accumulate);
  }
}
