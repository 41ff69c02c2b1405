// A mixture of experts around its products: which experts each token has, where its rows go, and what its experts gave, added
// up. Rows are placed by a counting sort that keeps the order of the tokens; counts are integers and sums are taken in one
// order, so that two runs are bit-identical. No count is needed on the host.
#include "common.cuh"

// A block of mixture_route has ROUTE_TOKENS tokens, one a warp; blocks that count, place and average have MIXTURE_TOKENS.

// In the order of floats, never 0; equal for 0 and -0.
__device__ __forceinline__ unsigned ordered(float x) {
  const unsigned bits = __float_as_uint(x + 0.f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// logits [tokens, experts]; choices, gates [tokens, active]: the largest logits, of equal ones the lower expert, and the softmax
// over them; normaliser [tokens]: logSumExp over all experts.
extern "C" __global__ void __launch_bounds__(ROUTE_TOKENS * 32)
    mixture_route(int* choices, float* gates, float* normaliser, const float* logits, i64 tokens, int experts, int active) {
  const i64 token = (i64)blockIdx.x * ROUTE_TOKENS + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (token >= tokens) return;
  const float* row = logits + token * experts;
  float largest = -INFINITY, sum = 0.f;
  for (int e = lane; e < experts; e += 32) largest = fmaxf(largest, row[e]);
  largest = warp_max(largest);
  for (int e = lane; e < experts; e += 32) sum += __expf(row[e] - largest);
  sum = warp_sum(sum);
  if (lane == 0) normaliser[token] = largest + __logf(sum);
  unsigned taken = 0;  // bit s: the expert lane + 32·s
  float total = 0.f;
  for (int j = 0; j < active; j++) {
    unsigned best = 0, at = experts;
    for (int e = lane, s = 0; e < experts; e += 32, s++) {
      const unsigned x = taken >> s & 1 ? 0 : ordered(row[e]);
      if (x > best) best = x, at = e;
    }
    const unsigned most = __reduce_max_sync(0xffffffffu, best);
    at = __reduce_min_sync(0xffffffffu, best == most ? at : experts);
    if (at % 32 == lane) taken |= 1u << at / 32;
    const float power = __expf(row[at] - largest);
    total += power;
    if (lane == 0) choices[token * active + j] = at, gates[token * active + j] = power;
  }
  __syncwarp();
  for (int j = lane; j < active; j += 32) gates[token * active + j] /= total;
}

// logits [tokens, experts] = x·routerᵀ for few tokens, whose logits must not depend on how many there are; one warp each.
extern "C" __global__ void mixture_logits(float* logits, const bf16* x, i64 xStride, const bf16* router, i64 routerStride, int tokens,
                                          int experts, int width) {
  const int at = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (at >= tokens * experts) return;
  const bf16 *left = x + at / experts * xStride, *right = router + at % experts * routerStride;
  float sum = 0.f;
  for (int c = lane * 8; c < width; c += 256) {
    float a[8], b[8];
    load_row(left, c, width, a);
    load_row(right, c, width, b);
#pragma unroll
    for (int i = 0; i < 8; i++) sum = fmaf(a[i], b[i], sum);
  }
  sum = warp_sum(sum);
  if (lane == 0) logits[at] = sum;
}

// counts [experts, blocks]: how often a block's tokens chose each expert.
extern "C" __global__ void mixture_count(int* counts, const int* choices, i64 tokens, int experts, int active) {
  __shared__ int own[MOST_EXPERTS];
  for (int e = threadIdx.x; e < experts; e += blockDim.x) own[e] = 0;
  __syncthreads();
  const i64 first = (i64)blockIdx.x * MIXTURE_TOKENS * active, rows = min((i64)MIXTURE_TOKENS * active, tokens * active - first);
  for (int i = threadIdx.x; i < rows; i += blockDim.x) atomicAdd(own + choices[first + i], 1);
  __syncthreads();
  for (int e = threadIdx.x; e < experts; e += blockDim.x) counts[(i64)e * gridDim.x + blockIdx.x] = own[e];
}

// The sum over the lanes up to this one.
__device__ __forceinline__ int warp_prefix(int x, int lane) {
#pragma unroll
  for (int o = 1; o < 32; o *= 2) {
    const int before = __shfl_up_sync(0xffffffffu, x, o);
    if (lane >= o) x += before;
  }
  return x;
}

// offsets [experts + 1]: where each expert's rows begin; counts become where each block's rows of each expert do. One block.
extern "C" __global__ void __launch_bounds__(MOST_EXPERTS) mixture_scan(int* offsets, int* counts, int blocks, int experts) {
  __shared__ int starts[MOST_EXPERTS + 1];
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  for (int e = warp; e < experts; e += warps) {
    int total = 0;
    for (int b = lane; b < blocks; b += 32) total += counts[(i64)e * blocks + b];
    total = warp_prefix(total, lane);
    if (lane == 31) starts[e + 1] = total;
  }
  if (threadIdx.x == 0) starts[0] = 0;
  __syncthreads();
  if (warp == 0) {
    int before = 0;
    for (int e = lane; e - lane < experts; e += 32) {
      const int sum = before + warp_prefix(e < experts ? starts[e + 1] : 0, lane);
      if (e < experts) starts[e + 1] = sum;
      before = __shfl_sync(0xffffffffu, sum, 31);
    }
  }
  __syncthreads();
  for (int e = threadIdx.x; e <= experts; e += blockDim.x) offsets[e] = starts[e];
  for (int e = warp; e < experts; e += warps) {
    int at = starts[e];
    for (int b = lane; b - lane < blocks; b += 32) {
      const int count = b < blocks ? counts[(i64)e * blocks + b] : 0, sum = warp_prefix(count, lane);
      if (b < blocks) counts[(i64)e * blocks + b] = at + sum - count;
      at += __shfl_sync(0xffffffffu, sum, 31);
    }
  }
}

// order [rows]: of each row which choice it is (token·active + place among the token's); place [rows]: of each choice which row.
// Shared memory: a block's choices.
extern "C" __global__ void mixture_place(int* order, int* place, const int* starts, const int* choices, i64 tokens, int experts,
                                         int active) {
  extern __shared__ int own[];
  const i64 first = (i64)blockIdx.x * MIXTURE_TOKENS * active;
  const int rows = (int)min((i64)MIXTURE_TOKENS * active, tokens * active - first);
  for (int i = threadIdx.x; i < rows; i += blockDim.x) own[i] = choices[first + i];
  __syncthreads();
  for (int e = threadIdx.x; e < experts; e += blockDim.x) {
    int at = starts[(i64)e * gridDim.x + blockIdx.x];
    for (int i = 0; i < rows; i++) {
      if (own[i] != e) continue;
      order[at] = (int)(first + i);
      place[first + i] = at++;
    }
  }
}

// rows [tokens·active, width]: each token's row to all of its places, so that it is read once; one warp a token.
extern "C" __global__ void mixture_scatter(bf16* rows, const bf16* x, i64 stride, const int* place, i64 tokens, int width, int active) {
  const i64 token = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (token >= tokens) return;
  for (int c = threadIdx.x % 32 * 8; c < width; c += 256) {
    const uint4 piece = *reinterpret_cast<const uint4*>(x + token * stride + c);
    for (int j = 0; j < active; j++) *reinterpret_cast<uint4*>(rows + (i64)place[token * active + j] * width + c) = piece;
  }
}

// partial [experts + 1, blocks]: over a block's tokens the sums of each expert's probability, and of logSumExp².
extern "C" __global__ void mixture_means(float* partial, const float* logits, const float* normaliser, i64 tokens, int experts) {
  const i64 first = (i64)blockIdx.x * MIXTURE_TOKENS, end = min(first + MIXTURE_TOKENS, tokens);
  for (int e = threadIdx.x; e <= experts; e += blockDim.x) {
    float sum = 0.f;
    for (i64 t = first; t < end; t++)
      sum += e < experts ? __expf(logits[t * experts + e] - normaliser[t]) : normaliser[t] * normaliser[t];
    partial[(i64)e * gridDim.x + blockIdx.x] = sum;
  }
}

// routing [2 + experts]: the balance loss, the z loss, how often each expert was chosen. One block of whole warps.
extern "C" __global__ void __launch_bounds__(MOST_EXPERTS)
    mixture_losses(float* routing, const float* partial, const int* offsets, int blocks, i64 tokens, int experts, int active) {
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const float all = (float)max(tokens, (i64)1);
  float balance = 0.f;
  for (int e = warp; e <= experts; e += warps) {
    float sum = 0.f;
    for (int b = lane; b < blocks; b += 32) sum += partial[(i64)e * blocks + b];
    sum = warp_sum(sum) / all;
    if (lane > 0) continue;
    if (e == experts) {
      routing[1] = sum;
    } else {
      const float count = (float)(offsets[e + 1] - offsets[e]);
      routing[2 + e] = count;
      balance += sum * (count / (all * active));
    }
  }
  balance = block_sum(balance);
  if (threadIdx.x == 0) routing[0] = experts * balance;
}

// y [tokens, width]: the sum of gate · row over a token's choices, in their order; without gates, of the rows themselves.
extern "C" __global__ void mixture_combine(bf16* y, const bf16* rows, const int* place, const float* gates, int width, int active) {
  constexpr int AT_ONCE = 8;
  const i64 token = blockIdx.x;
  for (int c = threadIdx.x * 8; c < width; c += blockDim.x * 8) {
    float sum[8] = {};
    for (int j = 0; j < active; j += AT_ONCE) {
      uint4 pieces[AT_ONCE];
#pragma unroll
      for (int i = 0; i < AT_ONCE; i++)
        if (j + i < active) pieces[i] = *reinterpret_cast<const uint4*>(rows + (i64)place[token * active + j + i] * width + c);
#pragma unroll
      for (int i = 0; i < AT_ONCE; i++) {
        if (j + i >= active) break;
        const float gate = gates ? gates[token * active + j + i] : 1.f;
        float x[8];
        unpack8(pieces[i], x);
#pragma unroll
        for (int e = 0; e < 8; e++) sum[e] = fmaf(gate, x[e], sum[e]);
      }
    }
    store_row(y + token * width, c, width, sum);
  }
}

// dLogits [tokens, experts], rows of `width`, zero beyond, from the gradients of the gates and of the two losses; one warp a
// token. shares [parts, tokens·active]: what each tile of columns added to a gate's gradient, by row.
extern "C" __global__ void __launch_bounds__(ROUTE_TOKENS * 32)
    mixture_route_grad(bf16* dLogits, int width, const float* shares, int parts, const int* place, const float* gates,
                       const int* choices, const float* logits, const float* normaliser, const int* offsets, float balanceWeight,
                       float zWeight, i64 tokens, int experts, int active) {
  extern __shared__ float chains[];
  const i64 token = (i64)blockIdx.x * ROUTE_TOKENS + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  float* chain = chains + threadIdx.x / 32 * active;  // what each choice's logit gets through the gates
  if (token >= tokens) return;
  const float* row = logits + token * experts;
  const float share = 1.f / ((float)tokens * active), lse = normaliser[token];
  float average = 0.f, along = 0.f;
  for (int e = lane; e < experts; e += 32) average += __expf(row[e] - lse) * ((offsets[e + 1] - offsets[e]) * share);
  average = warp_sum(average);
  for (int j = lane; j < active; j += 32) {
    const i64 at = place[token * active + j];
    float sum = 0.f;
    for (int part = 0; part < parts; part++) sum += shares[part * tokens * active + at];
    chain[j] = sum;
    along += gates[token * active + j] * sum;
  }
  along = warp_sum(along);
  __syncwarp();
  const float ofBalance = balanceWeight * experts / tokens, ofZ = zWeight * 2.f / tokens;
  for (int e = lane; e < width; e += 32) {
    float d = 0.f;
    if (e < experts) {
      const float mine = (offsets[e + 1] - offsets[e]) * share;
      d = __expf(row[e] - lse) * (ofBalance * (mine - average) + ofZ * lse);
      for (int j = 0; j < active; j++)
        if (choices[token * active + j] == e) d += gates[token * active + j] * (chain[j] - along);
    }
    dLogits[token * width + e] = float_to_bf16(d);
  }
}
