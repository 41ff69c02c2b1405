// Fused attention, backward, in one kernel: five products a tile where the two kernels make seven. For Hopper and head
// dimensions up to 64. A block of 192 queries goes over its keys from the farthest tile to the nearest, as
// flash_backward_queries.cu does and for its reasons; weights and logit gradients also go through shared memory to a fourth
// warpgroup, which multiplies them with dO and Q: a tile's dV and dK. These are added to sums in global memory, in a
// fixed order (flash_turns.cuh), so that results are the same in every run. With NEAR_ROWS it goes on from what far tiles have given
// to rows and to sums: flash_far.cuh.
#include "flash_backward_sums.cuh"
#include "flash_backward_tile.cuh"

__device__ __forceinline__ void consume(const Attention& p, const QueryItem& item, const Shared& sh, int head, int first,
                                        int tiles, int wg, int thread) {
  const int lane = thread & 31, warp = thread >> 5, c = lane & 3, r0 = warp * 16 + (lane >> 2);
  const int have = uniform(min(TILE_ROWS, item.rows - wg * TILE_ROWS)), sees = MECHANISM == SOFTMAX ? 1 : p.attendCurrent;
  Span span(p, item, wg, head);
  span.from = uniform(span.from), span.upper = uniform(span.upper);
  const int unmasked = uniform((item.first + wg * TILE_ROWS + sees) / TILE_ROWS);
  const int windowed = uniform(p.window ? tiles_of(item.first + wg * TILE_ROWS + TILE_ROWS - p.window) : 0);
  const float scale = p.scale * LOG2E;
  const i64 row0 = item.q0 + (have > 0 ? wg * TILE_ROWS : 0);

  const unsigned q = sh.q + wg * T::BYTES, dO = sh.dO + wg * T::BYTES;
  load_tile<false>(q, p.q + row0 * p.qStride + head * D, p.qStride, have, thread);
  load_tile<false>(dO, p.dOutput + (row0 * p.heads + head) * D, p.heads * D, have, thread);
  copy_commit();

  Carry carry;
  carry.stops = sh.stops + (wg * TILE_ROWS + r0) * 8;
  const int limit = item.first + wg * TILE_ROWS + r0 + sees;  // keys of the document that the thread's upper row sees
  bool isFar[2];  // whether the row goes on from far tiles: flash_far.cuh
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const bool valid = r0 + 8 * h < have;
    const i64 row = row0 + (valid ? r0 + 8 * h : 0), at = row * p.heads + head;
    if (MECHANISM == STICK_BREAKING) {
      const Saved saved(p);
      const float tile = LEVEL == NEAR_ROWS || c == 0 ? saved.tile[head * p.tokens + row] : 0.f;
      isFar[h] = LEVEL == NEAR_ROWS && valid && tile < (float)span.from;
      if (c == 0)
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(carry.stops + 64 * h), "f"(valid ? tile : 0x1p30f),
                     "f"(saved.left[head * p.tokens + row])
                     : "memory");
      carry.left[h] = 0.f;
      carry.sum[h] = p.rowOutput[at] * p.dRemainder[at];
    } else {
      carry.logSumExp[h] = valid ? p.rowOutput[at] * LOG2E : INFINITY;
      carry.delta[h] = row_delta(p.output + at * D, p.dOutput + at * D, c);
      carry.slope = ALIBI && p.slopes ? p.slopes[head] * LOG2E : 0.f;
    }
  }
  copy_wait<0>();
  async_proxy_fence();
  warpgroup_barrier(WARPGROUP + wg);
  carry.lastStop = 0;
  if (MECHANISM == STICK_BREAKING)
    for (int i = 0; i < 2; i++) {  // each lane two of the warpgroup's rows
      float tile;
      asm volatile("ld.shared.f32 %0, [%1];" : "=f"(tile) : "r"(sh.stops + (wg * TILE_ROWS + lane + 32 * i) * 8) : "memory");
      carry.lastStop = max(carry.lastStop, (int)tile);
    }
  carry.lastStop = uniform(__reduce_max_sync(0xffffffffu, carry.lastStop));

  const unsigned place = pair_place(warp, lane);
  float dQ[D / 2];
#pragma unroll
  for (int i = 0; i < D / 2; i++) dQ[i] = 0.f;
#pragma unroll
  for (int h = 0; h < 2; h++)
    if (LEVEL == NEAR_ROWS && isFar[h]) {
      const i64 row = row0 + r0 + 8 * h;
      const float2 end = p.farEnds[head * p.tokens + row];
      carry.left[h] = end.x, carry.sum[h] = end.y;
      load_state(p, dQ, h, head, row, c);
    }
  int step = 0;
  for (int n = first; n < tiles; n++, step++) {
    const int stage = sh.ring.wait(step), buffer = step % BUFFERS;
    if (n >= span.from && n < span.upper) {
      float s[32], dP[32];
      products_begin();
      compare_tiles<D>(s, q, sh.k + stage * T::BYTES, warp, lane);
      products_commit();
      compare_tiles<D>(dP, dO, sh.v + stage * T::BYTES, warp, lane);
      products_commit();
      if (step >= BUFFERS) barrier_wait(sh.empty + buffer * 8, (step / BUFFERS - 1) & 1);
      products_wait<1>();
      hold(s);
      unsigned a[4][4];
      const unsigned weights = sh.weights(buffer, wg) + place;
      if (MECHANISM == STICK_BREAKING) {
        if (n >= unmasked) stick_tile<true>(s, dP, a, carry, weights, n, limit, lane, scale);
        else stick_tile<false>(s, dP, a, carry, weights, n, limit, lane, scale);
      } else {
        if (n >= unmasked || n < windowed)
          softmax_tile<true>(s, dP, a, carry, weights, n, limit, lane, scale, p.window);
        else softmax_tile<false>(s, dP, a, carry, weights, n, limit, lane, scale, p.window);
      }
      hold(dQ);
      products_begin();
      accumulate<D>(dQ, a, sh.k + stage * T::BYTES, lane);
      products_commit();
      async_proxy_fence();
      __syncwarp();
      if (lane == 0) barrier_arrive(sh.full + buffer * 8);
      products_wait<0>();
      hold(dQ);
    } else {
      if (step >= BUFFERS) barrier_wait(sh.empty + buffer * 8, (step / BUFFERS - 1) & 1);
      if (lane == 0) barrier_arrive(sh.full + buffer * 8);
    }
    sh.ring.release(step, lane);
  }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if (r0 + 8 * h >= have) continue;
    const i64 row = row0 + r0 + 8 * h;
    store_gradient(p.dq + row * p.dqStride + head * D, dQ, h, c, p.scale, p.turnQ, row, p.tokens);
  }
}

// Two warps bring keys and values.
__device__ __forceinline__ void produce(const Attention& p, const QueryItem& item, const Shared& sh, int head, int first, int tiles,
                                        int thread) {
  const int kv = head / (p.heads / p.kvHeads), stride = p.kvStride;
  const bf16* keys = p.k + (i64)item.k0 * stride + kv * D;
  const bf16* values = p.v + (i64)item.k0 * stride + kv * D;
  const TileLoader<true, LOADERS> loader(stride, thread);
  int step = 0;
  for (int n = first; n < tiles; n++, step++) {
    const int stage = sh.ring.acquire(step);
    loader.load(sh.k + stage * T::BYTES, keys + (i64)n * TILE_ROWS * stride, item.keys - n * TILE_ROWS);
    loader.load(sh.v + stage * T::BYTES, values + (i64)n * TILE_ROWS * stride, item.keys - n * TILE_ROWS);
    sh.ring.publish(step);
  }
  sh.ring.finish(step);
}

// `progress`: zeros; a counter of blocks, then [2, heads, rowBlocks], see Turns. `sums`: [key heads, key tiles], of each its dV
// and dK as the accumulators lie.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    flash_backward(const __grid_constant__ Attention p, float* sums, int* progress) {
  extern __shared__ char memory[];
  const Shared sh(memory);
  if (threadIdx.x == 0) {
    sh.init();
    // Blocks are numbered as they start: whoever a block waits for has started before it.
    *sh.block = atomicAdd(progress, 1);
  }
  progress++;
  __syncthreads();
  int number, head;
  locate(p, *sh.block, number, head);
  number = uniform(number), head = uniform(head);
  const QueryItem item = ((const QueryItem*)p.items)[number];
  const int wg = uniform(threadIdx.x / 128), thread = threadIdx.x % 128;
  int first = 1 << 30;
#pragma unroll
  for (int w = 0; w < WGS; w++) first = min(first, Span(p, item, w, head).from);
  first = uniform(first);
  const int tiles = uniform(tiles_of(item.first + item.rows));  // also keys that no query sees get a gradient
  if (wg < WGS) {
    registers_take<CONSUMER_REGISTERS>();
    consume(p, item, sh, head, first, tiles, wg, thread);
  } else if (wg == WGS) {
    registers_give<SUMMING_REGISTERS>();
    sum_up(p, item, sh, head, first, tiles, thread, Place(p, item, head, sums), progress);
  } else {
    registers_give<HELPER_REGISTERS>();
    const int half = uniform(thread / 32);
    if (half < 2)
      send_up(p, item, sh, head, first, tiles, half, thread % 32, Place(p, item, head, sums),
              progress + half * p.heads * p.rowBlocks);
    else produce(p, item, sh, head, first, tiles, thread - 64);
  }
}
