// The small ops of a transformer block: SwiGLU, rotary position embedding, token embedding, remainder bias.
#include "common.cuh"

// Where eight elements of a matrix begin that a thread works on: `rows` of `columns`, rows a multiple of eight or but one.
struct Place {
  i64 row, column;
  bool inside;
  __device__ __forceinline__ Place(i64 rows, i64 columns) {
    const unsigned unit = blockIdx.x * blockDim.x + threadIdx.x, units = (unsigned)((columns + 7) / 8);
    row = unit / units, column = (i64)(unit - (unsigned)row * units) * 8;
    inside = row < rows;
  }
};

// `Stride`s: elements between rows.
extern "C" __global__ void swiglu(bf16* y, i64 yStride, const bf16* gate, i64 gateStride, const bf16* up, i64 upStride, i64 rows,
                                  i64 columns) {
  let_next_begin();
  await_previous();
  const Place at(rows, columns);
  if (!at.inside) return;
  float g[8], u[8];
  load_row(gate + at.row * gateStride, at.column, columns, g);
  load_row(up + at.row * upStride, at.column, columns, u);
#pragma unroll
  for (int j = 0; j < 8; j++) g[j] *= sigmoid(g[j]) * u[j];
  store_row(y + at.row * yStride, at.column, columns, g);
}
// dGate and dUp have the same stride.
extern "C" __global__ void swiglu_grad(bf16* dGate, bf16* dUp, i64 dStride, const bf16* gate, i64 gateStride, const bf16* up,
                                       i64 upStride, const bf16* dy, i64 dyStride, i64 rows, i64 columns) {
  const Place at(rows, columns);
  if (!at.inside) return;
  float g[8], u[8], d[8];
  load_row(gate + at.row * gateStride, at.column, columns, g);
  load_row(up + at.row * upStride, at.column, columns, u);
  load_row(dy + at.row * dyStride, at.column, columns, d);
#pragma unroll
  for (int j = 0; j < 8; j++) swiglu_gradient(g[j], u[j], d[j]);
  store_row(dGate + at.row * dStride, at.column, columns, g);
  store_row(dUp + at.row * dStride, at.column, columns, u);
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

// cos and sin of every row's angles, [2, rows, half]. Angles are float64 (in half turns, which need no reduction by π):
// at position 65,536 a float32 angle would be off by some thousandths.
extern "C" __global__ void rotary_table(float* table, const int* bounds, const int* firsts, const double* frequencies,
                                        int documents, int perDocument, int rows, int half) {
  const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (i64)rows * half) return;
  const int row = (int)(i / half), d = (int)(i % half);
  const int s = document_of(bounds, documents, row);
  const double position = (double)(row - bounds[s] + firsts[s]);
  double sine, cosine;
  sincospi(position * frequencies[(perDocument ? (i64)s * half : 0) + d] * 0.31830988618379067, &sine, &cosine);
  table[i] = (float)cosine;
  table[(i64)rows * half + i] = (float)sine;
}

// A thread turns eight pairs (d, d + D/2) of up to ROTARY_HEADS heads of a row, by the same angles.
template <bool ALIGNED>
__device__ __forceinline__ void rotate_unit(bf16* y, i64 yStride, const bf16* x, i64 xStride, const float* table, unsigned unit,
                                            int rows, int heads, int half, float sign) {
  const unsigned chunks = (half + 7) / 8, groups = (heads + ROTARY_HEADS - 1) / ROTARY_HEADS;
  const int d = (int)(unit % chunks) * 8, group = (int)(unit / chunks % groups);
  const i64 row = unit / chunks / groups;
  if (row >= rows) return;
  uint4 first[ROTARY_HEADS], second[ROTARY_HEADS];
#pragma unroll
  for (int i = 0; i < ROTARY_HEADS; i++) {
    const int h = group + i * groups;
    if (h >= heads) continue;
    const bf16* from = x + row * xStride + h * 2 * half;
    first[i] = load_packed<ALIGNED>(from, d, half);
    second[i] = load_packed<ALIGNED>(from + half, d, half);
  }
  float cosine[8], sine[8];
  load_row<ALIGNED>(table + row * half, d, half, cosine);
  load_row<ALIGNED>(table + (rows + row) * half, d, half, sine);
#pragma unroll
  for (int j = 0; j < 8; j++) sine[j] *= sign;
#pragma unroll
  for (int i = 0; i < ROTARY_HEADS; i++) {
    const int h = group + i * groups;
    if (h >= heads) continue;
    float a[8], b[8];
    unpack8(first[i], a);
    unpack8(second[i], b);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const float turned = a[j] * cosine[j] - b[j] * sine[j];
      b[j] = b[j] * cosine[j] + a[j] * sine[j];
      a[j] = turned;
    }
    bf16* to = y + row * yStride + h * 2 * half;
    store_row<ALIGNED>(to, d, half, a);
    store_row<ALIGNED>(to + half, d, half, b);
  }
}

// Queries and keys at once: the first `blocksQ` blocks have the queries. In place where y is x. `Stride`s: elements between tokens.
extern "C" __global__ void __launch_bounds__(256)
    rotary(bf16* yq, i64 yStrideQ, const bf16* q, i64 strideQ, const float* tableQ, int rowsQ, int headsQ, int blocksQ, bf16* yk,
           i64 yStrideK, const bf16* k, i64 strideK, const float* tableK, int rowsK, int headsK, int dim, float sign) {
  const bool keys = (int)blockIdx.x >= blocksQ;
  const unsigned unit = (blockIdx.x - (keys ? blocksQ : 0)) * blockDim.x + threadIdx.x;
  bf16* y = keys ? yk : yq;
  const bf16* x = keys ? k : q;
  const float* table = keys ? tableK : tableQ;
  const i64 yStride = keys ? yStrideK : yStrideQ, stride = keys ? strideK : strideQ;
  const int rows = keys ? rowsK : rowsQ, heads = keys ? headsK : headsQ, half = dim / 2;
  if (half % 8 == 0) rotate_unit<true>(y, yStride, x, stride, table, unit, rows, heads, half, sign);
  else rotate_unit<false>(y, yStride, x, stride, table, unit, rows, heads, half, sign);
}

extern "C" __global__ void embedding(bf16* y, const int* tokens, const void* weight, int type, i64 stride, int columns) {
  const i64 row = (i64)tokens[blockIdx.x] * stride;
  bf16* out = y + (i64)blockIdx.x * columns;
  if (type == F32)
    for (int c = threadIdx.x; c < columns; c += blockDim.x) out[c] = float_to_bf16(((const float*)weight)[row + c]);
  else
    for (int c = threadIdx.x; c < columns; c += blockDim.x) out[c] = ((const bf16*)weight)[row + c];
}
// Block b adds the gradients of every position that holds token `token[b]`: positions order[start[b]] … order[start[b+1]].
extern "C" __global__ void embedding_grad(float* dWeight, const bf16* dy, const int* token, const int* start, const int* order, int columns) {
  const int from = start[blockIdx.x], to = start[blockIdx.x + 1];
  float* out = dWeight + (i64)token[blockIdx.x] * columns;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) {
    float s = 0.f;
#pragma unroll 4
    for (int i = from; i < to; i++) s += bf16_to_float(dy[(i64)order[i] * columns + c]);
    out[c] += s;
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
