// Root-mean-square norm over rows [N, C], alone or of a residual sum, and the per-head norm over [N, H, D], with their
// gradients. The weight's gradient is summed over rows in two fixed stages (partial sums here, sum_partials after).
// Short rows, such as a head's query, have a few lanes of a warp each.
#include "norm_rows.cuh"

#define RMS_NORM(GROUPS)                                                                                               \
  extern "C" __global__ void NORM_BOUNDS(GROUPS)                                                                       \
      rms_norm##GROUPS(bf16* y, bf16* sum, float* inverseRms, const bf16* x, const bf16* branch, const float* weight,  \
                       float multiplier, int columns, float epsilon, e4m3* y8, float* scales, int width) {             \
    let_next_begin();                                                                                                  \
    await_previous();                                                                                                  \
    if (columns % 8 == 0)                                                                                              \
      rms_norm_row<Bits16, GROUPS, true>(y, {sum}, inverseRms, {x}, branch, weight, multiplier, columns, epsilon, y8,  \
                                         scales, width);                                                               \
    else                                                                                                               \
      rms_norm_row<Bits16, GROUPS, false>(y, {sum}, inverseRms, {x}, branch, weight, multiplier, columns, epsilon,     \
                                          nullptr, nullptr, 0);                                                        \
  }                                                                                                                    \
  extern "C" __global__ void NORM_BOUNDS(GROUPS)                                                                       \
      rms_norm_grad##GROUPS(bf16* dx, bf16* dBranch, float* partial, const bf16* x, const float* weight,               \
                            const float* inverseRms, const bf16* dy, const bf16* dSum, float multiplier, int rows,     \
                            int columns) {                                                                             \
    if (columns % 8 == 0)                                                                                              \
      rms_norm_grad_rows<Bits16, GROUPS, true, false>({dx}, dBranch, partial, x, weight, inverseRms, dy, {dSum},       \
                                                      multiplier, rows, columns);                                      \
    else                                                                                                               \
      rms_norm_grad_rows<Bits16, GROUPS, false, false>({dx}, dBranch, partial, x, weight, inverseRms, dy, {dSum},      \
                                                       multiplier, rows, columns);                                     \
  }                                                                                                                    \
  extern "C" __global__ void NORM_BOUNDS(GROUPS)                                                                       \
      rms_norm_grad_fp8_##GROUPS(bf16* dx, bf16* dBranch, float* partial, const bf16* x, const float* weight,          \
                                 const float* inverseRms, const bf16* dy, const bf16* dSum, float multiplier,          \
                                 int rows, int columns, e4m3* d8, float* scales, int width) {                          \
    rms_norm_grad_rows<Bits16, GROUPS, true, true>({dx}, dBranch, partial, x, weight, inverseRms, dy, {dSum},          \
                                                   multiplier, rows, columns, d8, scales, width);                      \
  }
RMS_NORM(1)
RMS_NORM(4)

// Rows of at most 8·32 columns, a multiple of eight: `lanes` threads a row, a power of two, of which each has eight columns. Runs
// of `together` rows follow one another, and the next run begins `stride` elements after the one before.
struct ShortRows {
  i64 stride;
  int together;
  __device__ __forceinline__ i64 at(i64 row, int columns) const {
    return row / together * stride + row % together * columns;
  }
};
__device__ __forceinline__ float lane_sum(float x, int lanes) {
  for (int o = lanes / 2; o; o >>= 1) x += __shfl_xor_sync(0xffffffffu, x, o);
  return x;
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    rms_norm_short(bf16* y, float* inverseRms, const bf16* x, i64 stride, int together, const float* weight, int rows,
                   int columns, int lanes, float epsilon) {
  let_next_begin();
  await_previous();
  const ShortRows source{stride, together};
  const int c = (threadIdx.x & (lanes - 1)) * 8, perBlock = THREADS / lanes;
  const bool isInside = c < columns;
  float w[8] = {};
  if (isInside) load8(weight + c, w);
  // The same number of turns for all of a block: every lane takes part in the sums.
  for (i64 first = (i64)blockIdx.x * perBlock; first < rows; first += (i64)gridDim.x * perBlock) {
    const i64 row = first + threadIdx.x / lanes;
    const bool isMine = isInside && row < rows;
    float v[8] = {}, s = 0.f;
    if (isMine) load8(x + source.at(row, columns) + c, v);
#pragma unroll
    for (int j = 0; j < 8; j++) s += v[j] * v[j];
    const float r = rsqrtf(lane_sum(s, lanes) / columns + epsilon);
    if (!isMine) continue;
    if (c == 0) inverseRms[row] = r;
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] *= r * w[j];
    store8(y + row * columns + c, v);
  }
}

// dx = r (w·dy − x r² mean(w·dy·x)); partial[block, c] collects dy·x·r over the rows of the block.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    rms_norm_grad_short(bf16* dx, float* partial, const bf16* x, i64 stride, int together, const float* weight,
                        const float* inverseRms, const bf16* dy, i64 dyStride, int dyTogether, int rows, int columns,
                        int lanes) {
  __shared__ float sums[THREADS][9];
  const ShortRows source{stride, together}, above{dyStride, dyTogether};
  const int c = (threadIdx.x & (lanes - 1)) * 8, perBlock = THREADS / lanes;
  const bool isInside = c < columns;
  float w[8] = {}, dw[8] = {};
  if (isInside) load8(weight + c, w);
  for (i64 first = (i64)blockIdx.x * perBlock; first < rows; first += (i64)gridDim.x * perBlock) {
    const i64 row = first + threadIdx.x / lanes;
    const bool isMine = isInside && row < rows;
    float v[8] = {}, g[8] = {}, r = 0.f, dot = 0.f;
    if (isMine) {
      load8(x + source.at(row, columns) + c, v);
      load8(dy + above.at(row, columns) + c, g);
      r = inverseRms[row];
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const float along = g[j] * v[j];
      dw[j] += along * r;
      dot += along * w[j];
    }
    const float m = lane_sum(dot, lanes) / columns * r * r;
    if (!isMine) continue;
#pragma unroll
    for (int j = 0; j < 8; j++) g[j] = r * (g[j] * w[j] - v[j] * m);
    store8(dx + row * columns + c, g);
  }
#pragma unroll
  for (int j = 0; j < 8; j++) sums[threadIdx.x][j] = dw[j];
  __syncthreads();
  for (int at = threadIdx.x; at < columns; at += THREADS) {
    float s = 0.f;
    for (int g = 0; g < perBlock; g++) s += sums[g * lanes + at / 8][at % 8];
    partial[(i64)blockIdx.x * columns + at] = s;
  }
}

// One warp per (token, head).
extern "C" __global__ void head_norm(bf16* y, float* mean, float* inverseStd, const bf16* x, const float* weight,
                                     const float* bias, i64 rows, int heads, int dim, float epsilon) {
  const i64 row = ((i64)blockIdx.x * blockDim.x + threadIdx.x) >> 5;
  const int lane = threadIdx.x & 31;
  if (row >= rows) return;
  float s = 0.f, q = 0.f;
  for (int d = lane; d < dim; d += 32) s += bf16_to_float(x[row * dim + d]);
  const float m = warp_sum(s) / dim;
  for (int d = lane; d < dim; d += 32) {
    const float v = bf16_to_float(x[row * dim + d]) - m;
    q += v * v;
  }
  const float r = rsqrtf(warp_sum(q) / dim + epsilon);
  if (lane == 0) mean[row] = m, inverseStd[row] = r;
  const int at = (int)(row % heads) * dim;
  for (int d = lane; d < dim; d += 32)
    y[row * dim + d] = float_to_bf16((bf16_to_float(x[row * dim + d]) - m) * r * weight[at + d] + bias[at + d]);
}
extern "C" __global__ void head_norm_dx(bf16* dx, const bf16* x, const float* weight, const float* mean,
                                        const float* inverseStd, const bf16* dy, i64 rows, int heads, int dim) {
  const i64 row = ((i64)blockIdx.x * blockDim.x + threadIdx.x) >> 5;
  const int lane = threadIdx.x & 31;
  if (row >= rows) return;
  const float m = mean[row], r = inverseStd[row];
  const int at = (int)(row % heads) * dim;
  float a = 0.f, b = 0.f;
  for (int d = lane; d < dim; d += 32) {
    const float g = bf16_to_float(dy[row * dim + d]) * weight[at + d];
    a += g;
    b += g * (bf16_to_float(x[row * dim + d]) - m) * r;
  }
  a = warp_sum(a) / dim;
  b = warp_sum(b) / dim;
  for (int d = lane; d < dim; d += 32) {
    const float g = bf16_to_float(dy[row * dim + d]) * weight[at + d];
    dx[row * dim + d] = float_to_bf16(r * (g - a - (bf16_to_float(x[row * dim + d]) - m) * r * b));
  }
}
// partials [part, H·D] of the gradients of weight and bias; grid (H·D / threads, parts).
extern "C" __global__ void head_norm_dw(float* dWeight, float* dBias, const bf16* x, const float* mean,
                                        const float* inverseStd, const bf16* dy, i64 tokens, int heads, int dim) {
  const int c = blockIdx.x * blockDim.x + threadIdx.x, columns = heads * dim;
  if (c >= columns) return;
  const i64 per = (tokens + gridDim.y - 1) / gridDim.y;
  const i64 from = per * blockIdx.y, to = min(from + per, tokens);
  float w = 0.f, b = 0.f;
  for (i64 t = from; t < to; t++) {
    const i64 row = t * heads + c / dim;
    const float g = bf16_to_float(dy[t * columns + c]);
    w += g * (bf16_to_float(x[t * columns + c]) - mean[row]) * inverseStd[row];
    b += g;
  }
  dWeight[(i64)blockIdx.y * columns + c] = w;
  dBias[(i64)blockIdx.y * columns + c] = b;
}
