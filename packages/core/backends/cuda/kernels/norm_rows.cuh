// The root-mean-square norm over rows [N, C], alone or of a residual sum, and its gradient, for a residual stream of BITS: how its
// numbers lie in memory, eight at a time (Bits16 here, Bits24 in residual_fp24.cu).
//
// One block works a row: each thread has the columns 8·(thread + k·threads) … +8, for k below GROUPS. All that is read of a row is
// on its way before the sum over the row is taken, and what is read once stays in registers.
#pragma once
#include "fp8.cuh"

// NORM_THREADS of a block at most; and of a multiprocessor at least, which bounds the registers of a thread.
#define NORM_BOUNDS(GROUPS) __launch_bounds__(NORM_THREADS, GROUPS == 1 ? 2 : 1)

struct Bits16 {
  typedef uint4 Packed;
  static __device__ __forceinline__ void unpack(const Packed& p, float (&v)[8]) { unpack8(p, v); }

  struct Source {
    const bf16* numbers;
    __device__ __forceinline__ explicit operator bool() const { return numbers; }
    template <bool ALIGNED>
    __device__ __forceinline__ Packed load(i64 at, i64 c, i64 columns) const {
      return load_packed<ALIGNED>(numbers + at, c, columns);
    }
  };
  struct Target {
    bf16* numbers;
    // Returns what was stored.
    template <bool ALIGNED>
    __device__ __forceinline__ Packed store(i64 at, i64 c, i64 columns, const float (&v)[8]) const {
      store_row<ALIGNED>(numbers + at, c, columns, v);
      return pack8(v);
    }
  };
};

// y = norm of x, or of sum = x + multiplier·branch where there is a branch. The norm is that of the sum as it is stored. Where y8
// is not null it gets y in eight bits, in rows of `width`; columns are then a multiple of eight.
template <class BITS, int GROUPS, bool ALIGNED>
__device__ __forceinline__ void rms_norm_row(bf16* y, typename BITS::Target sum, float* inverseRms,
                                             typename BITS::Source x, const bf16* branch, const float* weight,
                                             float multiplier, int columns, float epsilon, e4m3* y8, float* scales,
                                             int width) {
  const i64 row = (i64)blockIdx.x * columns;
  typename BITS::Packed kept[GROUPS];
  uint4 added[GROUPS] = {};
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    const int c = (threadIdx.x + k * blockDim.x) * 8;
    if (c >= columns) continue;
    kept[k] = x.template load<ALIGNED>(row, c, columns);
    if (branch) added[k] = load_packed<ALIGNED>(branch + row, c, columns);
  }
  float s = 0.f;
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    const int c = (threadIdx.x + k * blockDim.x) * 8;
    if (c >= columns) continue;
    float v[8], b[8];
    BITS::unpack(kept[k], v);
    if (branch) {
      unpack8(added[k], b);
#pragma unroll
      for (int j = 0; j < 8; j++) v[j] = fmaf(multiplier, b[j], v[j]);
      kept[k] = sum.template store<ALIGNED>(row, c, columns, v);
      BITS::unpack(kept[k], v);
    }
#pragma unroll
    for (int j = 0; j < 8; j++) s += v[j] * v[j];
  }
  const float r = rsqrtf(block_sum(s) / columns + epsilon);
  if (threadIdx.x == 0) inverseRms[blockIdx.x] = r;
  uint4 last[GROUPS];
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    const int c = (threadIdx.x + k * blockDim.x) * 8;
    last[k] = make_uint4(0, 0, 0, 0);
    if (c >= columns) continue;
    float v[8], w[8];
    BITS::unpack(kept[k], v);
    load_row<ALIGNED>(weight, c, columns, w);
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] *= r * w[j];
    store_row<ALIGNED>(y + row, c, columns, v);
    last[k] = pack8(v);
  }
  if (y8) write_row_e4m3(y8 + (i64)blockIdx.x * width, scales + blockIdx.x, last, width);
}

// What the gradient reads of a row.
template <class BITS, int GROUPS, bool ALIGNED>
struct NormRow {
  uint4 x[GROUPS], dy[GROUPS];
  typename BITS::Packed dSum[GROUPS];
  float r;

  __device__ __forceinline__ void load(const bf16* xs, const bf16* dys, typename BITS::Source dSums,
                                       const float* inverseRms, int row, int columns) {
    const i64 base = (i64)row * columns;
    r = inverseRms[row];
#pragma unroll
    for (int k = 0; k < GROUPS; k++) {
      const int c = (threadIdx.x + k * blockDim.x) * 8;
      if (c >= columns) continue;
      x[k] = load_packed<ALIGNED>(xs + base, c, columns);
      dy[k] = load_packed<ALIGNED>(dys + base, c, columns);
      dSum[k] = dSums ? dSums.template load<ALIGNED>(base, c, columns) : typename BITS::Packed{};
    }
  }
};

// dx = dSum + r (w·dy − x r² mean(w·dy·x)), without dSum where it is null; dBranch = multiplier·dx where it is not null.
// partial[block, c] collects dy·x·r over the rows of the block. In EIGHT_BITS d8 gets dBranch, or without it dx, in rows of
// `width`. x and dBranch are what matmuls read, in bfloat16.
template <class BITS, int GROUPS, bool ALIGNED, bool EIGHT_BITS>
__device__ __forceinline__ void rms_norm_grad_rows(typename BITS::Target dx, bf16* dBranch, float* partial, const bf16* x,
                                                   const float* weight, const float* inverseRms, const bf16* dy,
                                                   typename BITS::Source dSum, float multiplier, int rows, int columns,
                                                   e4m3* d8 = nullptr, float* scales = nullptr, int width = 0) {
  // With few columns a thread the next row is on its way while this one is worked.
  constexpr bool AHEAD = GROUPS == 1;
  float dw[GROUPS][8] = {};
  NormRow<BITS, GROUPS, ALIGNED> next;
  if (AHEAD) next.load(x, dy, dSum, inverseRms, blockIdx.x, columns);
  for (int row = blockIdx.x; row < rows; row += gridDim.x) {
    NormRow<BITS, GROUPS, ALIGNED> now;
    if (AHEAD) {
      now = next;
      if (row + (int)gridDim.x < rows) next.load(x, dy, dSum, inverseRms, row + gridDim.x, columns);
    } else {
      now.load(x, dy, dSum, inverseRms, row, columns);
    }
    float dot = 0.f;
#pragma unroll
    for (int k = 0; k < GROUPS; k++) {
      const int c = (threadIdx.x + k * blockDim.x) * 8;
      if (c >= columns) continue;
      float xs[8], gs[8], w[8];
      unpack8(now.x[k], xs);
      unpack8(now.dy[k], gs);
      load_row<ALIGNED>(weight, c, columns, w);
#pragma unroll
      for (int j = 0; j < 8; j++) {
        const float along = gs[j] * xs[j];
        dw[k][j] += along * now.r;
        dot += along * w[j];
      }
    }
    const float m = block_sum(dot) / columns * now.r * now.r;
    const i64 base = (i64)row * columns;
    uint4 last[GROUPS];
#pragma unroll
    for (int k = 0; k < GROUPS; k++) {
      const int c = (threadIdx.x + k * blockDim.x) * 8;
      if (EIGHT_BITS) last[k] = make_uint4(0, 0, 0, 0);
      if (c >= columns) continue;
      float xs[8], gs[8], w[8], d[8];
      unpack8(now.x[k], xs);
      unpack8(now.dy[k], gs);
      BITS::unpack(now.dSum[k], d);
      load_row<ALIGNED>(weight, c, columns, w);
#pragma unroll
      for (int j = 0; j < 8; j++) d[j] += now.r * (gs[j] * w[j] - xs[j] * m);
      dx.template store<ALIGNED>(base, c, columns, d);
      if (dBranch) {
#pragma unroll
        for (int j = 0; j < 8; j++) d[j] *= multiplier;
        store_row<ALIGNED>(dBranch + base, c, columns, d);
      }
      if (EIGHT_BITS) last[k] = pack8(d);
    }
    if constexpr (EIGHT_BITS) write_row_e4m3(d8 + (i64)row * width, scales + row, last, width);
  }
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    const int c = (threadIdx.x + k * blockDim.x) * 8;
    if (c >= columns) continue;
#pragma unroll
    for (int j = 0; j < 8; j++)
      if (c + j < columns) partial[(i64)blockIdx.x * columns + c + j] = dw[k][j];
  }
}
