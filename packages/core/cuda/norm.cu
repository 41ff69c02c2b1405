// Root-mean-square norm over rows [N, C] and the per-head norm over [N, H, D], with their gradients. One block a row;
// the weight's gradient is summed over rows in two fixed stages (partial sums here, sum_columns after).
#include "common.cuh"

extern "C" __global__ void rms_norm(bf16* y, float* inverseRms, const bf16* x, const float* weight, int columns, float epsilon) {
  const i64 row = (i64)blockIdx.x * columns;
  float s = 0.f, v[8];
  for (int c = threadIdx.x * 8; c < columns; c += blockDim.x * 8) {
    load_row(x + row, c, columns, v);
#pragma unroll
    for (int j = 0; j < 8; j++) s += v[j] * v[j];
  }
  const float r = rsqrtf(block_sum(s) / columns + epsilon);
  if (threadIdx.x == 0) inverseRms[blockIdx.x] = r;
  for (int c = threadIdx.x * 8; c < columns; c += blockDim.x * 8) {
    load_row(x + row, c, columns, v);
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] *= c + j < columns ? r * weight[c + j] : 0.f;
    store_row(y + row, c, columns, v);
  }
}

// dx = r (w·dy − x r² mean(w·dy·x)); partial[block, c] collects dy·x·r over the rows of the block. Each thread owns the
// columns 8·(thread + k·threads) … +8, at most four such groups (columns ≤ 32 · threads).
template <int GROUPS>
__device__ void rms_norm_rows(bf16* dx, float* partial, const bf16* x, const float* weight, const float* inverseRms,
                              const bf16* dy, int rows, int columns) {
  float dw[GROUPS][8] = {};
  for (int row = blockIdx.x; row < rows; row += gridDim.x) {
    const i64 base = (i64)row * columns;
    const float r = inverseRms[row];
    float xs[GROUPS][8], gs[GROUPS][8], dot = 0.f;
#pragma unroll
    for (int k = 0; k < GROUPS; k++) {
      const int c = (threadIdx.x + k * blockDim.x) * 8;
      if (c >= columns) continue;
      load_row(x + base, c, columns, xs[k]);
      load_row(dy + base, c, columns, gs[k]);
#pragma unroll
      for (int j = 0; j < 8; j++) {
        dw[k][j] += gs[k][j] * xs[k][j] * r;
        gs[k][j] *= c + j < columns ? weight[c + j] : 0.f;
        dot += gs[k][j] * xs[k][j];
      }
    }
    const float m = block_sum(dot) / columns * r * r;
#pragma unroll
    for (int k = 0; k < GROUPS; k++) {
      const int c = (threadIdx.x + k * blockDim.x) * 8;
      if (c >= columns) continue;
#pragma unroll
      for (int j = 0; j < 8; j++) gs[k][j] = r * (gs[k][j] - xs[k][j] * m);
      store_row(dx + base, c, columns, gs[k]);
    }
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
extern "C" __global__ void rms_norm_grad1(bf16* dx, float* partial, const bf16* x, const float* w, const float* r, const bf16* dy, int rows, int columns) {
  rms_norm_rows<1>(dx, partial, x, w, r, dy, rows, columns);
}
extern "C" __global__ void rms_norm_grad4(bf16* dx, float* partial, const bf16* x, const float* w, const float* r, const bf16* dy, int rows, int columns) {
  rms_norm_rows<4>(dx, partial, x, w, r, dy, rows, columns);
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
