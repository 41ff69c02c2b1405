// The backward of far rows, first of two kernels (see flash_far.cuh): dQ of each row's far tiles, and what the scan along it brings to
// each. The warpgroups of a block take turns along the keys of one group, the farthest first: what a tile makes of its logits does not
// depend on the others but for two numbers of each row, what is left of the stick before it and the sum of dÃ over all farther keys
// (flash_backward_queries.cu). These are handed from warpgroup to warpgroup, and a long walk takes a third of the time.
#include "flash_far.cuh"

constexpr int WGS = BLOCK_WARPGROUPS, STAGES = BLOCK_STAGES, THREADS = (WGS + 1) * 128;
static_assert(WGS == 3 && STAGES % WGS == 0, "registers of a block");
constexpr int CONSUMER_REGISTERS = 152, PRODUCER_REGISTERS = 40;
using T = Tile<D, TILE_ROWS>;
using Ring = Pipeline<STAGES, 4>;  // a stage is read by one warpgroup
// Of all that work, rather than bring tiles.
__device__ __forceinline__ void consumers_barrier() { asm volatile("bar.sync 1, %0;" ::"n"(WGS * 128) : "memory"); }

struct Shared {
  unsigned q, dO, k, v;
  Ring ring;
  unsigned ready;    // [WGS, 4 warps] barriers: a warp has handed on its rows
  unsigned handed;   // [WGS, 64] what is left of a row's stick, its sum of dÃ
  Slot* rows;      // [64]
  int *group, *next; // number of the group; of what the block works on afterwards
  __device__ explicit Shared(char* base)
      : q((shared_address(base) + 1023) & ~1023u),
        dO(q + T::BYTES),
        k(dO + T::BYTES),
        v(k + STAGES * T::BYTES),
        ring(v + STAGES * T::BYTES),
        ready(ring.full + Ring::BYTES),
        handed(ready + WGS * 4 * 8) {
    rows = (Slot*)(base + (handed + WGS * TILE_ROWS * 8 - shared_address(base)));
    group = (int*)(rows + TILE_ROWS), next = group + 1;
  }
  static constexpr int BYTES = (2 + 2 * STAGES) * T::BYTES + Ring::BYTES + WGS * (4 + TILE_ROWS) * 8 + TILE_ROWS * 8 + 8;
  __device__ void init() const {
    ring.init();
    for (int i = 0; i < WGS * 4; i++) barrier_init(ready + i * 8, 1);
  }
  __device__ void destroy() const {
    ring.destroy();
    for (int i = 0; i < WGS * 4; i++) barrier_destroy(ready + i * 8);
  }
};
static_assert(1023 + Shared::BYTES <= BLOCK_BYTES, "more shared memory than the host gives");

__device__ __forceinline__ void hand_on(unsigned to, float left, float sum) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(left), "f"(sum) : "memory");
}
__device__ __forceinline__ float2 take_over(unsigned from) {
  float2 x;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "r"(from) : "memory");
  return x;
}

__device__ __forceinline__ void produce(const Attention& p, const FarGroup& group, const Shared& sh, int head, int thread) {
  const int kv = head / (p.heads / p.kvHeads), stride = p.kvStride;
  const bf16* keys = p.k + (i64)group.k0 * stride + kv * D;
  const bf16* values = p.v + (i64)group.k0 * stride + kv * D;
  const TileLoader<true> loader(stride, thread);
  int step = 0;
  for (int n = group.from; n < group.upper; n++, step++) {
    const int stage = sh.ring.acquire(step);
    loader.load(sh.k + stage * T::BYTES, keys + (i64)n * TILE_ROWS * stride, TILE_ROWS);
    loader.load(sh.v + stage * T::BYTES, values + (i64)n * TILE_ROWS * stride, TILE_ROWS);
    sh.ring.publish(step);
  }
  sh.ring.finish(step);
}

// What a thread knows of its two rows.
struct Rows {
  float start[2];           // what was left of the stick before the tile where it stopped
  int tile[2], limit[2];    // that tile; keys of the document that are far ones of the row's
};

// s: logits → gradient of the logits (without the scale); dP: dO·V, which is still being multiplied. `take` waits for what the warpgroup
// before hands over; `give` hands on to the next.
template <bool MASKED, class Take, class Give>
__device__ __forceinline__ void far_gradient(float (&s)[32], float (&dP)[32], const Rows& rows, float2 (&out)[2], int n, int c,
                                             float scale, const Take& take, const Give& give) {
  const int visible[2] = {rows.limit[0] - TILE_ROWS * n - 16 * c, rows.limit[1] - TILE_ROWS * n - 16 * c};
  float leave[2][4], own[2], all[2], before[2], sums[2][4];  // sums of dÃ by groups of four keys: short chains of additions
  break_rows<MASKED>(s, scale, visible, leave, own);
#pragma unroll
  for (int h = 0; h < 2; h++) before[h] = nearer_product(own[h], c, all[h]);
  products_wait<0>();
  hold(dP);
  // As if whole sticks came to this tile.
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
  float farther[2], whole[2];
#pragma unroll
  for (int h = 0; h < 2; h++) farther[h] = farther_sum((sums[h][0] + sums[h][1]) + (sums[h][2] + sums[h][3]), c, whole[h]);
  take();
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const float2 from = take.of(h);
    // What is left of the stick before this tile: kept by the forward where the row stopped, else from the far side.
    float near = from.x * reciprocal(all[h]);
    near = n == rows.tile[h] ? rows.start[h] : near;
    near = n < rows.tile[h] ? 0.f : near;
    out[h] = make_float2(near, from.y);
    give(h, near, n >= rows.tile[h] ? fmaf(near, whole[h], from.y) : from.y);
  }
  give.done();
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float prefix = n >= rows.tile[h] ? fmaf(out[h].x, farther[h], out[h].y) : 0.f;
#pragma unroll
    for (int group = 0; group < 4; group++) {
      float sum = prefix;
      prefix = fmaf(out[h].x, sums[h][group], prefix);
#pragma unroll
      for (int key = 4 * group; key < 4 * group + 4; key++) {
        const float dA = out[h].x * dP[at(h, key)];
        sum += dA;
        s[at(h, key)] = fmaf(-s[at(h, key)], sum, dA);
      }
    }
  }
}

// Waits for the rows that the warpgroup before hands over, and reads them.
struct Take {
  unsigned ready, from;
  int round;
  __device__ __forceinline__ void operator()() const { barrier_wait(ready, round & 1); }
  __device__ __forceinline__ float2 of(int h) const { return take_over(from + 64 * h); }
};
struct Give {
  unsigned ready, to;
  int c, lane;
  __device__ __forceinline__ void operator()(int h, float left, float sum) const {
    if (c == 0) hand_on(to + 64 * h, left, sum);
  }
  __device__ __forceinline__ void done() const {
    __syncwarp();
    if (lane == 0) barrier_arrive(ready);
  }
};

// A warpgroup's dQ as it lies in its accumulators, to the others' shared memory.
__device__ __forceinline__ float4* staged(char* base, unsigned at, int j, int thread) {
  return (float4*)(base + (at - shared_address(base))) + j * 128 + thread;
}

__device__ __forceinline__ void consume(const Attention& p, const FarGroup& group, const Shared& sh, char* base, int head, int wg,
                                        int thread) {
  const int lane = thread & 31, warp = thread >> 5, c = lane & 3, r0 = warp * 16 + (lane >> 2);
  const float scale = p.scale * LOG2E;
  if (wg == 0) load_rows(sh.q, p.q + head * D, p.qStride, group.rows, thread, sh.rows);
  if (wg == 1) load_rows(sh.dO, p.dOutput + head * D, p.heads * D, group.rows, thread, sh.rows);
  copy_commit();

  Rows rows;
  Give give{sh.ready + (wg * 4 + warp) * 8, sh.handed + (wg * TILE_ROWS + r0) * 8, c, lane};
  const int previous = wg == 0 ? WGS - 1 : wg - 1;
  Take take{sh.ready + (previous * 4 + warp) * 8, sh.handed + (previous * TILE_ROWS + r0) * 8, 0};
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const bool valid = r0 + 8 * h < group.rows;
    const Slot row = sh.rows[valid ? r0 + 8 * h : 0];
    const Saved saved(p);
    rows.limit[h] = valid ? row.upper * TILE_ROWS : 0;
    rows.start[h] = saved.left[head * p.tokens + row.row];
    rows.tile[h] = valid ? (int)saved.tile[head * p.tokens + row.row] : 1 << 30;
    // The first warpgroup is handed what lies beyond the farthest tile.
    const i64 at = (i64)row.row * p.heads + head;
    if (wg == WGS - 1) give(h, 0.f, p.rowOutput[at] * p.dRemainder[at]);
  }
  if (wg == WGS - 1) give.done();
  copy_wait<0>();
  async_proxy_fence();
  consumers_barrier();

  float dQ[D / 2];
#pragma unroll
  for (int i = 0; i < D / 2; i++) dQ[i] = 0.f;
  float2* carries = p.carries + (i64)group.pairs * TILE_ROWS + r0;
  const int steps = group.upper - group.from;
  int running = -1;
  for (int step = wg; step < steps; step += WGS, take.round++) {
    const int n = group.from + step, stage = sh.ring.wait(step);
    float s[32], dP[32];
    products_begin();
    compare_tiles<D>(s, sh.q, sh.k + stage * T::BYTES, warp, lane);
    products_commit();
    compare_tiles<D>(dP, sh.dO, sh.v + stage * T::BYTES, warp, lane);
    products_commit();
    products_wait<1>();
    hold(s);
    hold(dQ);
    if (running >= 0) sh.ring.release(running, lane);
    float2 out[2];
    if (n >= group.clear) far_gradient<true>(s, dP, rows, out, n, c, scale, take, give);
    else far_gradient<false>(s, dP, rows, out, n, c, scale, take, give);
    float2* to = carries + (i64)step * TILE_ROWS;
    if (c == 0) to[0] = out[0], to[8] = out[1];
    unsigned a[4][4];
#pragma unroll
    for (int i = 0; i < 16; i++) a[i / 4][i % 4] = pack_bf16(s[2 * i], s[2 * i + 1]);
    hold(dQ);
    products_begin();
    accumulate<D>(dQ, a, sh.k + stage * T::BYTES, lane);
    products_commit();
    running = step;
  }
  products_wait<0>();
  hold(dQ);
  if (running >= 0) sh.ring.release(running, lane);
  // The warpgroups' parts of dQ are added in order. No tile is in use any more.
  consumers_barrier();
  if (wg > 0)
#pragma unroll
    for (int j = 0; j < D / 8; j++)
      *staged(base, sh.k + (wg - 1) * 2 * T::BYTES, j, thread) = make_float4(dQ[4 * j], dQ[4 * j + 1], dQ[4 * j + 2], dQ[4 * j + 3]);
  consumers_barrier();
  if (wg > 0) return;
#pragma unroll
  for (int w = 1; w < WGS; w++)
#pragma unroll
    for (int j = 0; j < D / 8; j++) {
      const float4 x = *staged(base, sh.k + (w - 1) * 2 * T::BYTES, j, thread);
      dQ[4 * j] += x.x, dQ[4 * j + 1] += x.y, dQ[4 * j + 2] += x.z, dQ[4 * j + 3] += x.w;
    }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if (r0 + 8 * h >= group.rows) continue;
    const i64 row = sh.rows[r0 + 8 * h].row;
    store_state(p, dQ, h, head, row, c);
    if (c == 0) p.farEnds[head * p.tokens + row] = take_over(sh.handed + ((steps - 1) % WGS * TILE_ROWS + r0 + 8 * h) * 8);
  }
}

// A block takes one group after another.
template <class Work>
__device__ __forceinline__ void go_through_groups(const Attention& p, const Shared& sh, const Work& work) {
  for (int number = blockIdx.x, again = 0;; again = 1) {
    if (threadIdx.x == 0) {
      if (again) sh.destroy();
      sh.init();
    }
    if (threadIdx.x < 32) {
      const int found = enlisted(p.farGroupLists, p.farCounts->groups, (i64)p.heads * p.rowBlocks, number, threadIdx.x);
      if (threadIdx.x == 0) *sh.group = found;
    }
    __syncthreads();
    const int found = uniform(*sh.group);
    if (found < 0) return;
    const FarGroup* const given = p.farGroups + found;
    const int head = found / p.rowBlocks;
    const FarGroup group = {uniform(given->from),  uniform(given->upper), uniform(given->clear), uniform(given->rows),
                            uniform(given->pairs), uniform(given->first), uniform(given->k0),    0};
    if (threadIdx.x < TILE_ROWS)
      sh.rows[threadIdx.x] = p.farSlots[head * p.tokens + group.first + min((int)threadIdx.x, group.rows - 1)];
    if (threadIdx.x == 0) *sh.next = gridDim.x + atomicAdd(&p.farCounts->groupsTaken, 1);
    __syncthreads();
    work(group, head);
    __syncthreads();
    number = *sh.next;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) flash_far_queries(const __grid_constant__ Attention p) {
  extern __shared__ char memory[];
  const Shared sh(memory);
  if (!p.farCounts->apart) return;
  const int wg = uniform(threadIdx.x / 128), thread = threadIdx.x % 128;
  if (wg == WGS) {
    registers_give<PRODUCER_REGISTERS>();
    go_through_groups(p, sh, [&](const FarGroup& group, int head) { produce(p, group, sh, head, thread); });
  } else {
    registers_take<CONSUMER_REGISTERS>();
    go_through_groups(p, sh, [&](const FarGroup& group, int head) { consume(p, group, sh, memory, head, wg, thread); });
  }
}
