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

// The float that `ordered` made it of.
__device__ __forceinline__ float disordered(unsigned x) { return __uint_as_float(x & 0x80000000u ? x ^ 0x80000000u : ~x); }

// EACH: logits that a lane has, those of the experts lane + 32·s.
template <int EACH>
__device__ __forceinline__ void route(int* choices, float* gates, float* normaliser, const float* row, int experts, int active, int lane) {
  unsigned left[EACH];  // 0: none, or chosen
  float largest = -INFINITY, sum = 0.f;
#pragma unroll
  for (int s = 0; s < EACH; s++) {
    const int e = lane + 32 * s;
    const float x = e < experts ? row[e] : 0.f;
    left[s] = e < experts ? ordered(x) : 0;
    if (e < experts) largest = fmaxf(largest, x);
  }
  largest = warp_max(largest);
#pragma unroll
  for (int s = 0; s < EACH; s++)
    if (lane + 32 * s < experts) sum += __expf(disordered(left[s]) - largest);
  sum = warp_sum(sum);
  if (lane == 0) *normaliser = largest + __logf(sum);
  float total = 0.f;
  for (int j = 0; j < active; j++) {
    unsigned best = 0, at = experts;
#pragma unroll
    for (int s = 0; s < EACH; s++)
      if (left[s] > best) best = left[s], at = lane + 32 * s;
    const unsigned most = __reduce_max_sync(0xffffffffu, best);
    at = __reduce_min_sync(0xffffffffu, best == most ? at : experts);
#pragma unroll
    for (int s = 0; s < EACH; s++)
      if (at == lane + 32 * s) left[s] = 0;
    const float power = __expf(disordered(most) - largest);
    total += power;
    if (j % 32 == lane) choices[j] = at, gates[j] = power;
  }
  // Each lane's own.
  for (int j = lane; j < active; j += 32) gates[j] /= total;
}

// logits [tokens, experts]; choices, gates [tokens, active]: the largest logits, of equal ones the lower expert, and the softmax
// over them; normaliser [tokens]: logSumExp over all experts.
extern "C" __global__ void __launch_bounds__(ROUTE_TOKENS * 32, 4)
    mixture_route(int* choices, float* gates, float* normaliser, const float* logits, i64 tokens, int experts, int active) {
  const i64 token = (i64)blockIdx.x * ROUTE_TOKENS + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (token >= tokens) return;
  choices += token * active, gates += token * active, normaliser += token, logits += token * experts;
  if (experts <= 64) route<2>(choices, gates, normaliser, logits, experts, active, lane);
  else if (experts <= 256) route<8>(choices, gates, normaliser, logits, experts, active, lane);
  else route<MOST_EXPERTS / 32>(choices, gates, normaliser, logits, experts, active, lane);
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

// f(which choice, its expert, how many of the 32 before it chose the same) of the choices from `begin` to `end`, 32 at a time; the
// last of these adds them to the expert's count.
template <class F>
__device__ __forceinline__ void through(int* counts, const int* choices, int begin, int end, int lane, F f) {
  for (int i = begin; i < end; i += 32) {
    const bool any = i + lane < end;
    const int e = any ? choices[i + lane] : -1;
    const unsigned same = __match_any_sync(0xffffffffu, e);
    const int before = __popc(same & ((1u << lane) - 1));
    if (any) f(i + lane, e, before);
    __syncwarp();
    if (any && same >> lane == 1) counts[e] += before + 1;
    __syncwarp();
  }
}

// order [rows]: of each row which choice it is (token·active + place among the token's); place [rows]: of each choice which row.
// A warp has neighbouring choices, 32 at a time, and goes through them twice: to count, then to place them.
// Shared memory [warps, experts]: how many of a warp's chose each expert, then where its next row is.
extern "C" __global__ void mixture_place(int* order, int* place, const int* starts, const int* choices, i64 tokens, int experts,
                                         int active) {
  extern __shared__ int counts[];
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const i64 first = (i64)blockIdx.x * MIXTURE_TOKENS * active;
  const int rows = (int)min((i64)MIXTURE_TOKENS * active, tokens * active - first);
  const int each = (rows + blockDim.x - 1) / blockDim.x * 32, begin = warp * each, end = min(begin + each, rows);
  int* mine = counts + warp * experts;
  for (int i = threadIdx.x; i < warps * experts; i += blockDim.x) counts[i] = 0;
  __syncthreads();
  through(mine, choices + first, begin, end, lane, [](int, int, int) {});
  __syncthreads();
  for (int e = threadIdx.x; e < experts; e += blockDim.x) {
    int at = starts[(i64)e * gridDim.x + blockIdx.x];
    for (int w = 0; w < warps; w++) {
      const int count = counts[w * experts + e];
      counts[w * experts + e] = at;
      at += count;
    }
  }
  __syncthreads();
  through(mine, choices + first, begin, end, lane, [&](int i, int e, int before) {
    const int at = mine[e] + before;
    order[at] = (int)(first + i);
    place[first + i] = at;
  });
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
extern "C" __global__ void __launch_bounds__(ROUTE_TOKENS * 32, 4)
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
