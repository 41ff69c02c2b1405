// Fused attention, backward, first of two kernels: the gradient of the queries, and what the second kernel needs of every
// row. Each warpgroup goes over the keys of its 64 queries from the farthest tile to the nearest, because the gradient of
// a stick-breaking logit subtracts a sum over all keys farther away:
//   dZ[i] = dÃ[i] − σ(z[i]) · (remainder·dRemainder + Σ_{i' ≤ i} dÃ[i']),   dÃ[i] = A[i] · (dO·V[i])
// (the paper's equation 6 with its indices put right). Taken from the far end the sum is exact where the weights are small.
// What is left of the stick at a tile's near side follows from what is left at its far side, beginning at the tile where
// the forward stopped. No sum crosses blocks, so results are the same in every run.
#include "flash_queries.cuh"

constexpr int WGS = BLOCK_WARPGROUPS, STAGES = BLOCK_STAGES, THREADS = (WGS + 1) * 128;
// Three warpgroups with all of a thread's accumulators need every register there is.
constexpr bool FULL = WGS == 3 && (FIRE || D == 128);
constexpr int CONSUMER_REGISTERS = FULL ? 160 : WGS == 3 ? 152 : 232, PRODUCER_REGISTERS = FULL ? 32 : 40;
// Whether the product into dQ runs until the next tile's logits are there.
constexpr bool AHEAD = !(WGS == 3 && D == 128);
using T = Tile<D, TILE_ROWS>;
using Ring = Pipeline<STAGES, WGS * 4>;
// WARPGROUP + its number: the threads of a consumer; CONSUMERS: all of theirs.
enum NamedBarrier { WARPGROUP = 1, CONSUMERS = WARPGROUP + WGS };

struct Shared {
  unsigned q, dO, k, v;
  Ring ring;
  float* fireSlots;  // [warps, 2W + 1, 4]
  __device__ explicit Shared(char* base)
      : q((shared_address(base) + 1023) & ~1023u),
        dO(q + WGS * T::BYTES),
        k(dO + WGS * T::BYTES),
        v(k + STAGES * T::BYTES),
        ring(v + STAGES * T::BYTES),
        fireSlots((float*)(base + (ring.full + 128 - shared_address(base)))) {}
  static constexpr int BYTES = (2 * WGS + 2 * STAGES) * T::BYTES + 128;  // without fireSlots
};
static_assert(Ring::BYTES <= 128 && 1023 + Shared::BYTES <= BLOCK_BYTES, "more shared memory than the host gives");

__device__ __forceinline__ void produce(const Attention& p, const QueryItem& item, const Shared& sh, int head, int first,
                                        int tiles, int thread) {
  const int kv = head / (p.heads / p.kvHeads), stride = p.kvStride;
  const bf16* keys = p.k + (i64)item.k0 * stride + kv * D;
  const bf16* values = p.v + (i64)item.k0 * stride + kv * D;
  const TileLoader<true> loader(stride, thread);
  int step = 0;
  for (int n = first; n < tiles; n++, step++) {
    const int stage = sh.ring.acquire(step);
    loader.load(sh.k + stage * T::BYTES, keys + (i64)n * TILE_ROWS * stride, item.keys - n * TILE_ROWS);
    loader.load(sh.v + stage * T::BYTES, values + (i64)n * TILE_ROWS * stride, item.keys - n * TILE_ROWS);
    sh.ring.publish(step);
  }
  sh.ring.finish(step);
}

// What the two rows of a thread carry from tile to tile.
struct Carry {
  float left[2], start[2], sum[2], delta[2], logSumExp[2], slope;
  int limit[2], tile[2];
  KeyBias bias;
};

// s: logits → gradient of the logits (without the scale); dP: dO·V, which is still being multiplied.
template <bool MASKED>
__device__ __forceinline__ void stick_gradient(float (&s)[32], float (&dP)[32], Carry& carry, float2 (&out)[2], int n, int c,
                                               float scale) {
  const int visible[2] = {carry.limit[0] - TILE_ROWS * n - 16 * c, carry.limit[1] - TILE_ROWS * n - 16 * c};
  float leave[2][4], own[2], before[2], sums[2][4];  // sums of dÃ by groups of four keys: short chains of additions
  break_rows<MASKED>(s, scale, visible, leave, own);
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float all;
    const float nearer = nearer_product(own[h], c, all);
    // What is left of the stick before this tile: kept by the forward where the row stopped, else from the far side.
    float near = carry.left[h] * reciprocal(all);
    near = n == carry.tile[h] ? carry.start[h] : near;
    near = n < carry.tile[h] ? 0.f : near;
    carry.left[h] = near;
    before[h] = near * nearer;
    out[h] = make_float2(near, carry.sum[h]);
  }
  products_wait<0>();
  hold(dP);
#pragma unroll
  for (int group = 3; group >= 0; group--)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float product[4];
      product[3] = 1.f;
#pragma unroll
      for (int i = 2; i >= 0; i--) product[i] = fmaf(product[i + 1], s[at(h, 4 * group + i + 1)], product[i + 1]);
      float after = leave[h][group];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float t = s[at(h, 4 * group + i)], u = t * after;
        after = fmaf(after, t, after);
        s[at(h, 4 * group + i)] = u * product[i];  // σ(z)
        const float dA = u * before[h] * dP[at(h, 4 * group + i)];
        dP[at(h, 4 * group + i)] = dA;
        sums[h][group] = i == 0 ? dA : sums[h][group] + dA;
      }
      before[h] *= leave[h][group];
    }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float whole;
    const float farther = farther_sum((sums[h][0] + sums[h][1]) + (sums[h][2] + sums[h][3]), c, whole);
    const bool active = n >= carry.tile[h];
    float prefix = active ? carry.sum[h] + farther : 0.f;
    carry.sum[h] += active ? whole : 0.f;
#pragma unroll
    for (int group = 0; group < 4; group++) {
      float before = prefix;
      prefix += sums[h][group];
#pragma unroll
      for (int key = 4 * group; key < 4 * group + 4; key++) {
        const float dA = dP[at(h, key)];
        before += dA;
        s[at(h, key)] = fmaf(-s[at(h, key)], before, dA);
      }
    }
  }
}

template <bool MASKED>
__device__ __forceinline__ void softmax_gradient(float (&s)[32], float (&dP)[32], const Carry& carry, int window, int n,
                                                 int c, float scale) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const int visible = carry.limit[h] - TILE_ROWS * n - 16 * c, from = window ? visible - window : -TILE_ROWS;
#pragma unroll
    for (int key = 0; key < 16; key++) {
      float x = fmaf(s[at(h, key)], scale, KEY_BIAS ? carry.bias.now[KEY_BIAS ? key : 0] - carry.logSumExp[h] : -carry.logSumExp[h]);
      if (ALIBI) x = fmaf(carry.slope, (float)(key + 1 - visible), x);
      x = exp2_fast(x);
      s[at(h, key)] = MASKED && (key >= visible || key < from) ? 0.f : x;
    }
  }
  products_wait<0>();
  hold(dP);
#pragma unroll
  for (int h = 0; h < 2; h++)
#pragma unroll
    for (int key = 0; key < 16; key++) s[at(h, key)] *= dP[at(h, key)] - carry.delta[h];
}

// The same with FIRE's bias, and what its parameters' gradients need of the tile.
template <bool MASKED>
__device__ __forceinline__ void fire_gradient(float (&s)[32], float (&dP)[32], const Carry& carry, const FireBias& fire,
                                              FireSums& sums, int window, int n, int lane, float scale) {
  const int upper = carry.limit[0] - TILE_ROWS * n - 16 * (lane & 3);
  float u[24];
  const FireSpan span = fire.prepare<MASKED>(u, upper);
  const float base[2] = {-carry.logSumExp[0], -carry.logSumExp[1]};
  fire.add(s, u, scale, base, span);
  products_wait<0>();
  hold(dP);
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const int visible = upper + 8 * h, from = window ? visible - window : -TILE_ROWS;
#pragma unroll
    for (int key = 0; key < 16; key++) {
      float a = exp2_fast(s[at(h, key)]);
      if (MASKED && (key >= visible || key < from)) a = 0.f;
      s[at(h, key)] = a * (dP[at(h, key)] - carry.delta[h]);
    }
  }
  sums.add(s, u, fire, span, lane);
}

__device__ __forceinline__ void consume(const Attention& p, const QueryItem& item, const Shared& sh, int number, int head,
                                        int first, int tiles, int wg, int thread) {
  const int lane = thread & 31, warp = thread >> 5, c = lane & 3, r0 = warp * 16 + (lane >> 2);
  const int have = uniform(min(TILE_ROWS, item.rows - wg * TILE_ROWS)), sees = MECHANISM == SOFTMAX ? 1 : p.attendCurrent;
  Span span(p, item, wg, head);
  span.from = uniform(span.from), span.upper = uniform(span.upper);
  const int unmasked = uniform((FARTHER ? item.keys : item.first + wg * TILE_ROWS + sees) / TILE_ROWS);
  const int windowed = uniform(p.window ? tiles_of(item.first + wg * TILE_ROWS + TILE_ROWS - p.window) : 0);
  const float scale = p.scale * LOG2E;
  const i64 row0 = item.q0 + (have > 0 ? wg * TILE_ROWS : 0);

  const unsigned q = sh.q + wg * T::BYTES, dO = sh.dO + wg * T::BYTES;
  load_tile<false>(q, p.q + row0 * p.qStride + head * D, p.qStride, have, thread);
  load_tile<false>(dO, p.dOutput + (row0 * p.heads + head) * D, p.heads * D, have, thread);
  copy_commit();

  Carry carry;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const bool valid = r0 + 8 * h < have;
    const i64 row = row0 + (valid ? r0 + 8 * h : 0), at = row * p.heads + head;
    carry.limit[h] = FARTHER ? item.keys : item.first + wg * TILE_ROWS + r0 + 8 * h + sees;
    if (MECHANISM == STICK_BREAKING) {
      const Saved saved(p);
      carry.start[h] = saved.left[head * p.tokens + row];
      carry.tile[h] = valid ? (int)saved.tile[head * p.tokens + row] : 1 << 30;
      carry.left[h] = 0.f;
      carry.sum[h] = FARTHER ? p.dRemainder[at] : p.rowOutput[at] * p.dRemainder[at];
    } else {
      carry.logSumExp[h] = valid ? p.rowOutput[at] * LOG2E : INFINITY;
      carry.delta[h] = row_delta(p.output + at * D, p.dOutput + at * D, c);
      if (valid && c == 0) p.carries[head * p.tokens + row] = make_float2(carry.logSumExp[h], carry.delta[h]);
      carry.slope = ALIBI && p.slopes ? p.slopes[head] * LOG2E : 0.f;
    }
  }
  float2* carries = nullptr;
  if (MECHANISM == STICK_BREAKING && have > 0)
    carries = p.carries + ((i64)p.carryBase[item.rowBlock + wg] * p.headCount + (head - p.firstHead)) * TILE_ROWS;

  if (KEY_BIAS) carry.bias.begin(p, head / (p.heads / p.kvHeads), item.k0);

  FireBias fire;
  FireSums fireSums;
  const int slots = FIRE ? fire_columns(p.fireUnits) : 0;
  if (FIRE) {
    const int position = item.first + wg * TILE_ROWS + r0;
    fire.begin(p, head);
    fire.rows(position);
    fireSums.begin(p, fire, sh.fireSlots + (wg * 4 + warp) * slots, position, lane);
  }

  copy_wait<0>();
  async_proxy_fence();
  warpgroup_barrier(WARPGROUP + wg);

  float dQ[D / 2];
#pragma unroll
  for (int i = 0; i < D / 2; i++) dQ[i] = 0.f;
  const auto idle = [&](int step) { sh.ring.wait(step), sh.ring.release(step, lane); };
  const int from = min(span.from, tiles);
  int step = 0, n = first;
  for (; n < from; n++, step++) idle(step);
  for (; n < span.upper; n++, step++) {
    const int stage = sh.ring.wait(step);
    float s[32], dP[32];
    products_begin();
    compare_tiles<D>(s, q, sh.k + stage * T::BYTES, warp, lane);
    products_commit();
    compare_tiles<D>(dP, dO, sh.v + stage * T::BYTES, warp, lane);
    products_commit();
    if (KEY_BIAS) carry.bias.fetch(n, c);
    products_wait<1>();
    hold(s);
    hold(dQ);
    if (AHEAD && n > from) sh.ring.release(step - 1, lane);
    if (MECHANISM == STICK_BREAKING) {
      float2 out[2];
      if (n >= unmasked) stick_gradient<true>(s, dP, carry, out, n, c, scale);
      else stick_gradient<false>(s, dP, carry, out, n, c, scale);
      float2* to = carries + (i64)n * p.headCount * TILE_ROWS + r0;
      if (c == 0) to[0] = out[0], to[8] = out[1];
    } else if (FIRE) {
      if (n >= unmasked || n < windowed) fire_gradient<true>(s, dP, carry, fire, fireSums, p.window, n, lane, scale);
      else fire_gradient<false>(s, dP, carry, fire, fireSums, p.window, n, lane, scale);
    } else {
      if (n >= unmasked || n < windowed) softmax_gradient<true>(s, dP, carry, p.window, n, c, scale);
      else softmax_gradient<false>(s, dP, carry, p.window, n, c, scale);
    }
    unsigned a[4][4];
#pragma unroll
    for (int i = 0; i < 16; i++) a[i / 4][i % 4] = pack_bf16(s[2 * i], s[2 * i + 1]);
    hold(dQ);
    products_begin();
    accumulate<D>(dQ, a, sh.k + stage * T::BYTES, lane);
    products_commit();
    if (!AHEAD) {
      products_wait<0>();
      hold(dQ);
      sh.ring.release(step, lane);
    }
  }
  if (AHEAD) {
    products_wait<0>();
    hold(dQ);
    if (n > from) sh.ring.release(step - 1, lane);
  }
  for (; n < tiles; n++, step++) idle(step);
  if (FIRE) {
    fireSums.flush(lane);
    asm volatile("bar.sync %0, %1;" ::"r"(CONSUMERS), "n"(WGS * 128) : "memory");
    float* to = p.fireSums + ((i64)number * p.heads + head) * slots;
    for (int i = wg * 128 + thread; i < slots; i += WGS * 128) {
      float sum = 0.f;
      for (int w = 0; w < WGS * 4; w++) sum += sh.fireSlots[w * slots + i];
      to[i] = sum;
    }
  }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if (r0 + 8 * h >= have) continue;
    const i64 row = row0 + r0 + 8 * h;
    store_gradient(p.dq + row * p.dqStride + head * D, dQ, h, c, p.scale, p.turnQ, row, p.tokens);
    if (FARTHER && c == 0) p.rowOutput[row * p.heads + head] = carry.sum[h];
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) flash_backward_queries(const __grid_constant__ Attention p) {
  extern __shared__ char memory[];
  const Shared sh(memory);
  int number, head;
  locate(p, number, head);
  const QueryItem item = ((const QueryItem*)p.items)[number];
  const int wg = uniform(threadIdx.x / 128), thread = threadIdx.x % 128;
  if (threadIdx.x == 0) sh.ring.init();
  __syncthreads();
  int first = 1 << 30, tiles = 0;
#pragma unroll
  for (int w = 0; w < WGS; w++) {
    const Span span(p, item, w, head);
    first = min(first, span.from);
    tiles = max(tiles, span.upper);
  }
  first = uniform(first), tiles = uniform(tiles);
  if (wg == WGS) {
    registers_give<PRODUCER_REGISTERS>();
    produce(p, item, sh, head, first, tiles, thread);
  } else {
    registers_take<CONSUMER_REGISTERS>();
    consume(p, item, sh, number, head, first, tiles, wg, thread);
  }
}
