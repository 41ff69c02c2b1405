// Fused attention, backward, first of two kernels: the gradient of the queries, and what the second kernel needs of every
// row. A block of 64 queries a warpgroup goes over its keys from the farthest tile to the nearest, because the gradient of
// a stick-breaking logit subtracts a sum over all keys farther away:
//   dZ[i] = dÃ[i] − σ(z[i]) · (remainder·dRemainder + Σ_{i' ≤ i} dÃ[i']),   dÃ[i] = A[i] · (dO·V[i])
// (the paper's equation 6 with its indices put right). Taken from the far end the sum is exact where the weights are small.
// What is left of the stick at a tile's near side follows from what is left at its far side, beginning at the tile where
// the forward stopped. No sum crosses blocks, so results are the same in every run.
#include "flash.cuh"
#ifdef __CUDA_ARCH_FEAT_SM90_ALL

#ifndef WARPGROUPS
#define WARPGROUPS (HEAD_DIM <= 64 ? 3 : 2)
#endif
constexpr int WGS = WARPGROUPS, THREADS = (WGS + 1) * 128;
constexpr int STAGES = D <= 64 ? 4 : 2;
constexpr int CONSUMER_REGISTERS = WGS == 3 ? 152 : 232, PRODUCER_REGISTERS = 40;
using T = Tile<D, 64>;

struct Shared {
  unsigned q, dO, k, v, full, empty;
  __device__ explicit Shared(char* base) {
    q = (shared_address(base) + 1023) & ~1023u;
    dO = q + WGS * T::BYTES;
    k = dO + WGS * T::BYTES;
    v = k + STAGES * T::BYTES;
    full = v + STAGES * T::BYTES;
    empty = full + STAGES * 8;
  }
};

// The tiles that a warpgroup's 64 queries work on: from … upper − 1.
struct Span {
  int from, upper;
  __device__ Span(const Attention& p, const QueryItem& item, int wg, int head) {
    const int have = min(64, item.rows - wg * 64), sees = MECHANISM == SOFTMAX ? 1 : p.attendCurrent;
    upper = have > 0 ? (item.first + wg * 64 + have - 1 + sees + 63) / 64 : 0;
    from = p.window ? max(0, item.first + wg * 64 + 1 - p.window) / 64 : 0;
    if (MECHANISM == STICK_BREAKING && have > 0) from = (int)Saved(p).stop[(i64)head * p.rowBlocks + item.rowBlock + wg];
    if (have <= 0) from = 1 << 30;
  }
};

__device__ __forceinline__ void produce(const Attention& p, const QueryItem& item, const Shared& sh, int head, int first,
                                        int tiles, int thread) {
  const int kv = head / (p.heads / p.kvHeads), stride = p.kvHeads * D;
  const bf16* keys = p.k + (i64)item.k0 * stride + kv * D;
  const bf16* values = p.v + (i64)item.k0 * stride + kv * D;
  int step = 0;
  for (int n = first; n < tiles; n++, step++) {
    const int stage = step % STAGES;
    if (step >= STAGES) barrier_wait(sh.empty + stage * 8, (step / STAGES - 1) & 1);
    load_tile<true>(sh.k + stage * T::BYTES, keys + (i64)n * 64 * stride, stride, item.keys - n * 64, thread);
    load_tile<true>(sh.v + stage * T::BYTES, values + (i64)n * 64 * stride, stride, item.keys - n * 64, thread);
    copy_commit();
    if (step > 0) {
      copy_wait<1>();
      async_proxy_fence();
      barrier_arrive(sh.full + (step - 1) % STAGES * 8);
    }
  }
  copy_wait<0>();
  async_proxy_fence();
  if (step > 0) barrier_arrive(sh.full + (step - 1) % STAGES * 8);
}

// What the two rows of a thread carry from tile to tile.
struct Carry {
  float left[2], start[2], sum[2], delta[2], logSumExp[2], slope;
  int limit[2], tile[2];
};

// s: logits → gradient of the logits (without the scale); dP: dO·V.
template <bool MASKED>
__device__ __forceinline__ void stick_gradient(float (&s)[32], float (&dP)[32], Carry& carry, float2 (&out)[2], int n, int c,
                                               float scale) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float leave[4], all, whole;
    const float own = break_row<MASKED>(s, h, scale, carry.limit[h] - 64 * n - 16 * c, leave);
    const float nearer = nearer_product(own, c, all);
    // What is left of the stick before this tile: kept by the forward where the row stopped, else from the far side.
    const float near = n == carry.tile[h] ? carry.start[h] : n > carry.tile[h] ? carry.left[h] * reciprocal(all) : 0.f;
    carry.left[h] = near;
    float before = near * nearer, sum = 0.f;
#pragma unroll
    for (int group = 3; group >= 0; group--) {
      float t[4], product[4];
#pragma unroll
      for (int i = 0; i < 4; i++) t[i] = s[at(h, 4 * group + i)];
      product[3] = 1.f;
#pragma unroll
      for (int i = 2; i >= 0; i--) product[i] = fmaf(product[i + 1], t[i + 1], product[i + 1]);
      float after = leave[group];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float u = t[i] * after;
        after = fmaf(after, t[i], after);
        s[at(h, 4 * group + i)] = u * product[i];         // σ(z)
        const float dA = u * before * dP[at(h, 4 * group + i)];
        dP[at(h, 4 * group + i)] = dA;
        sum += dA;
      }
      before *= leave[group];
    }
    float prefix = carry.sum[h] + farther_sum(sum, c, whole);
    out[h] = make_float2(near, carry.sum[h]);
    if (n >= carry.tile[h]) carry.sum[h] += whole;
#pragma unroll
    for (int key = 0; key < 16; key++) {
      const float dA = dP[at(h, key)];
      prefix += dA;
      s[at(h, key)] = n >= carry.tile[h] ? fmaf(-s[at(h, key)], prefix, dA) : 0.f;
    }
  }
}

template <bool MASKED>
__device__ __forceinline__ void softmax_gradient(float (&s)[32], const float (&dP)[32], const Carry& carry, int window, int n,
                                                 int c, float scale, bool alibi) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const int visible = carry.limit[h] - 64 * n - 16 * c, from = window ? visible - window : -64;
#pragma unroll
    for (int key = 0; key < 16; key++) {
      float x = fmaf(s[at(h, key)], scale, -carry.logSumExp[h]);
      if (alibi) x = fmaf(carry.slope, (float)(key + 1 - visible), x);
      float a = exp2_fast(x);
      if (MASKED && (key >= visible || key < from)) a = 0.f;
      s[at(h, key)] = a * (dP[at(h, key)] - carry.delta[h]);
    }
  }
}

// Σ dO·O of a row, by the four threads of a quad.
__device__ __forceinline__ float row_delta(const bf16* output, const bf16* dOutput, int c) {
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < D / 32; i++) {
    float a[8], b[8];
    load8(output + (4 * i + c) * 8, a);
    load8(dOutput + (4 * i + c) * 8, b);
#pragma unroll
    for (int j = 0; j < 8; j++) sum = fmaf(a[j], b[j], sum);
  }
  sum += __shfl_xor_sync(0xffffffffu, sum, 1);
  return sum + __shfl_xor_sync(0xffffffffu, sum, 2);
}

__device__ __forceinline__ void consume(const Attention& p, const QueryItem& item, const Shared& sh, int head, int first,
                                        int tiles, int wg, int thread) {
  const int lane = thread & 31, c = lane & 3, r0 = (thread >> 5) * 16 + (lane >> 2);
  const int have = min(64, item.rows - wg * 64), sees = MECHANISM == SOFTMAX ? 1 : p.attendCurrent;
  const Span span(p, item, wg, head);
  const int unmasked = (item.first + wg * 64 + sees) / 64;
  const int windowed = p.window ? (item.first + wg * 64 + 63 + 1 - p.window + 63) / 64 : 0;
  const float scale = p.scale * LOG2E;
  const i64 row0 = item.q0 + (have > 0 ? wg * 64 : 0);

  const unsigned q = sh.q + wg * T::BYTES, dO = sh.dO + wg * T::BYTES;
  load_tile<false>(q, p.q + (row0 * p.heads + head) * D, p.heads * D, have, thread);
  load_tile<false>(dO, p.dOutput + (row0 * p.heads + head) * D, p.heads * D, have, thread);
  copy_commit();

  Carry carry;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const bool valid = r0 + 8 * h < have;
    const i64 row = row0 + (valid ? r0 + 8 * h : 0), at = row * p.heads + head;
    carry.limit[h] = item.first + wg * 64 + r0 + 8 * h + sees;
    if (MECHANISM == STICK_BREAKING) {
      const Saved saved(p);
      carry.start[h] = saved.left[head * p.tokens + row];
      carry.tile[h] = valid ? (int)saved.tile[head * p.tokens + row] : 1 << 30;
      carry.left[h] = 0.f;
      carry.sum[h] = p.rowOutput[at] * p.dRemainder[at];
    } else {
      carry.logSumExp[h] = valid ? p.rowOutput[at] * LOG2E : INFINITY;
      carry.delta[h] = row_delta(p.output + at * D, p.dOutput + at * D, c);
      if (valid && c == 0) p.carries[head * p.tokens + row] = make_float2(carry.logSumExp[h], carry.delta[h]);
      carry.slope = p.slopes ? p.slopes[head] * LOG2E : 0.f;
    }
  }
  float2* carries = nullptr;
  if (MECHANISM == STICK_BREAKING && have > 0)
    carries = p.carries + ((i64)p.carryBase[item.rowBlock + wg] * p.headCount + (head - p.firstHead)) * 64;

  copy_wait<0>();
  async_proxy_fence();
  warpgroup_barrier(wg + 1);

  float dQ[D / 2];
#pragma unroll
  for (int i = 0; i < D / 2; i++) dQ[i] = 0.f;
  int step = 0;
  for (int n = first; n < tiles; n++, step++) {
    const int stage = step % STAGES;
    barrier_wait(sh.full + stage * 8, (step / STAGES) & 1);
    if (n >= span.from && n < span.upper) {
      float s[32], dP[32];
      products_begin();
      compare_tiles(s, q, sh.k + stage * T::BYTES);
      compare_tiles(dP, dO, sh.v + stage * T::BYTES);
      products_commit();
      products_wait<0>();
      hold(s);
      hold(dP);
      if (MECHANISM == STICK_BREAKING) {
        float2 out[2];
        if (n >= unmasked) stick_gradient<true>(s, dP, carry, out, n, c, scale);
        else stick_gradient<false>(s, dP, carry, out, n, c, scale);
        float2* to = carries + (i64)n * p.headCount * 64 + r0;
        if (c == 0) to[0] = out[0], to[8] = out[1];
      } else {
        if (n >= unmasked || n < windowed) softmax_gradient<true>(s, dP, carry, p.window, n, c, scale, p.slopes);
        else softmax_gradient<false>(s, dP, carry, p.window, n, c, scale, p.slopes);
      }
      unsigned a[4][4];
#pragma unroll
      for (int i = 0; i < 16; i++) a[i / 4][i % 4] = pack_bf16(s[2 * i], s[2 * i + 1]);
      hold(dQ);
      products_begin();
      const unsigned long long keys = T::descriptor(sh.k + stage * T::BYTES);
#pragma unroll
      for (int i = 0; i < 4; i++) multiply(dQ, a[i], keys + (T::along_rows(i) >> 4), false);
      products_commit();
      products_wait<0>();
      hold(dQ);
    }
    if (lane == 0) barrier_arrive(sh.empty + stage * 8);
  }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if (r0 + 8 * h >= have) continue;
    bf16* out = p.dq + ((row0 + r0 + 8 * h) * p.heads + head) * D + 2 * c;
#pragma unroll
    for (int j = 0; j < D / 8; j++)
      *(unsigned*)(out + 8 * j) = pack_bf16(dQ[4 * j + 2 * h] * p.scale, dQ[4 * j + 2 * h + 1] * p.scale);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) flash_backward_queries(const __grid_constant__ Attention p) {
  extern __shared__ char memory[];
  const Shared sh(memory);
  int number, head;
  locate(p, number, head);
  const QueryItem item = ((const QueryItem*)p.items)[number];
  const int wg = threadIdx.x / 128, thread = threadIdx.x % 128;
  if (threadIdx.x == 0)
    for (int i = 0; i < STAGES; i++) barrier_init(sh.full + i * 8, 128), barrier_init(sh.empty + i * 8, WGS * 4);
  __syncthreads();
  int first = 1 << 30, tiles = 0;
#pragma unroll
  for (int w = 0; w < WGS; w++) {
    const Span span(p, item, w, head);
    first = min(first, span.from);
    tiles = max(tiles, span.upper);
  }
  if (wg == WGS) {
    registers_give<PRODUCER_REGISTERS>();
    produce(p, item, sh, head, first, tiles, thread);
  } else {
    registers_take<CONSUMER_REGISTERS>();
    consume(p, item, sh, head, first, tiles, wg, thread);
  }
}
#endif
