// What the backward kernels that go by blocks of queries share.
#pragma once
#include "flash_far.cuh"

// The tiles that a warpgroup's queries work on: from … upper − 1.
struct Span {
  int from, upper;
  __device__ Span(const Attention& p, const QueryItem& item, int wg, int head) {
    const int have = min(TILE_ROWS, item.rows - wg * TILE_ROWS), sees = MECHANISM == SOFTMAX ? 1 : p.attendCurrent;
    upper = have > 0 ? tiles_of(FARTHER ? item.keys : item.first + wg * TILE_ROWS + have - 1 + sees) : 0;
    from = p.window ? max(0, item.first + wg * TILE_ROWS + 1 - p.window) / TILE_ROWS : 0;
    if (MECHANISM == STICK_BREAKING && have > 0) from = (int)stops_of(p)[(i64)head * p.rowBlocks + item.rowBlock + wg];
    if (have <= 0) from = 1 << 30;
  }
};

// Σ dO·O of a row, by the four threads of a quad.
__device__ __forceinline__ float row_delta(const bf16* output, const bf16* dOutput, int c) {
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < D / 32; i++) {
    float a[8], b[8];
    load8(output + (4 * i + c) * 8, a);
    load8(dOutput + (4 * i + c) * 8, b);
#pragma unroll
    for (int j = 0; j < 8; j++) sum = fmaf(a[j], b[j], sum);
  }
  sum += __shfl_xor_sync(0xffffffffu, sum, 1);
  return sum + __shfl_xor_sync(0xffffffffu, sum, 2);
}
