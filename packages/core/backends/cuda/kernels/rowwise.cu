// x·weightᵀ for up to 64 rows, as in generation: the weights are read once, at the speed of memory. Every number is summed
// over k in one order, whatever the number of rows, so that a row's bits do not depend on the rows beside it.
//
// The matrix units take x as the left operand, 16 rows at a time, and weights as the right, 8 outputs at a time. The eight
// warps of a block share k: each sums its own run of 32-wide steps, and their sums are added in the warps' order. Which k a
// lane holds is the same for both operands and otherwise free, so each lane loads 16 bytes that lie together.
#include "common.cuh"

#define WARPS 8
#define STEP 32

__device__ __forceinline__ void multiply_tile(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                              unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint4 load16(const bf16* p, bool inside) {
  return inside ? *reinterpret_cast<const uint4*>(p) : make_uint4(0, 0, 0, 0);
}
// Weights are read once: they need not stay in the first cache.
__device__ __forceinline__ uint4 load16_once(const bf16* p, bool inside) {
  uint4 v = make_uint4(0, 0, 0, 0);
  if (inside)
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}

// ROWS: tiles of 16 rows; OUTS: tiles of 8 outputs of a block. y [rows, outs], rows yStride apart; width a multiple of 8.
template <int ROWS, int OUTS, int AHEAD>
__device__ __forceinline__ void rowwise_block(bf16* y, i64 yStride, const bf16* x, i64 xStride, const bf16* weight, i64 wStride,
                                              int rows, int outs, int width) {
  __shared__ float part[WARPS][ROWS * OUTS * 4 * 32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, line = lane / 4, quad = lane % 4;
  const int firstOut = blockIdx.x * OUTS * 8;
  const int steps = (width + STEP - 1) / STEP, from = warp * steps / WARPS, to = (warp + 1) * steps / WARPS;
  float sum[ROWS][OUTS][4] = {};
  for (int at = from; at < to; at += AHEAD) {
    // All that a few steps read of the weights is on its way before the first is used.
    uint4 w[AHEAD][OUTS];
#pragma unroll
    for (int s = 0; s < AHEAD; s++) {
#pragma unroll
      for (int o = 0; o < OUTS; o++) {
        const int out = firstOut + o * 8 + line, k = (at + s) * STEP + quad * 8;
        w[s][o] = load16_once(weight + out * wStride + k, at + s < to && out < outs && k < width);
      }
    }
#pragma unroll
    for (int s = 0; s < AHEAD; s++) {
      const int k = (at + s) * STEP + quad * 8;
      const bool inside = at + s < to && k < width;
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        const int row = r * 16 + line;
        const uint4 low = load16(x + row * xStride + k, inside && row < rows);
        const uint4 high = load16(x + (row + 8) * xStride + k, inside && row + 8 < rows);
#pragma unroll
        for (int o = 0; o < OUTS; o++) {
          multiply_tile(sum[r][o], low.x, high.x, low.y, high.y, w[s][o].x, w[s][o].y);
          multiply_tile(sum[r][o], low.z, high.z, low.w, high.w, w[s][o].z, w[s][o].w);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++)
#pragma unroll
    for (int o = 0; o < OUTS; o++)
#pragma unroll
      for (int i = 0; i < 4; i++) part[warp][((r * OUTS + o) * 4 + i) * 32 + lane] = sum[r][o][i];
  __syncthreads();
  for (int e = threadIdx.x; e < ROWS * OUTS * 4 * 32; e += WARPS * 32) {
    float total = 0.f;
#pragma unroll
    for (int v = 0; v < WARPS; v++) total += part[v][e];
    const int owner = e % 32, i = e / 32 % 4, o = e / 128 % OUTS, r = e / 128 / OUTS;
    const int row = r * 16 + owner / 4 + (i / 2) * 8, out = firstOut + o * 8 + owner % 4 * 2 + i % 2;
    if (row < rows && out < outs) y[row * yStride + out] = float_to_bf16(total);
  }
}

#define ROWWISE(NAME, ROWS, OUTS, AHEAD)                                                                                        \
  extern "C" __global__ void __launch_bounds__(WARPS * 32)                                                                      \
      NAME(bf16* y, i64 yStride, const bf16* x, i64 xStride, const bf16* weight, i64 wStride, int rows, int outs, int width) {  \
    rowwise_block<ROWS, OUTS, AHEAD>(y, yStride, x, xStride, weight, wStride, rows, outs, width);                               \
  }

ROWWISE(rowwise16, 1, 1, 6)
ROWWISE(rowwise32, 2, 2, 4)
ROWWISE(rowwise64, 4, 2, 4)
