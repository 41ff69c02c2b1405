// The backward's far rows of each head and stretch, sorted by where their sticks stop and put into groups: see flash_far.cuh. A thread
// for each row of a stretch. The block that is done last puts the tiles which groups see into classes.
#include "flash_far.cuh"

constexpr int ROWS = STRETCH_BLOCKS * TILE_ROWS;
static_assert(ROWS == 1024, "a row's number has ten bits");

// Sorts a number of each thread; what is sorted lies in `keys` afterwards.
__device__ __forceinline__ void sort(unsigned key, unsigned* keys, int thread) {
  for (int size = 2; size <= ROWS; size *= 2)
    for (int stride = size / 2; stride > 0; stride /= 2) {
      unsigned other;
      if (stride < 32) {
        other = __shfl_xor_sync(0xffffffffu, key, stride);
      } else {
        __syncthreads();
        keys[thread] = key;
        __syncthreads();
        other = keys[thread ^ stride];
      }
      const bool ascending = (thread & size) == 0, lower = (thread & stride) == 0;
      key = ascending == lower ? min(key, other) : max(key, other);
    }
  __syncthreads();
  keys[thread] = key;
  __syncthreads();
}

extern "C" __global__ void __launch_bounds__(ROWS) flash_far_sort(const __grid_constant__ Attention p) {
  __shared__ unsigned keys[ROWS];
  __shared__ int ends[STRETCH_BLOCKS][2][2];  // of half a group: the last and the first tile before which its rows' far tiles end
  __shared__ bool last;
  const int thread = threadIdx.x, lane = thread & 31;
  const int head = p.firstHead + blockIdx.x % p.headCount;
  const QueryItem item = p.stretches[blockIdx.x / p.headCount];
  const Saved saved(p);
  const i64 rows = head * p.tokens, blocks = (i64)head * p.rowBlocks + item.rowBlock;
  // Where the far tiles of a block's rows end: flash_queries.cuh, struct Span.
  const auto lower_of = [&](int block) {
    const int have = min(TILE_ROWS, item.rows - block * TILE_ROWS);
    return max(0, tiles_of(item.first + block * TILE_ROWS + have - 1 + p.attendCurrent) - p.walk);
  };
  const int block = thread / TILE_ROWS, lower = thread < item.rows ? lower_of(block) : 0;
  const int tile = thread < item.rows ? (int)saved.tile[rows + item.q0 + thread] : 1 << 20;
  if (thread % TILE_ROWS == 0 && thread < item.rows) {
    const int stop = (int)saved.stop[blocks + block];
    p.nearStop[blocks + block] = (float)max(stop, lower);
    if (stop < lower) atomicAdd(&p.farCounts->saved, (unsigned long long)(lower - stop));
  }
  const bool isFar = tile < lower;
  const int count = __syncthreads_count(isFar), group = thread / TILE_ROWS, have = min(TILE_ROWS, count - group * TILE_ROWS);
  FarGroup made = {};
  if (count > 0) {
    sort(isFar ? (unsigned)(tile << 10 | thread) : 0xffffffffu, keys, thread);
    int most = 0, least = 1 << 30;
    if (thread < count) {
      const int row = keys[thread] & (ROWS - 1);
      most = least = lower_of(row / TILE_ROWS);
      p.farSlots[rows + item.q0 + thread] = {item.q0 + row, most};
    }
    most = __reduce_max_sync(0xffffffffu, most), least = __reduce_min_sync(0xffffffffu, least);
    if (lane == 0) ends[group][thread >> 5 & 1][0] = most, ends[group][thread >> 5 & 1][1] = least;
    __syncthreads();
    if (have > 0) {
      made.from = keys[group * TILE_ROWS] >> 10;
      made.upper = max(ends[group][0][0], ends[group][1][0]), made.clear = min(ends[group][0][1], ends[group][1][1]);
      made.rows = have, made.first = item.q0 + group * TILE_ROWS;
      made.k0 = item.k0, made.tile0 = item.rowBlock - item.first / TILE_ROWS;
      const int kv = head / (p.heads / p.kvHeads);
      for (int n = made.from + thread % TILE_ROWS; n < made.upper; n += TILE_ROWS)
        atomicAdd(p.farTiles + (i64)kv * p.rowBlocks + made.tile0 + n, 1);
    }
  }
  if (thread % TILE_ROWS == 0 && thread < item.rows) {
    if (have > 0) {
      made.pairs = (int)atomicAdd(&p.farCounts->pairs, (unsigned long long)(made.upper - made.from));
      enlist(p.farGroupLists, p.farCounts->groups, (i64)p.heads * p.rowBlocks, made.upper - made.from, (int)blocks + group);
    }
    p.farGroups[blocks + group] = made;
  }
  __threadfence();
  __syncthreads();
  if (thread == 0) last = atomicAdd(&p.farCounts->sorted, 1) == gridDim.x - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  const i64 pairs = __ldcg(&p.farCounts->pairs), saves = __ldcg(&p.farCounts->saved);
  const bool apart = pairs > 0 && pairs <= p.farRoom && (float)pairs * p.farCost <= (float)saves;
  if (thread == 0) p.farCounts->apart = apart;
  if (pairs == 0) return;
  const int perKey = p.heads / p.kvHeads, kvHeads = p.headCount / perKey, firstKv = p.firstHead / perKey;
  if (!apart) {
    for (int i = thread; i < p.headCount * p.rowBlocks; i += ROWS) {
      const i64 at = (i64)p.firstHead * p.rowBlocks + i;
      p.nearStop[at] = saved.stop[at];
      if (i < kvHeads * p.rowBlocks) p.farTiles[(i64)firstKv * p.rowBlocks + i] = 0;
    }
    return;
  }
  for (int i = thread; i < p.itemCount * kvHeads; i += ROWS) {
    const int kv = firstKv + i % kvHeads, number = i / kvHeads;
    const KeyItem key = ((const KeyItem*)p.items)[number];
    const int groups = __ldcg(p.farTiles + (i64)kv * p.rowBlocks + key.rowBlock + key.position / TILE_ROWS);
    if (groups > 0) enlist(p.farTileLists, p.farCounts->tiles, (i64)p.kvHeads * p.rowBlocks, groups, number * p.kvHeads + kv);
  }
}
