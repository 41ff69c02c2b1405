// Sums. A row is summed by one block, a long row in two stages, a column by a grid of partial sums: always in the same
// order, so that two runs give the same bits.
#include "common.cuh"

// y[row] = scale · Σ over `inner` elements; grid (outer, parts): each block takes one part of a row.
extern "C" __global__ void sum_rows(float* y, const void* x, int type, i64 inner, float scale) {
  const i64 per = (inner + gridDim.y - 1) / gridDim.y;
  const i64 from = per * blockIdx.y, to = min(from + per, inner);
  float s = 0.f;
  for (i64 i = from + threadIdx.x; i < to; i += blockDim.x) s += load_any(x, type, blockIdx.x * inner + i);
  s = block_sum(s);
  if (threadIdx.x == 0) y[(i64)blockIdx.x * gridDim.y + blockIdx.y] = s * scale;
}

// NaN of a row that has one.
extern "C" __global__ void max_rows(float* y, const void* x, int type, i64 inner) {
  float s = -INFINITY, wrong = 0.f;
  for (i64 i = threadIdx.x; i < inner; i += blockDim.x) {
    const float value = load_any(x, type, blockIdx.x * inner + i);
    s = fmaxf(s, value);
    if (value != value) wrong = value;
  }
  s = block_max(s);
  wrong = block_sum(wrong);
  if (threadIdx.x == 0) y[blockIdx.x] = wrong != wrong ? wrong : s;
}

// partial[part, c] = Σ over this part's rows of x[row, c]; grid (columns / 256, parts).
extern "C" __global__ void sum_columns(float* partial, const void* x, int type, i64 rows, i64 columns, float scale) {
  const i64 c = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= columns) return;
  const i64 per = (rows + gridDim.y - 1) / gridDim.y;
  const i64 from = per * blockIdx.y, to = min(from + per, rows);
  float s = 0.f;
  for (i64 r = from; r < to; r++) s += load_any(x, type, r * columns + c);
  partial[blockIdx.y * columns + c] = s * scale;
}

// y[c] = Σ over rows of partial [rows, columns], blocks of 32 columns × 32 row lanes: a warp adds up the lanes.
static_assert(PARTIALS_SIDE == 32, "a warp adds up the lanes");
extern "C" __global__ void sum_partials(float* y, const float* partial, int rows, i64 columns) {
  __shared__ float part[PARTIALS_SIDE][PARTIALS_SIDE + 1];
  const i64 c = (i64)blockIdx.x * PARTIALS_SIDE + threadIdx.x;
  float s = 0.f;
  if (c < columns)
    for (int r = threadIdx.y; r < rows; r += PARTIALS_SIDE) s += partial[r * columns + c];
  part[threadIdx.y][threadIdx.x] = s;
  __syncthreads();
  s = warp_sum(part[threadIdx.x][threadIdx.y]);
  const i64 out = (i64)blockIdx.x * PARTIALS_SIDE + threadIdx.y;
  if (threadIdx.x == 0 && out < columns) y[out] = s;
}

struct TensorSpan {
  const void* data;
  i64 size;
  i64 type;
};
// One block for every SPAN_ELEMENTS of a list of tensors; `first[t]` is the first block of tensor t.
extern "C" __global__ void square_sums(float* partial, const TensorSpan* spans, const int* first, int tensors) {
  int t = 0, high = tensors;
  while (t + 1 < high) {
    const int mid = (t + high) / 2;
    if (first[mid] <= (int)blockIdx.x) t = mid;
    else high = mid;
  }
  const TensorSpan span = spans[t];
  const i64 from = (i64)(blockIdx.x - first[t]) * SPAN_ELEMENTS, to = min(from + SPAN_ELEMENTS, span.size);
  float s = 0.f;
  i64 i = from + threadIdx.x * 4;
  if (span.type == F32)
#pragma unroll 4
    for (; i + 4 <= to; i += blockDim.x * 4) {
      const float4 x = *(const float4*)((const float*)span.data + i);
      s += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
    }
  for (; i < to; i += blockDim.x * 4)
    for (i64 j = i; j < min(i + 4, to); j++) {
      const float x = load_any(span.data, (int)span.type, j);
      s += x * x;
    }
  s = block_sum(s);
  if (threadIdx.x == 0) partial[blockIdx.x] = s;
}
extern "C" __global__ void norm_of_sums(float* y, const float* partial, int n) {
  __shared__ double part[THREADS];
  double s = 0;
  for (int i = threadIdx.x; i < n; i += THREADS) s += partial[i];
  part[threadIdx.x] = s;
  __syncthreads();
  for (int o = THREADS / 2; o; o >>= 1) {
    if ((int)threadIdx.x < o) part[threadIdx.x] += part[threadIdx.x + o];
    __syncthreads();
  }
  if (threadIdx.x == 0) *y = (float)sqrt(part[0]);
}

// Softmax of each row of `inner` elements: a block has a row. A row with NaN, with +inf or of -inf alone is NaN.
extern "C" __global__ void row_softmax(float* y, const void* x, int type, i64 inner) {
  const i64 row = blockIdx.x * inner;
  float most = -INFINITY;
  for (i64 i = threadIdx.x; i < inner; i += blockDim.x) most = fmaxf(most, load_any(x, type, row + i));
  most = block_max(most);
  float total = 0.f;
  for (i64 i = threadIdx.x; i < inner; i += blockDim.x) total += expf(load_any(x, type, row + i) - most);
  total = block_sum(total);
  for (i64 i = threadIdx.x; i < inner; i += blockDim.x) y[row + i] = expf(load_any(x, type, row + i) - most) / total;
}

// Running sums of `count` elements that lie `stride` apart, from the first one on or back from the last, with the element itself
// or without. A block takes THREADS elements at a time, in a fixed order.
__device__ __forceinline__ void running_sums(float* y, const void* x, int type, i64 first, i64 stride, i64 count, bool reverse,
                                             bool exclusive) {
  __shared__ float warps[THREADS / 32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  float before = 0.f;
  for (i64 from = 0; from < count; from += THREADS) {
    const i64 i = from + threadIdx.x;
    const i64 at = first + (reverse ? count - 1 - i : i) * stride;
    float s = i < count ? load_any(x, type, at) : 0.f;
    for (int o = 1; o < 32; o *= 2) {
      const float lower = __shfl_up_sync(0xffffffffu, s, o);
      if (lane >= o) s += lower;
    }
    if (lane == 31) warps[warp] = s;
    // Not s less the element, which would be NaN beside an infinity.
    const float earlier = __shfl_up_sync(0xffffffffu, s, 1);
    if (exclusive) s = lane > 0 ? earlier : 0.f;
    __syncthreads();
    float lower = 0.f, all = 0.f;
    for (int w = 0; w < THREADS / 32; w++) {
      if (w == warp) lower = all;
      all += warps[w];
    }
    if (i < count) y[at] = before + (lower + s);
    before += all;
    __syncthreads();
  }
}
// Along an axis of `count`, for all that lie before it and the `inner` that lie behind it: a block for each.
extern "C" __global__ void axis_sums(float* y, const void* x, int type, i64 count, i64 inner, int reverse, int exclusive) {
  const i64 outer = blockIdx.x / inner;
  running_sums(y, x, type, outer * count * inner + (blockIdx.x - outer * inner), inner, count, reverse, exclusive);
}
// Of each column of x [tokens, columns] within each document; grid (documents, columns).
extern "C" __global__ void document_sums(float* y, const void* x, int type, const int* bounds, int reverse) {
  const int begin = bounds[blockIdx.x], tokens = bounds[blockIdx.x + 1] - begin;
  running_sums(y, x, type, (i64)begin * gridDim.y + blockIdx.y, gridDim.y, tokens, reverse, false);
}
