// The backward of far rows, second of two kernels (see flash_far.cuh): the sums of dK and dV of a key tile over all groups of far rows
// that see it, one head of a group of query heads after the other, in order. The warpgroups of a block take turns along the groups,
// and their sums are added at the end. flash_backward_keys.cu does the same for neighbouring rows.
#include "flash_far.cuh"
#include "flash_key_tile.cuh"

constexpr int WGS = BLOCK_WARPGROUPS, STAGES = BLOCK_STAGES, THREADS = (WGS + 1) * 128;
static_assert(WGS == 3, "registers of a block");
constexpr int CONSUMER_REGISTERS = 160, PRODUCER_REGISTERS = 32;
constexpr int LISTED = WGS * 128;  // groups at most that are listed at once
using T = Tile<D, TILE_ROWS>;
using Square = Tile<TILE_ROWS, TILE_ROWS>;
using Ring = Pipeline<STAGES, 4>;  // a stage is read by one warpgroup
// WARPGROUP + its number: the threads of one that works; 1: all of theirs.
enum NamedBarrier { WARPGROUP = 2 };
__device__ __forceinline__ void consumers_barrier() { asm volatile("bar.sync 1, %0;" ::"n"(WGS * 128) : "memory"); }

// A group that sees the tile.
struct Listed {
  int head, first, rows, pair;  // first: in `farSlots`; pair: of it and the tile. Negative rows: some do not see all of the tile
};

struct Shared {
  unsigned k, v, weights, dLogits, q, dO;
  Ring ring;
  Listed* list;             // [LISTED]
  int* sums;                // [warps] groups that each found
  int* unit;                // [2] what the block works on and what afterwards, in turns
  __device__ explicit Shared(char* base)
      : k((shared_address(base) + 1023) & ~1023u),
        v(k + T::BYTES),
        weights(v + T::BYTES),
        dLogits(weights + WGS * Square::BYTES),
        q(dLogits + WGS * Square::BYTES),
        dO(q + STAGES * T::BYTES),
        ring(dO + STAGES * T::BYTES) {
    list = (Listed*)(base + (ring.full + Ring::BYTES - shared_address(base)));
    sums = (int*)(list + LISTED), unit = sums + WGS * 4;
  }
  static constexpr int BYTES = (2 + 2 * STAGES) * T::BYTES + 2 * WGS * Square::BYTES + Ring::BYTES + LISTED * sizeof(Listed) + (WGS * 4 + 2) * 4;
};
static_assert(1023 + Shared::BYTES <= BLOCK_BYTES, "more shared memory than the host gives");

// A tile of one key head, and the groups that may see it: those of the document from its own stretch on, head by head. `group`: query
// heads of a key head.
struct Unit {
  int kv, tile, k0, keys, block0, from, span, group, candidates;
  __device__ __forceinline__ Unit(const Attention& p, int number) {
    const KeyItem& item = ((const KeyItem*)p.items)[number / p.kvHeads];
    kv = uniform(number % p.kvHeads), k0 = uniform(item.k0), keys = uniform(item.keys), tile = uniform(item.position) / TILE_ROWS;
    block0 = uniform(item.rowBlock), from = tile / STRETCH_BLOCKS * STRETCH_BLOCKS;
    span = tiles_of(uniform(item.queries)) - from, group = p.heads / p.kvHeads, candidates = span * group;
  }
};

// Lists those of the next LISTED candidates that see the tile; by all threads of the block, of which those that work look.
__device__ __forceinline__ int list_groups(const Attention& p, const Unit& unit, const Shared& sh, int base, int again) {
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  __syncthreads();  // nobody reads the list before, and all tiles are given back
  if (thread == LISTED) {
    if (again) sh.ring.destroy();
    sh.ring.init();
  }
  const int i = base + thread;
  bool sees = false;
  Listed found;
  if (thread < LISTED && i < unit.candidates) {
    found.head = unit.kv * unit.group + i / unit.span;
    const FarGroup& far = p.farGroups[(i64)found.head * p.rowBlocks + unit.block0 + unit.from + i % unit.span];
    const int4 walk = *(const int4*)&far.from;
    sees = walk.w > 0 && walk.x <= unit.tile && unit.tile < walk.y;
    if (sees) {
      found.first = far.first, found.pair = far.pairs + unit.tile - walk.x;
      found.rows = unit.tile < walk.z ? walk.w : -walk.w;
    }
  }
  const unsigned there = __ballot_sync(0xffffffffu, sees);
  if (lane == 0 && warp < WGS * 4) sh.sums[warp] = __popc(there);
  __syncthreads();
  int at = 0, all = 0;
  for (int w = 0; w < WGS * 4; w++) {
    const int sum = sh.sums[w];
    at += w < warp ? sum : 0, all += sum;
  }
  if (sees) sh.list[at + __popc(there & ((1u << lane) - 1))] = found;
  __syncthreads();
  return uniform(all);
}

__device__ __forceinline__ void produce(const Attention& p, const Shared& sh, int count, int thread) {
  for (int step = 0; step < count; step++) {
    const Listed one = sh.list[step];
    const Slot* const rows = p.farSlots + one.head * p.tokens + one.first;
    const int stage = sh.ring.acquire(step);
    load_rows(sh.q + stage * T::BYTES, p.q + one.head * D, p.qStride, abs(one.rows), thread, rows);
    load_rows(sh.dO + stage * T::BYTES, p.dOutput + one.head * D, p.heads * D, abs(one.rows), thread, rows);
    sh.ring.publish(step);
  }
  sh.ring.finish(count);
}

// What flash_far_queries.cu kept of a thread's two rows for the tile.
__device__ __forceinline__ void fetch(const Attention& p, const Listed& one, int r0, float2 (&carry)[2]) {
  const float2* at = p.carries + (i64)one.pair * TILE_ROWS + r0;
  carry[0] = at[0], carry[1] = at[8];
}

// A warpgroup's share of the listed groups.
__device__ __forceinline__ void consume(const Attention& p, const Unit& unit, const Shared& sh, float (&dK)[D / 2], float (&dV)[D / 2],
                                        int count, int wg, int thread) {
  const int lane = thread & 31, warp = thread >> 5, c = lane & 3, r0 = warp * 16 + (lane >> 2);
  const float scale = p.scale * LOG2E;
  const unsigned weights = sh.weights + wg * Square::BYTES, dLogits = sh.dLogits + wg * Square::BYTES;
  // The tile's keys and values, the first time.
  copy_wait<0>();
  async_proxy_fence();
  consumers_barrier();
  float2 next[2];
  if (wg < count) fetch(p, sh.list[wg], r0, next);
  int running = -1;  // the step whose products into dV and dK are still running
  for (int step = wg; step < count; step += WGS) {
    const Listed one = sh.list[step];
    const int rows = uniform(one.rows);
    const float2 carry[2] = {next[0], next[1]};
    int visible[2] = {TILE_ROWS, TILE_ROWS};
    if (rows < 0)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const Slot row = p.farSlots[one.head * p.tokens + one.first + min(r0 + 8 * h, -rows - 1)];
        visible[h] = TILE_ROWS * (row.upper - unit.tile) - 16 * c;
      }
    const int stage = sh.ring.wait(step);
    const unsigned q = sh.q + stage * T::BYTES, dO = sh.dO + stage * T::BYTES;
    float s[32], dP[32];
    products_begin();
    compare_tiles<D>(s, q, sh.k, warp, lane);
    products_commit();
    compare_tiles<D>(dP, dO, sh.v, warp, lane);
    products_commit();
    if (step + WGS < count) fetch(p, sh.list[step + WGS], r0, next);
    products_wait<1>();
    hold(s);
    hold(dK);
    hold(dV);
    // The squares are written anew: all four warps' products must have read them.
    warpgroup_barrier(WARPGROUP + wg);
    if (running >= 0) sh.ring.release(running, lane);
    const auto weighed = [] {};
    if (rows < 0) stick_tile<true>(s, dP, carry, visible, weights, dLogits, warp, lane, scale, weighed);
    else stick_tile<false>(s, dP, carry, visible, weights, dLogits, warp, lane, scale, weighed);
    async_proxy_fence();
    warpgroup_barrier(WARPGROUP + wg);
    hold(dK);
    hold(dV);
    products_begin();
    accumulate_transposed<D>(dV, weights, dO, warp, lane);
    accumulate_transposed<D>(dK, dLogits, q, warp, lane);
    products_commit();
    running = step;
  }
  products_wait<0>();
  hold(dK);
  hold(dV);
  if (running >= 0) sh.ring.release(running, lane);
}

// Adds the warpgroups' sums in order and writes them: dV, then dK, as the accumulators lie. No tile is in use any more.
__device__ __forceinline__ void add_up(const Shared& sh, char* base, float (&dK)[D / 2], float (&dV)[D / 2], float* sums, int wg,
                                       int thread) {
  const auto staged = [&](int w, int half, int j) {
    return (float4*)(base + (sh.q + ((w - 1) * 2 + half) * 2 * T::BYTES - shared_address(base))) + j * 128 + thread;
  };
  consumers_barrier();
  if (wg > 0)
#pragma unroll
    for (int j = 0; j < D / 8; j++) {
      *staged(wg, 0, j) = make_float4(dV[4 * j], dV[4 * j + 1], dV[4 * j + 2], dV[4 * j + 3]);
      *staged(wg, 1, j) = make_float4(dK[4 * j], dK[4 * j + 1], dK[4 * j + 2], dK[4 * j + 3]);
    }
  consumers_barrier();
  if (wg > 0) return;
#pragma unroll
  for (int j = 0; j < D / 8; j++) {
    float4 x[2] = {make_float4(dV[4 * j], dV[4 * j + 1], dV[4 * j + 2], dV[4 * j + 3]),
                   make_float4(dK[4 * j], dK[4 * j + 1], dK[4 * j + 2], dK[4 * j + 3])};
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
      for (int w = 1; w < WGS; w++) {
        const float4 y = *staged(w, half, j);
        x[half].x += y.x, x[half].y += y.y, x[half].z += y.z, x[half].w += y.w;
      }
      *(float4*)(sums + half * (TILE_ROWS * D) + j * 512 + thread * 4) = x[half];
    }
  }
}

// The tile of this number, in the order in which they are handed out. By one warp.
__device__ __forceinline__ void look_up(const Attention& p, int& unit, int number, int lane) {
  const int found = enlisted(p.farTileLists, p.farCounts->tiles, (i64)p.kvHeads * p.rowBlocks, number, lane);
  if (lane == 0) unit = found;
}

// A block takes one tile after another. `begin` is given the tile, `go_on` the groups that are listed, `end` comes after the last.
template <class Begin, class GoOn, class End>
__device__ __forceinline__ void go_through_tiles(const Attention& p, const Shared& sh, const Begin& begin, const GoOn& go_on,
                                                 const End& end) {
  if (threadIdx.x < 32) look_up(p, sh.unit[0], blockIdx.x, threadIdx.x);
  for (int turn = 0, again = 0;; turn++) {
    __syncthreads();
    const int found = uniform(sh.unit[turn & 1]);
    if (found < 0) return;
    const Unit unit(p, found);
    begin(unit);
    for (int base = 0; base < unit.candidates; base += LISTED, again = 1) {
      const int count = list_groups(p, unit, sh, base, again);
      go_on(unit, count);
    }
    end(unit, sh.unit[turn + 1 & 1]);
  }
}

// `sums`: as in flash_backward.cu.
extern "C" __global__ void __launch_bounds__(THREADS, 1) flash_far_keys(const __grid_constant__ Attention p, float* sums) {
  extern __shared__ char memory[];
  const Shared sh(memory);
  if (!p.farCounts->apart) return;
  const int wg = uniform(threadIdx.x / 128), thread = threadIdx.x % 128;
  if (wg == WGS) {
    registers_give<PRODUCER_REGISTERS>();
    go_through_tiles(
        p, sh, [](const Unit&) {}, [&](const Unit&, int count) { produce(p, sh, count, thread); },
        [&](const Unit&, int& next) {
          // The others are still at work: time to look up what comes next.
          if (thread < 96) return;
          int number = 0;
          if (thread == 96) number = gridDim.x + atomicAdd(&p.farCounts->tilesTaken, 1);
          look_up(p, next, uniform(number), thread - 96);
        });
  } else {
    registers_take<CONSUMER_REGISTERS>();
    float dK[D / 2], dV[D / 2];
    go_through_tiles(
        p, sh,
        [&](const Unit& unit) {
          const i64 row = unit.k0;
          if (wg == 0) load_tile<true>(sh.k, p.k + row * p.kvStride + unit.kv * D, p.kvStride, unit.keys, thread);
          if (wg == 1) load_tile<true>(sh.v, p.v + row * p.kvStride + unit.kv * D, p.kvStride, unit.keys, thread);
          copy_commit();
#pragma unroll
          for (int i = 0; i < D / 2; i++) dK[i] = 0.f, dV[i] = 0.f;
        },
        [&](const Unit& unit, int count) { consume(p, unit, sh, dK, dV, count, wg, thread); },
        [&](const Unit& unit, int&) {
          const int firstKv = p.firstHead / (p.heads / p.kvHeads);
          const i64 tile = (i64)(unit.kv - firstKv) * p.rowBlocks + unit.block0 + unit.tile;
          add_up(sh, memory, dK, dV, sums + tile * (2 * TILE_ROWS * D), wg, thread);
        });
  }
}
