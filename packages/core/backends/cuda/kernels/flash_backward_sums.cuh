// How flash_backward.cu makes a tile's dV and dK and adds them to those of other blocks.
#pragma once
#include "flash_backward.cuh"
#include "flash_turns.cuh"

// o (+)= Aᵀ·B, A a tile [64, 64], B a tile [64, D].
template <bool CLEAR>
__device__ __forceinline__ void add_product(float (&o)[D / 2], unsigned a, unsigned b) {
  const unsigned long long da = descriptor<Square>(a), db = descriptor<T>(b);
#pragma unroll
  for (int step = 0; step < 4; step++)
    multiply<true>(o, da + along_rows<Square>(step), db + along_rows<T>(step), CLEAR && step == 0);
}
// o = Σ Aᵀ·B over the warpgroups that worked on the tile; `a` their squares, `b` their rows.
__device__ __forceinline__ void sum_products(float (&o)[D / 2], unsigned a, unsigned b, int active) {
  hold(o);
  if (active == (1 << WGS) - 1) {
    products_begin();
    add_product<true>(o, a, b);
#pragma unroll
    for (int w = 1; w < WGS; w++) add_product<false>(o, a + w * 2 * Square::BYTES, b + w * T::BYTES);
    products_commit();
    products_wait<0>();
    hold(o);
  } else {
#pragma unroll
    for (int i = 0; i < D / 2; i++) o[i] = 0.f;
#pragma unroll 1
    for (int w = 0; w < WGS; w++)
      if (active >> w & 1) {
        hold(o);
        products_begin();
        add_product<false>(o, a + w * 2 * Square::BYTES, b + w * T::BYTES);
        products_commit();
        products_wait<0>();
        hold(o);
      }
  }
}

// A tile's dV or dK, as the accumulators lie, to shared memory.
__device__ __forceinline__ void stage(const float (&d)[D / 2], unsigned to) {
#pragma unroll
  for (int j = 0; j < D / 8; j++)
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to + j * 2048), "f"(d[4 * j]), "f"(d[4 * j + 1]),
                 "f"(d[4 * j + 2]), "f"(d[4 * j + 3])
                 : "memory");
}
// Own sums, and the others' at `others` unless there are none, to a tile of bfloat16.
__device__ __forceinline__ void finish(const float (&d)[D / 2], unsigned others, bool alone, unsigned tile, int warp, int lane,
                                       float scale) {
#pragma unroll
  for (int pair = 0; pair < D / 16; pair++) {
    unsigned packed[4];
#pragma unroll
    for (int j = 0; j < 2; j++) {
      float4 x = make_float4(0.f, 0.f, 0.f, 0.f);
      if (!alone)
        asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                     : "r"(others + (2 * pair + j) * 2048)
                     : "memory");
      const int i = 4 * (2 * pair + j);
      packed[2 * j] = pack_bf16((x.x + d[i]) * scale, (x.y + d[i + 1]) * scale);
      packed[2 * j + 1] = pack_bf16((x.z + d[i + 2]) * scale, (x.w + d[i + 3]) * scale);
    }
    store_pair(tile + pair_place(warp, lane) ^ pair * 32, packed[0], packed[1], packed[2], packed[3]);
  }
}
// That tile's rows to the tensor.
__device__ __forceinline__ uint4 read_chunk(unsigned tile, int row, int chunk) {
  uint4 x;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "r"(tile + Square::chunk(row, chunk))
               : "memory");
  return x;
}
__device__ __forceinline__ void write_keys(bf16* out, unsigned tile, int stride, int have, int thread) {
#pragma unroll
  for (int i = 0; i < TILE_ROWS * T::CHUNKS / 128; i++) {
    const int at = thread + i * 128, row = at / T::CHUNKS, chunk = at % T::CHUNKS, key = key_of_row(row);
    const uint4 x = read_chunk(tile, row, chunk);
    if (key < have) *(uint4*)(out + (i64)key * stride + chunk * 8) = x;
  }
}
// The same, turned back: see store_gradient. `first`: the tile's first row among `tokens`.
__device__ __forceinline__ void write_turned(bf16* out, unsigned tile, int stride, int have, int thread, const float* turn,
                                             i64 first, i64 tokens) {
  constexpr int PAIRS = T::CHUNKS / 2;
#pragma unroll 1
  for (int at = thread; at < TILE_ROWS * PAIRS; at += 128) {
    const int row = at / PAIRS, chunk = at % PAIRS, key = key_of_row(row);
    if (key >= have) continue;
    float a[8], b[8], cosine[8], sine[8];
    unpack8(read_chunk(tile, row, chunk), a);
    unpack8(read_chunk(tile, row, chunk + PAIRS), b);
    load8(turn + (first + key) * (D / 2) + chunk * 8, cosine);
    load8(turn + (tokens + first + key) * (D / 2) + chunk * 8, sine);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const float x = a[j];
      a[j] = fmaf(b[j], sine[j], x * cosine[j]);
      b[j] = fmaf(-x, sine[j], b[j] * cosine[j]);
    }
    bf16* to = out + (i64)key * stride + chunk * 8;
    store8(to, a);
    store8(to + D / 2, b);
  }
}

// Where the sums of a block's tiles lie, and which of its tiles it is the last to add to.
struct Place {
  float* sums;
  int lastFrom;
  __device__ Place(const Attention& p, const QueryItem& item, int head, float* all) {
    const int group = p.heads / p.kvHeads, kv = (head - p.firstHead) / group;
    sums = all + ((i64)kv * p.rowBlocks + item.rowBlock - item.first / TILE_ROWS) * (SUM_BYTES / 4);
    lastFrom = head % group == group - 1 ? tiles_of(item.first) : 1 << 30;
  }
  __device__ __forceinline__ float* of(int n) const { return sums + (i64)n * (SUM_BYTES / 4); }
};

// The fourth warpgroup makes dV and dK of each tile.
__device__ __forceinline__ void sum_up(const Attention& p, const QueryItem& item, const Shared& sh, int head, int first, int tiles,
                                       int thread, const Place& place, const int* progress) {
  const int lane = thread & 31, warp = thread >> 5;
  const int kv = head / (p.heads / p.kvHeads);
  int from[WGS], upper[WGS];
#pragma unroll
  for (int w = 0; w < WGS; w++) {
    const Span span(p, item, w, head);
    from[w] = uniform(span.from), upper[w] = uniform(span.upper);
  }
  const auto active = [&](int n) {
    int bits = 0;
#pragma unroll
    for (int w = 0; w < WGS; w++) bits |= (n >= from[w] && n < upper[w]) << w;
    return bits;
  };
  const unsigned own = sh.sums + thread * 16;  // this thread's part of a tile's sums, every 2048 bytes
  const auto send = [&](float(&d)[D / 2], int half, int step) {
    if (step > 0) barrier_wait(sh.taken + half * 8, (step - 1) & 1);
    stage(d, own + half * (SUM_BYTES / 2));
    async_proxy_fence();
    __syncwarp();
    if (lane == 0) barrier_arrive(sh.staged + half * 8);
  };
  const int others = min(tiles, place.lastFrom);  // tiles from here on nobody adds to after this block
  int step = 0, n = first;
  float d[D / 2];
#pragma unroll 1
  for (; n < others; n++, step++) {
    const int buffer = step % BUFFERS;
    barrier_wait(sh.full + buffer * 8, (step / BUFFERS) & 1);
    sum_products(d, sh.weights(buffer, 0), sh.dO, active(n));
    send(d, 0, step);
    sum_products(d, sh.dLogits(buffer, 0), sh.q, active(n));
    if (lane == 0) barrier_arrive(sh.empty + buffer * 8);
    send(d, 1, step);
  }
  if (n == tiles) return;
  Turns order(p, item, head, progress + (warp & 1) * p.heads * p.rowBlocks, lane);
  const FarSums far(p, item, head, first, tiles, lane);
  if (step > 0)
    for (int half = 0; half < 2; half++) barrier_wait(sh.taken + half * 8, (step - 1) & 1);
#pragma unroll 1
  for (; n < tiles; n++, step++) {
    const int buffer = step % BUFFERS;
    const bool alone = order.alone(n) & !far.at(n);
    if (thread == 0 || thread == 32) order.wait(n);
    warpgroup_barrier(SUMMING);
    if (!alone)
#pragma unroll
      for (int j = 0; j < D / 4; j++) copy16(own + j * 2048, place.of(n) + j * 512 + thread * 4);
    copy_commit();
    barrier_wait(sh.full + buffer * 8, (step / BUFFERS) & 1);
    sum_products(d, sh.weights(buffer, 0), sh.dO, active(n));
    copy_wait<0>();
    warpgroup_barrier(SUMMING);  // all warps' products have read the weights: their room is free
    finish(d, own, alone, sh.weights(buffer, 0), warp, lane, 1.f);
    sum_products(d, sh.dLogits(buffer, 0), sh.q, active(n));
    finish(d, own + SUM_BYTES / 2, alone, sh.weights(buffer, 1), warp, lane, p.scale);
    warpgroup_barrier(SUMMING);
    const int have = item.keys - n * TILE_ROWS;
    const i64 row = item.k0 + n * TILE_ROWS, to = row * p.dkvStride + kv * D;
    write_keys(p.dv + to, sh.weights(buffer, 0), p.dkvStride, have, thread);
    if (p.turnK) write_turned(p.dk + to, sh.weights(buffer, 1), p.dkvStride, have, thread, p.turnK, row, p.keyTokens);
    else write_keys(p.dk + to, sh.weights(buffer, 1), p.dkvStride, have, thread);
    __syncwarp();
    if (lane == 0) barrier_arrive(sh.empty + buffer * 8);
  }
}

// Two warps add what that warpgroup made to the sums in global memory, one dV, one dK, when it is the block's turn. Nobody
// else waits while they do.
__device__ __forceinline__ void send_up(const Attention& p, const QueryItem& item, const Shared& sh, int head, int first, int tiles,
                                        int half, int lane, const Place& place, int* progress) {
  Turns order(p, item, head, progress, lane);
  const FarSums far(p, item, head, first, tiles, lane);
  const int others = min(tiles, place.lastFrom);
  int* own = progress + head * p.rowBlocks + item.rowBlock;
  int step = 0;
  for (int n = first; n < others; n++, step++) {
    const bool alone = order.alone(n) & !far.at(n);
    if (lane == 0) {
      order.wait(n);
      barrier_wait(sh.staged + half * 8, step & 1);
      send_sums(place.of(n) + half * (SUM_BYTES / 8), sh.sums + half * (SUM_BYTES / 2), SUM_BYTES / 2, alone);
      sums_read();
      barrier_arrive(sh.taken + half * 8);
      sums_arrived();
      write_progress(own, n + 1);
    }
    __syncwarp();
  }
}
