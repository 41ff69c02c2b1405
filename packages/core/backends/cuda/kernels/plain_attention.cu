// Attention the plain way, for any head dimension and any GPU served: the matrix library makes a block of logits
// [heads, rows, keys] in float32, these kernels turn each row into weights (forward) or into the logits' gradient
// (backward), the matrix library multiplies on. One warp a row; memory-bound, exact, the yardstick of the fused kernels.
#include "plain_rows.cuh"

__device__ __forceinline__ float softplus(float x) { return fmaxf(x, 0.f) + log1pf(__expf(-fabsf(x))); }
__device__ __forceinline__ float inclusive_sum(float x, int lane) {
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) {
    const float y = __shfl_up_sync(0xffffffffu, x, o);
    if (lane >= o) x += y;
  }
  return x;
}

// weights: A[i] = exp(z[i] − Σ_{i≤k<limit} softplus(z[k])) for i < limit, zero beyond; from the nearest key backwards.
// Returns the remainder. Lane l of a step takes the l-th nearest key. `use(i, z, A)` is called for every column.
template <class Use>
__device__ __forceinline__ float break_stick(const float* logits, int limit, int stride, float scale, int lane, Use use) {
  for (int i = limit + lane; i < stride; i += 32) use(i, 0.f, 0.f);
  float broken = 0.f;  // −log of what is left of the stick
  for (int nearest = limit - 1; nearest >= 0; nearest -= 32) {
    const int i = nearest - lane;
    const float z = i >= 0 ? logits[i] * scale : 0.f;
    const float through = broken + inclusive_sum(i >= 0 ? softplus(z) : 0.f, lane);
    if (i >= 0) use(i, z, __expf(z - through));
    broken = __shfl_sync(0xffffffffu, through, 31);
  }
  return __expf(-broken);
}

extern "C" __global__ void stick_breaking_rows(bf16* weights, float* remainder, const float* logits, LogitBlock b, int current) {
  const int lane = threadIdx.x & 31, row = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (row >= b.rows) return;
  const i64 at = ((i64)blockIdx.y * b.rows + row) * b.stride;
  bf16* out = weights + at;
  const float left = break_stick(logits + at, b.first + row + current, b.stride, b.scale, lane,
                                 [&](int i, float, float a) { out[i] = float_to_bf16(a); });
  if (lane == 0) remainder[(i64)(b.token + row) * b.heads * b.group + blockIdx.y * b.group + b.g] = left;
}

// dA (float32, in place scratch) and the logits become A and dZ (bfloat16). The prefix is summed from the far end.
extern "C" __global__ void stick_breaking_rows_grad(bf16* weights, bf16* dLogits, float* dWeights, const float* logits,
                                                    const float* dRemainder, LogitBlock b, int current) {
  const int lane = threadIdx.x & 31, row = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (row >= b.rows) return;
  const i64 at = ((i64)blockIdx.y * b.rows + row) * b.stride;
  const int limit = b.first + row + current;
  bf16* a = weights + at;
  bf16* dz = dLogits + at;
  float* da = dWeights + at;
  const float left = break_stick(logits + at, limit, b.stride, b.scale, lane, [&](int i, float, float w) {
    a[i] = float_to_bf16(w);
    if (i < limit) da[i] *= w;
    else dz[i] = 0;
  });
  __syncwarp();
  float before = left * dRemainder[(i64)(b.token + row) * b.heads * b.group + blockIdx.y * b.group + b.g];
  for (int from = 0; from < limit; from += 32) {
    const int i = from + lane;
    const float d = i < limit ? da[i] : 0.f;
    const float prefix = before + inclusive_sum(d, lane);
    if (i < limit) dz[i] = float_to_bf16(b.scale * (d - prefix / (1.f + __expf(-logits[at + i] * b.scale))));
    before = __shfl_sync(0xffffffffu, prefix, 31);
  }
}

// Softmax over the keys that a row sees, with ALiBi where slopes are given.
extern "C" __global__ void softmax_rows(bf16* weights, float* logSumExp, const float* logits, const float* slopes, LogitBlock b, int window) {
  const int lane = threadIdx.x & 31, row = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (row >= b.rows) return;
  const i64 at = ((i64)blockIdx.y * b.rows + row) * b.stride;
  const int head = blockIdx.y * b.group + b.g;
  const Span s = seen(b, row, window);
  const float slope = slopes ? slopes[head] : 0.f;
  float row_max = -INFINITY, row_sum = 0.f;
  for (int i = s.from + lane; i < s.to; i += 32) {
    const float z = logits[at + i] * b.scale + slope * (i + 1 - s.to), m = fmaxf(row_max, z);
    row_sum = row_sum * __expf(row_max - m) + __expf(z - m);
    row_max = m;
  }
  const float m = warp_max(row_max);
  const float lse = m + logf(warp_sum(row_max == -INFINITY ? 0.f : row_sum * __expf(row_max - m)));
  for (int i = lane; i < b.stride; i += 32) {
    const bool in = i >= s.from && i < s.to;
    weights[at + i] = float_to_bf16(in ? __expf(logits[at + i] * b.scale + slope * (i + 1 - s.to) - lse) : 0.f);
  }
  if (lane == 0) logSumExp[(i64)(b.token + row) * b.heads * b.group + head] = lse;
}

extern "C" __global__ void softmax_rows_grad(bf16* weights, bf16* dLogits, const float* dWeights, const float* logits,
                                             const float* logSumExp, const float* slopes, LogitBlock b, int window) {
  const int lane = threadIdx.x & 31, row = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (row >= b.rows) return;
  const i64 at = ((i64)blockIdx.y * b.rows + row) * b.stride;
  const int head = blockIdx.y * b.group + b.g;
  const Span s = seen(b, row, window);
  const float slope = slopes ? slopes[head] : 0.f;
  const float lse = logSumExp[(i64)(b.token + row) * b.heads * b.group + head];
  float delta = 0.f;
  for (int i = s.from + lane; i < s.to; i += 32)
    delta += __expf(logits[at + i] * b.scale + slope * (i + 1 - s.to) - lse) * dWeights[at + i];
  delta = warp_sum(delta);
  for (int i = lane; i < b.stride; i += 32) {
    const bool in = i >= s.from && i < s.to;
    const float a = in ? __expf(logits[at + i] * b.scale + slope * (i + 1 - s.to) - lse) : 0.f;
    weights[at + i] = float_to_bf16(a);
    dLogits[at + i] = float_to_bf16(in ? b.scale * a * (dWeights[at + i] - delta) : 0.f);
  }
}
