// Operands of matmuls in eight bits (fp8.cuh): rows of activations, both sides of weights, and SwiGLU with its gradient, which
// write such rows beside their results. Lengths of rows are multiples of eight.
#include "fp8.cuh"

// A block has a row; GROUPS vectors of eight a thread.
template <int GROUPS>
__device__ __forceinline__ void quantize_row(e4m3* y, float* scales, const bf16* x, i64 stride, int columns, int width) {
  const bf16* from = x + blockIdx.x * stride;
  uint4 kept[GROUPS];
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    const int c = (threadIdx.x + k * blockDim.x) * 8;
    kept[k] = c < columns ? *reinterpret_cast<const uint4*>(from + c) : make_uint4(0, 0, 0, 0);
  }
  write_row_e4m3(y + (i64)blockIdx.x * width, scales + blockIdx.x, kept, width);
}

template <int GROUPS>
__device__ __forceinline__ void swiglu_row(bf16* y, i64 yStride, e4m3* y8, float* scales, const bf16* gate, i64 gateStride,
                                           const bf16* up, i64 upStride, int columns, int width) {
  const i64 row = blockIdx.x;
  uint4 gates[GROUPS], ups[GROUPS], kept[GROUPS];
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    const int c = (threadIdx.x + k * blockDim.x) * 8;
    gates[k] = ups[k] = make_uint4(0, 0, 0, 0);
    if (c >= columns) continue;
    gates[k] = *reinterpret_cast<const uint4*>(gate + row * gateStride + c);
    ups[k] = *reinterpret_cast<const uint4*>(up + row * upStride + c);
  }
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    const int c = (threadIdx.x + k * blockDim.x) * 8;
    float g[8], u[8];
    unpack8(gates[k], g);
    unpack8(ups[k], u);
#pragma unroll
    for (int j = 0; j < 8; j++) g[j] *= sigmoid(g[j]) * u[j];
    kept[k] = pack8(g);
    if (c < columns) *reinterpret_cast<uint4*>(y + row * yStride + c) = kept[k];
  }
  write_row_e4m3(y8 + row * width, scales + row, kept, width);
}

// dGate and dUp, which have the same stride; a row of d8 has both, dGate first, and one scale.
template <int GROUPS>
__device__ __forceinline__ void swiglu_grad_row(bf16* dGate, bf16* dUp, i64 dStride, e4m3* d8, float* scales, const bf16* gate,
                                                i64 gateStride, const bf16* up, i64 upStride, const bf16* dy, i64 dyStride,
                                                int columns, int width) {
  const i64 row = blockIdx.x;
  uint4 gates[GROUPS], ups[GROUPS], dys[GROUPS];
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    const int c = (threadIdx.x + k * blockDim.x) * 8;
    gates[k] = ups[k] = dys[k] = make_uint4(0, 0, 0, 0);
    if (c >= columns) continue;
    gates[k] = *reinterpret_cast<const uint4*>(gate + row * gateStride + c);
    ups[k] = *reinterpret_cast<const uint4*>(up + row * upStride + c);
    dys[k] = *reinterpret_cast<const uint4*>(dy + row * dyStride + c);
  }
  float most = 0.f;
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    const int c = (threadIdx.x + k * blockDim.x) * 8;
    float g[8], u[8], d[8];
    unpack8(gates[k], g);
    unpack8(ups[k], u);
    unpack8(dys[k], d);
#pragma unroll
    for (int j = 0; j < 8; j++) swiglu_gradient(g[j], u[j], d[j]);
    gates[k] = pack8(g);
    ups[k] = pack8(u);
    most = fmaxf(most, fmaxf(largest8(gates[k]), largest8(ups[k])));
    if (c >= columns) continue;
    *reinterpret_cast<uint4*>(dGate + row * dStride + c) = gates[k];
    *reinterpret_cast<uint4*>(dUp + row * dStride + c) = ups[k];
  }
  const RowScale r(block_max(most));
  if (threadIdx.x == 0) scales[row] = r.scale;
  e4m3* to = d8 + row * width;
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    const int c = (threadIdx.x + k * blockDim.x) * 8;
    if (c >= columns) continue;
    *reinterpret_cast<uint2*>(to + c) = quantize8(gates[k], r.inverse);
    *reinterpret_cast<uint2*>(to + columns + c) = quantize8(ups[k], r.inverse);
  }
  for (int c = 2 * columns + threadIdx.x * 8; c < width; c += blockDim.x * 8) *reinterpret_cast<uint2*>(to + c) = make_uint2(0, 0);
}

#define ROW_KERNELS(GROUPS)                                                                                             \
  extern "C" __global__ void __launch_bounds__(ROW_THREADS)                                                             \
      quantize_rows##GROUPS(e4m3* y, float* scales, const bf16* x, i64 stride, int columns, int width) {                \
    quantize_row<GROUPS>(y, scales, x, stride, columns, width);                                                         \
  }                                                                                                                     \
  extern "C" __global__ void __launch_bounds__(ROW_THREADS)                                                             \
      swiglu_fp8_##GROUPS(bf16* y, i64 yStride, e4m3* y8, float* scales, const bf16* gate, i64 gateStride, const bf16* up, \
                          i64 upStride, int columns, int width) {                                                       \
    swiglu_row<GROUPS>(y, yStride, y8, scales, gate, gateStride, up, upStride, columns, width);                         \
  }                                                                                                                     \
  extern "C" __global__ void __launch_bounds__(ROW_THREADS)                                                             \
      swiglu_grad_fp8_##GROUPS(bf16* dGate, bf16* dUp, i64 dStride, e4m3* d8, float* scales, const bf16* gate,          \
                               i64 gateStride, const bf16* up, i64 upStride, const bf16* dy, i64 dyStride, int columns, \
                               int width) {                                                                             \
    swiglu_grad_row<GROUPS>(dGate, dUp, dStride, d8, scales, gate, gateStride, up, upStride, dy, dyStride, columns, width); \
  }
ROW_KERNELS(1)
ROW_KERNELS(4)

// The largest magnitude of each row and column of a weight, as bits: those of numbers from zero are ordered as they are. A block
// of eight warps has 64 rows of 256 columns. The order of the maxima does not matter.
extern "C" __global__ void __launch_bounds__(256)
    weight_maxima(unsigned* rowMax, unsigned* columnMax, const bf16* w, i64 stride, int rows, int columns) {
  __shared__ float part[8][256];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, c = blockIdx.x * 256 + lane * 8;
  float most[8] = {};
  for (int i = 0; i < 8; i++) {
    const int row = blockIdx.y * 64 + i * 8 + warp;
    if (row >= rows) break;
    float x[8] = {}, ofRow = 0.f;
    if (c < columns) load8(w + row * stride + c, x);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const float size = fabsf(x[j]);
      most[j] = fmaxf(most[j], size);
      ofRow = fmaxf(ofRow, size);
    }
    ofRow = warp_max(ofRow);
    if (lane == 0) atomicMax(rowMax + row, __float_as_uint(ofRow));
  }
#pragma unroll
  for (int j = 0; j < 8; j++) part[warp][lane * 8 + j] = most[j];
  __syncthreads();
  const int column = blockIdx.x * 256 + threadIdx.x;
  if (column >= columns) return;
  float all = 0.f;
#pragma unroll
  for (int i = 0; i < 8; i++) all = fmaxf(all, part[i][threadIdx.x]);
  atomicMax(columnMax + column, __float_as_uint(all));
}

// A weight [rows, columns] in eight bits, by its rows and, turned, by its columns. A block has a square of WEIGHT_SIDE.
extern "C" __global__ void __launch_bounds__(256)
    quantize_weight(e4m3* byRow, float* rowScales, e4m3* byColumn, float* columnScales, const unsigned* rowMax,
                    const unsigned* columnMax, const bf16* w, i64 stride, int rows, int columns, int width, int turnedWidth) {
  __shared__ unsigned turned[WEIGHT_SIDE][WEIGHT_SIDE / 4 + 1];
  const int row0 = blockIdx.y * WEIGHT_SIDE, column0 = blockIdx.x * WEIGHT_SIDE;
  // A thread takes eight columns of four rows at a time.
  for (int unit = threadIdx.x; unit < WEIGHT_SIDE / 8 * (WEIGHT_SIDE / 4); unit += 256) {
    const int at = unit % (WEIGHT_SIDE / 8) * 8, four = unit / (WEIGHT_SIDE / 8), c = column0 + at;
    float x[4][8] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int row = row0 + four * 4 + i;
      if (row >= rows) continue;
      if (c < columns) load8(w + row * stride + c, x[i]);
      const RowScale r(__uint_as_float(rowMax[row]));
      if (c < width) *reinterpret_cast<uint2*>(byRow + (i64)row * width + c) = quantize8(pack8(x[i]), r.inverse);
      if (c == 0) rowScales[row] = r.scale;
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const RowScale r(c + j < columns ? __uint_as_float(columnMax[c + j]) : 0.f);
      turned[at + j][four] = pack_e4m3(x[0][j] * r.inverse, x[1][j] * r.inverse, x[2][j] * r.inverse, x[3][j] * r.inverse);
      if (four == 0 && row0 == 0 && c + j < columns) columnScales[c + j] = r.scale;
    }
  }
  __syncthreads();
  for (int word = threadIdx.x; word < WEIGHT_SIDE * WEIGHT_SIDE / 4; word += 256) {
    const int four = word % (WEIGHT_SIDE / 4), c = word / (WEIGHT_SIDE / 4);
    if (column0 + c >= columns || row0 + four * 4 >= turnedWidth) continue;
    *reinterpret_cast<unsigned*>(byColumn + (i64)(column0 + c) * turnedWidth + row0 + four * 4) = turned[c][four];
  }
}
