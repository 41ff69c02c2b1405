// Fused attention, backward, second of two kernels: the gradients of keys and values. A warpgroup owns 64 keys and goes
// over the blocks of 64 queries that see them; what the scan along a row brings to this tile (what is left of the stick before
// it, the sum of what lies farther away; for softmax its normaliser) was kept by the first kernel. Weights and logit
// gradients go through shared memory as bfloat16, to be read transposed. Grouped query heads are summed here, in order.
#include "flash_key_tile.cuh"

constexpr int WGS = BLOCK_WARPGROUPS, STAGES = BLOCK_STAGES, THREADS = (WGS + 1) * 128;
constexpr int CONSUMER_REGISTERS = WGS == 3 ? 160 : 232, PRODUCER_REGISTERS = WGS == 3 ? 32 : 40;
// Where there is room for two of each warpgroup's squares, one is written while the other is still read.
constexpr int BUFFERS = STAGES == 3 ? 2 : 1;
// Whether the product into dV is asked for as soon as the weights are there, and runs while the logit gradients are made.
constexpr bool EARLY = D == 128 && !FIRE && HOPPER;
using T = Tile<D, TILE_ROWS>;
using Square = Tile<TILE_ROWS, TILE_ROWS>;
using Ring = Pipeline<STAGES, WGS * 4>;
enum NamedBarrier { WARPGROUP = 1 };  // + its number: the threads of a consumer

struct Shared {
  unsigned k, v, weights, dLogits, q, dO;
  Ring ring;
  float *biases, *slots;  // with KEY_BIAS: [warpgroups, 64], and where the squares lie
  __device__ explicit Shared(char* base)
      : k((shared_address(base) + 1023) & ~1023u),
        v(k + WGS * T::BYTES),
        weights(v + WGS * T::BYTES),
        dLogits(weights + BUFFERS * WGS * Square::BYTES),
        q(dLogits + BUFFERS * WGS * Square::BYTES),
        dO(q + STAGES * T::BYTES),
        ring(dO + STAGES * T::BYTES),
        biases((float*)(base + (ring.full + 128 - shared_address(base)))),
        slots((float*)(base + (weights - shared_address(base)))) {}
  static constexpr int BYTES = 2 * WGS * (T::BYTES + BUFFERS * Square::BYTES) + 2 * STAGES * T::BYTES +
                               (KEY_BIAS ? 128 + WGS * TILE_ROWS * 4 : Ring::BYTES);
};
static_assert(Ring::BYTES <= 128 && 1023 + Shared::BYTES <= BLOCK_BYTES, "more shared memory than the host gives");

// The query blocks that see any of the keys at `position` … `position + count − 1` of the document: from … to.
struct Blocks {
  int from, to;
  __device__ Blocks(const Attention& p, const KeyItem& item, int position, int count) {
    const int sees = MECHANISM == SOFTMAX ? 1 : p.attendCurrent;
    const int nearest = max(0, position - item.offset - sees + 1);  // the first query that sees the first key
    from = nearest / TILE_ROWS;
    int last = item.queries - 1;
    if (last < nearest) last = -1;
    if (p.window) last = min(last, position + count - 1 + p.window - 1 - item.offset);
    to = last < 0 ? -1 : last / TILE_ROWS;
  }
};

// The farthest tiles that the sticks of a head's query blocks reach.
struct Reach {
  const float* stop;
  __device__ __forceinline__ Reach(const Attention& p, const KeyItem& item, int head)
      : stop(MECHANISM == SOFTMAX ? nullptr : Saved(p).stop + (i64)head * p.rowBlocks + item.rowBlock) {}
  __device__ __forceinline__ int operator[](int b) const { return MECHANISM == SOFTMAX ? 0 : (int)stop[b]; }
};

// What the first kernel kept of this thread's two rows, for one tile and head, block after block.
struct Kept {
  const float2* rows;
  int pair, reached, width, left;
  // `head` is counted from the first of those that `carries` holds, of `width`.
  __device__ __forceinline__ Kept(const Attention& p, const KeyItem& item, int head, int width, int tile, int r0) : width(width) {
    left = item.queries - r0;
    if (MECHANISM == SOFTMAX) {
      rows = p.carries + (i64)(p.firstHead * (p.heads / p.kvHeads) + head) * p.tokens + item.q0 + r0;
    } else {
      rows = p.carries + (i64)head * TILE_ROWS + r0;
      pair = uniform(p.carryBase[item.rowBlock] + tile);
      // Tiles that the document's first block sees; each later one sees one more, or as many.
      reached = tiles_of(item.offset) + (FARTHER ? 0 : 1);
    }
  }
  __device__ __forceinline__ void fetch(float2 (&carry)[2], int b) const {
    if (MECHANISM == STICK_BREAKING) {
      // Rows past the document's end were kept, too: nothing is left of their sticks.
      const float2* at = rows + (i64)((pair + b * reached + (FARTHER ? 0 : b * (b - 1) >> 1)) * width) * TILE_ROWS;
      carry[0] = at[0], carry[1] = at[8];
    } else {
      const float2* at = rows + (i64)b * TILE_ROWS;
#pragma unroll
      for (int h = 0; h < 2; h++) carry[h] = left > b * TILE_ROWS + 8 * h ? at[8 * h] : make_float2(INFINITY, 0.f);
    }
  }
};

__device__ __forceinline__ void produce(const Attention& p, const KeyItem& item, const Shared& sh, int kv, int thread) {
  const int group = p.heads / p.kvHeads, nearest = (item.position + item.keys - 1) / TILE_ROWS;
  const Blocks blocks(p, item, item.position, item.keys);
  const TileLoader<false> queries(p.qStride, thread), gradients(p.heads * D, thread);
  int step = 0;
  for (int head = kv * group; head < (kv + 1) * group; head++) {
    const Reach reach(p, item, head);
    for (int b = blocks.from; b <= blocks.to; b++) {
      if (nearest < reach[b]) continue;
      const int stage = sh.ring.acquire(step);
      const i64 row = item.q0 + b * TILE_ROWS;
      queries.load(sh.q + stage * T::BYTES, p.q + row * p.qStride + head * D, item.queries - b * TILE_ROWS);
      gradients.load(sh.dO + stage * T::BYTES, p.dOutput + (row * p.heads + head) * D, item.queries - b * TILE_ROWS);
      sh.ring.publish(step++);
    }
  }
  sh.ring.finish(step);
}

template <bool MASKED, class Weighed>
__device__ __forceinline__ void softmax_tile(float (&s)[32], float (&dP)[32], const float2 (&carry)[2], const int (&visible)[2],
                                             unsigned weights, unsigned dLogits, int warp, int lane, float scale, int window,
                                             float slope, const float* biases, KeyBiasSums& biasSums, const Weighed& weighed) {
#pragma unroll
  for (int group = 0; group < 4; group++) {
    unsigned packed[2][2];
    float bias[4] = {};
    if (KEY_BIAS) {
      const float4 four = *(const float4*)(biases + 16 * (lane & 3) + 4 * group);
      bias[0] = four.x, bias[1] = four.y, bias[2] = four.z, bias[3] = four.w;
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
      for (int key = 4 * group; key < 4 * group + 4; key++) {
        float x = fmaf(s[at(h, key)], scale, KEY_BIAS ? bias[KEY_BIAS ? key % 4 : 0] - carry[h].x : -carry[h].x);
        if (ALIBI) x = fmaf(slope, (float)(key + 1 - visible[h]), x);
        x = exp2_fast(x);
        s[at(h, key)] = MASKED && (key >= visible[h] || (window && key < visible[h] - window)) ? 0.f : x;
      }
      packed[0][h] = pack_bf16(s[at(h, 4 * group)], s[at(h, 4 * group + 1)]);
      packed[1][h] = pack_bf16(s[at(h, 4 * group + 2)], s[at(h, 4 * group + 3)]);
    }
    store_pair(weights, warp, lane, group, packed[0][0], packed[0][1], packed[1][0], packed[1][1]);
  }
  products_wait<0>();
  hold(dP);
  weighed();
#pragma unroll
  for (int group = 0; group < 4; group++) {
    unsigned packed[2][2];
    float both[4] = {};
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float dz[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        dz[i] = s[at(h, 4 * group + i)] * (dP[at(h, 4 * group + i)] - carry[h].y);
        if (KEY_BIAS) both[i] += dz[i];
      }
      packed[0][h] = pack_bf16(dz[0], dz[1]);
      packed[1][h] = pack_bf16(dz[2], dz[3]);
    }
    store_pair(dLogits, warp, lane, group, packed[0][0], packed[0][1], packed[1][0], packed[1][1]);
    if (KEY_BIAS) biasSums.add(group, both, lane);
  }
}

// The same with FIRE's bias. Logarithms are made a group of keys at a time: there is no room to keep them all.
template <bool MASKED>
__device__ __forceinline__ void fire_tile(float (&s)[32], float (&dP)[32], const float2 (&carry)[2], const int (&visible)[2],
                                          unsigned weights, unsigned dLogits, int warp, int lane, float scale, int window,
                                          const FireBias& fire) {
  products_wait<0>();
  hold(dP);
  const int upper = visible[0];
  const FireSpan span = fire.span(fire.log<MASKED>(upper, 23), fire.log<MASKED>(upper, 0));
  const float slope[2] = {span.line.x * fire.inverse[0], span.line.x * fire.inverse[1]};
  const float intercept[2] = {span.line.y - carry[0].x, span.line.y - carry[1].x};
  float u[24];
#pragma unroll
  for (int group = 0; group < 4; group++) {
    int near = upper;
    asm volatile("" : "+r"(near));
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (group < 2) u[4 * group + i] = fire.log<MASKED>(near, 4 * group + i);
      u[4 * group + 8 + i] = fire.log<MASKED>(near, 4 * group + 8 + i);
    }
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
      for (int key = 4 * group; key < 4 * group + 4; key++)
        s[at(h, key)] = fmaf(s[at(h, key)], scale, fmaf(slope[h], u[key + 8 - 8 * h], intercept[h]));
#pragma unroll 1
    for (int k = span.from; k < span.to; k++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        float change, edge;
        fire.bend(k, h, change, edge);
#pragma unroll
        for (int key = 4 * group; key < 4 * group + 4; key++)
          s[at(h, key)] = fmaf(change, fmaxf(u[key + 8 - 8 * h] - edge, 0.f), s[at(h, key)]);
      }
    unsigned weight[2][2], dLogit[2][2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float a[4], dz[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int key = 4 * group + i;
        a[i] = exp2_fast(s[at(h, key)]);
        if (MASKED && (key >= visible[h] || (window && key < visible[h] - window))) a[i] = 0.f;
        dz[i] = a[i] * (dP[at(h, key)] - carry[h].y);
      }
      weight[0][h] = pack_bf16(a[0], a[1]), weight[1][h] = pack_bf16(a[2], a[3]);
      dLogit[0][h] = pack_bf16(dz[0], dz[1]), dLogit[1][h] = pack_bf16(dz[2], dz[3]);
    }
    store_pair(weights, warp, lane, group, weight[0][0], weight[0][1], weight[1][0], weight[1][1]);
    store_pair(dLogits, warp, lane, group, dLogit[0][0], dLogit[0][1], dLogit[1][0], dLogit[1][1]);
  }
}

__device__ __forceinline__ void consume(const Attention& p, const KeyItem& item, const Shared& sh, int kv, int wg, int thread) {
  const int lane = thread & 31, warp = thread >> 5, c = lane & 3, r0 = warp * 16 + (lane >> 2);
  const int group = p.heads / p.kvHeads, have = uniform(min(TILE_ROWS, item.keys - wg * TILE_ROWS)), sees = MECHANISM == SOFTMAX ? 1 : p.attendCurrent;
  const int tile = item.position / TILE_ROWS + wg, nearest = (item.position + item.keys - 1) / TILE_ROWS;
  Blocks blocks(p, item, item.position, item.keys), own(p, item, item.position + wg * TILE_ROWS, have);
  blocks.from = uniform(blocks.from), blocks.to = uniform(blocks.to);
  own.from = uniform(own.from), own.to = have > 0 ? uniform(own.to) : -1;
  const float scale = p.scale * LOG2E;
  const unsigned k = sh.k + wg * T::BYTES, v = sh.v + wg * T::BYTES;
  const i64 key0 = item.k0 + (have > 0 ? wg * TILE_ROWS : 0);
  load_tile<true>(k, p.k + key0 * p.kvStride + kv * D, p.kvStride, have, thread);
  load_tile<true>(v, p.v + key0 * p.kvStride + kv * D, p.kvStride, have, thread);
  copy_commit();
  float* const biases = sh.biases + wg * TILE_ROWS;
  KeyBiasSums biasSums;
  if (KEY_BIAS) {
    KeyBias bias;
    bias.begin(p, kv, item.k0 + (have > 0 ? wg * TILE_ROWS : 0));
    if (thread < TILE_ROWS) biases[thread] = bias.keys[thread];
    biasSums.begin();
  }
  copy_wait<0>();
  async_proxy_fence();
  warpgroup_barrier(WARPGROUP + wg);

  float dK[D / 2], dV[D / 2];
#pragma unroll
  for (int i = 0; i < D / 2; i++) dK[i] = 0.f, dV[i] = 0.f;
  float2 next[2];
  int step = 0;
  // The step whose products into dV and dK are still running: they are waited for when the next block's logits are there.
  int running = -1, buffer = 0;
  const auto settle = [&] {
    if (running >= 0) sh.ring.release(running, lane);
    running = -1;
  };
  for (int head = kv * group; head < (kv + 1) * group; head++) {
    const Reach reach(p, item, head);
    const Kept kept(p, item, head - p.firstHead * group, p.headCount * group, tile, r0);
    // Both are asked for one block ahead. Where no stick of a block reached, the first kernel kept nothing.
    int farthest = blocks.from <= blocks.to ? reach[blocks.from] : 0, fetched = -1;
    for (int b = blocks.from; b <= blocks.to; b++) {
      const int here = farthest;
      if (b < blocks.to) farthest = reach[b + 1];
      if (nearest < here) continue;
      if (b >= own.from && b <= own.to && tile >= here) {
        if (fetched != b) kept.fetch(next, b);
        float2 carry[2];
        int visible[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
          carry[h] = next[h];
          visible[h] = (FARTHER ? item.offset : item.offset + b * TILE_ROWS + r0 + 8 * h + sees) - TILE_ROWS * tile - 16 * c;
        }
        const int stage = sh.ring.wait(step);
        float s[32], dP[32];
        const unsigned q = sh.q + stage * T::BYTES, dO = sh.dO + stage * T::BYTES;
        products_begin();
        compare_tiles<D>(s, q, k, warp, lane);
        products_commit();
        compare_tiles<D>(dP, dO, v, warp, lane);
        products_commit();
        if (b < own.to && tile >= farthest) kept.fetch(next, b + 1), fetched = b + 1;
        products_wait<1>();
        hold(s);
        hold(dK);
        hold(dV);
        // The squares are written anew: all four warps' products must have read them. Of two, those before the last are: each
        // warp waited for its products with them before it wrote the last ones and met the others.
        if (BUFFERS == 1) warpgroup_barrier(WARPGROUP + wg);
        settle();
        buffer = BUFFERS == 1 ? 0 : buffer ^ 1;
        const int square = wg + WGS * buffer;
        const unsigned weights = sh.weights + square * Square::BYTES, dLogits = sh.dLogits + square * Square::BYTES;
        const auto weighed = [&] {
          if (!EARLY) return;
          async_proxy_fence();
          warpgroup_barrier(WARPGROUP + wg);
          hold(dV);
          products_begin();
          accumulate_transposed<D>(dV, weights, dO, warp, lane);
          products_commit();
        };
        const int nearRow = FARTHER ? item.offset : item.offset + b * TILE_ROWS + sees;  // keys that the block's first row sees
        const bool edge = p.window && TILE_ROWS * tile < nearRow + TILE_ROWS - 1 - p.window;
        if (MECHANISM == STICK_BREAKING) {
          if (TILE_ROWS * tile + TILE_ROWS > nearRow) stick_tile<true>(s, dP, carry, visible, weights, dLogits, warp, lane, scale, weighed);
          else stick_tile<false>(s, dP, carry, visible, weights, dLogits, warp, lane, scale, weighed);
        } else if (FIRE) {
          FireBias fire;
          fire.begin(p, head);
          fire.rows(item.offset + b * TILE_ROWS + r0);
          if (TILE_ROWS * tile + TILE_ROWS > nearRow || edge)
            fire_tile<true>(s, dP, carry, visible, weights, dLogits, warp, lane, scale, p.window, fire);
          else fire_tile<false>(s, dP, carry, visible, weights, dLogits, warp, lane, scale, p.window, fire);
        } else {
          const float slope = ALIBI && p.slopes ? p.slopes[head] * LOG2E : 0.f;
          if (TILE_ROWS * tile + TILE_ROWS > nearRow || edge)
            softmax_tile<true>(s, dP, carry, visible, weights, dLogits, warp, lane, scale, p.window, slope, biases, biasSums, weighed);
          else softmax_tile<false>(s, dP, carry, visible, weights, dLogits, warp, lane, scale, p.window, slope, biases, biasSums, weighed);
        }
        async_proxy_fence();
        warpgroup_barrier(WARPGROUP + wg);
        hold(dK);
        if (!EARLY) hold(dV);
        products_begin();
        if (!EARLY) accumulate_transposed<D>(dV, weights, dO, warp, lane);
        accumulate_transposed<D>(dK, dLogits, q, warp, lane);
        products_commit();
        running = step++;
      } else {
        products_wait<0>();
        hold(dK);
        hold(dV);
        settle();
        sh.ring.wait(step);
        sh.ring.release(step++, lane);
      }
    }
  }
  products_wait<0>();
  hold(dK);
  hold(dV);
  settle();
  if (KEY_BIAS) {
    // Once all four warps' products have read the squares, these have room for the warps' sums.
    float* const slots = sh.slots + wg * (Square::BYTES / 4);
    warpgroup_barrier(WARPGROUP + wg);
    biasSums.store(slots, warp, lane);
    warpgroup_barrier(WARPGROUP + wg);
    if (thread < have) {
      float sum = 0.f;
      for (int w = 0; w < 4; w++) sum += slots[w * TILE_ROWS + thread];
      p.dKeyBias[(key0 + thread) * p.kvHeads + kv] = sum;
    }
  }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const int key = key_of_row(r0 + 8 * h);
    if (key >= have) continue;
    const i64 row = key0 + key, to = row * p.dkvStride + kv * D;
    store_gradient(p.dk + to, dK, h, c, p.scale, p.turnK, row, p.keyTokens);
    store_gradient(p.dv + to, dV, h, c, 1.f, nullptr, row, p.keyTokens);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) flash_backward_keys(const __grid_constant__ Attention p) {
  extern __shared__ char memory[];
  const Shared sh(memory);
  int number, kv;
  locate(p, number, kv);
  const KeyItem item = uniform(((const KeyItem*)p.items)[number]);
  const int wg = uniform(threadIdx.x / 128), thread = threadIdx.x % 128;
  if (threadIdx.x == 0) sh.ring.init();
  __syncthreads();
  if (wg == WGS) {
    registers_give<PRODUCER_REGISTERS>();
    produce(p, item, sh, kv, thread);
  } else {
    registers_take<CONSUMER_REGISTERS>();
    consume(p, item, sh, kv, wg, thread);
  }
}
