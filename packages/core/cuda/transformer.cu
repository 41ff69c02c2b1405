// The small ops of a transformer block: SwiGLU, rotary position embedding, token embedding, remainder bias.
#include "common.cuh"

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + __expf(-x)); }

extern "C" __global__ void swiglu(bf16* y, const bf16* gate, const bf16* up, i64 n) {
  const i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (i >= n) return;
  float g[8], u[8];
  load_row(gate, i, n, g);
  load_row(up, i, n, u);
#pragma unroll
  for (int j = 0; j < 8; j++) g[j] *= sigmoid(g[j]) * u[j];
  store_row(y, i, n, g);
}
extern "C" __global__ void swiglu_grad(bf16* dGate, bf16* dUp, const bf16* gate, const bf16* up, const bf16* dy, i64 n) {
  const i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (i >= n) return;
  float g[8], u[8], d[8];
  load_row(gate, i, n, g);
  load_row(up, i, n, u);
  load_row(dy, i, n, d);
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const float s = sigmoid(g[j]), silu = g[j] * s;
    const float dg = d[j] * u[j] * (s + silu * (1.f - s));
    u[j] = d[j] * silu;
    g[j] = dg;
  }
  store_row(dGate, i, n, g);
  store_row(dUp, i, n, u);
}

// The document of packed token t: the last s with bounds[s] <= t (empty documents are skipped over).
__device__ __forceinline__ int document_of(const int* bounds, int documents, int t) {
  int low = 0, high = documents;
  while (low + 1 < high) {
    const int mid = (low + high) / 2;
    if (bounds[mid] <= t) low = mid;
    else high = mid;
  }
  return low;
}

// One block a token; thread d < D/2 turns the pair (d, d + D/2) of every head. The angle is reduced in float64.
extern "C" __global__ void rotary(bf16* y, const bf16* x, const int* bounds, const int* firsts, const double* frequencies,
                                  int documents, int perDocument, int heads, int dim, float sign) {
  const int t = blockIdx.x, half = dim / 2;
  const int s = document_of(bounds, documents, t);
  const double position = (double)(t - bounds[s] + firsts[s]);
  const int lanes = blockDim.x / half;
  const int d = threadIdx.x % half, lane = threadIdx.x / half;
  if (lane >= lanes) return;
  double angle = position * frequencies[(perDocument ? (i64)s * half : 0) + d];
  angle -= rint(angle * 0.15915494309189535) * 6.283185307179586;
  float sine, cosine;
  sincosf((float)angle, &sine, &cosine);
  sine *= sign;
  for (int h = lane; h < heads; h += lanes) {
    const i64 at = ((i64)t * heads + h) * dim + d;
    const float a = bf16_to_float(x[at]), b = bf16_to_float(x[at + half]);
    y[at] = float_to_bf16(a * cosine - b * sine);
    y[at + half] = float_to_bf16(b * cosine + a * sine);
  }
}

extern "C" __global__ void embedding(bf16* y, const int* tokens, const float* weight, int columns) {
  const float* row = weight + (i64)tokens[blockIdx.x] * columns;
  bf16* out = y + (i64)blockIdx.x * columns;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) out[c] = float_to_bf16(row[c]);
}
// Block b sums the gradients of every position that holds token `token[b]`: positions order[start[b]] … order[start[b+1]].
extern "C" __global__ void embedding_grad(float* dWeight, const bf16* dy, const int* token, const int* start, const int* order, int columns) {
  const int from = start[blockIdx.x], to = start[blockIdx.x + 1];
  float* out = dWeight + (i64)token[blockIdx.x] * columns;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) {
    float s = 0.f;
#pragma unroll 4
    for (int i = from; i < to; i++) s += bf16_to_float(dy[(i64)order[i] * columns + c]);
    out[c] = s;
  }
}

// y = output + remainder · bias (paper, equation 14); rows are (token, head).
extern "C" __global__ void remainder_bias(bf16* y, const bf16* output, const float* remainder, const float* bias, i64 n, int heads, int dim) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) {
    const i64 row = i / dim;
    y[i] = float_to_bf16(bf16_to_float(output[i]) + remainder[row] * bias[row % heads * dim + i % dim]);
  }
}
extern "C" __global__ void remainder_bias_dr(float* dRemainder, const float* bias, const bf16* dy, i64 rows, int heads, int dim) {
  const i64 row = ((i64)blockIdx.x * blockDim.x + threadIdx.x) >> 5;
  const int lane = threadIdx.x & 31;
  if (row >= rows) return;
  float s = 0.f;
  for (int d = lane; d < dim; d += 32) s += bf16_to_float(dy[row * dim + d]) * bias[row % heads * dim + d];
  s = warp_sum(s);
  if (lane == 0) dRemainder[row] = s;
}
extern "C" __global__ void remainder_bias_db(float* partial, const float* remainder, const bf16* dy, i64 tokens, int heads, int dim) {
  const int c = blockIdx.x * blockDim.x + threadIdx.x, columns = heads * dim;
  if (c >= columns) return;
  const i64 per = (tokens + gridDim.y - 1) / gridDim.y;
  const i64 from = per * blockIdx.y, to = min(from + per, tokens);
  float s = 0.f;
  for (i64 t = from; t < to; t++) s += bf16_to_float(dy[t * columns + c]) * remainder[t * heads + c / dim];
  partial[(i64)blockIdx.y * columns + c] = s;
}
