// Gathered rows in the backward, where it is known how far each row's stick reached. 64 neighbouring queries would walk as far as the
// farthest of them, so of each 64-row block only the nearest `walk` tiles are worked on as a block (flash_backward.cu with
// NEAR_ROWS). The rows that reach farther are sorted by where they stop, within a stretch of a document (flash_far_sort.cu), and their far
// tiles are worked on by groups of 64 of them, which have nearly the same walk: first dQ and what the scan along each row brings to
// a tile (flash_far_queries.cu), then dK and dV by key tiles (flash_far_keys.cu), to which flash_backward.cu adds those of the
// near tiles. All of it in a fixed order: results are the same in every run. A pair is a group and a tile that it works on; FAR_ROWS
// and the levels of flash_levels.cuh are the forward's alone.
//
// Whether that pays is decided on the device: where most rows look far, blocks of neighbours share their tiles and need five products
// where groups need seven.
//
// A tile that only some rows of a group have as a far one is multiplied for all of them, with weights of zero: what is not a number in a
// value or an output's gradient reaches rows of the same stretch that do not see it.
#pragma once
#include "flash.cuh"

// Up to 64 rows of one head and stretch. They work on tiles from … upper − 1; those below `clear` are far tiles of all of them.
struct FarGroup {
  int from, upper, clear, rows;  // no rows: no group
  int pairs;                     // of `carries`: number of the first of its pairs of group and tile
  int first;                     // its first row in `farSlots` of the head
  int k0, tile0;                 // packed row of the document's first key, and that tile's number among all (for the sort alone)
};

// Groups, and tiles of a key head, are put into classes by how much they have to do, so that the longest are begun first.
struct FarCounts {
  unsigned long long pairs, saved;  // pairs of a group and a tile; pairs of a 64-row block and a tile which are left out for them
  int apart;                        // whether far rows are worked on in groups
  int sorted;                       // stretches that are sorted
  int groupsTaken, tilesTaken;      // handed out beyond the first of each block
  int groups[FAR_CLASSES], tiles[FAR_CLASSES];
};

// Of each 64-row block the last tile that flash_backward.cu works on. Rows that stopped before it are far rows.
__device__ __forceinline__ const float* stops_of(const Attention& p) { return LEVEL == NEAR_ROWS ? p.nearStop : Saved(p).stop; }

// Which of a block's tiles have sums of far rows' dK and dV, to which flash_backward.cu adds. A lane knows of one tile, from `first` on:
// where there are any, a block has fewer tiles than lanes. All of a warp together.
struct FarSums {
  int first, groups;
  __device__ __forceinline__ FarSums(const Attention& p, const QueryItem& item, int head, int first, int tiles, int lane)
      : first(first), groups(0) {
    if (LEVEL != NEAR_ROWS || first + lane >= tiles) return;
    const i64 kv = head / (p.heads / p.kvHeads);
    groups = p.farTiles[kv * p.rowBlocks + item.rowBlock - item.first / TILE_ROWS + first + lane];
  }
  __device__ __forceinline__ bool at(int n) const {
    return LEVEL == NEAR_ROWS && __shfl_sync(0xffffffffu, groups, min(n - first, 31)) > 0 && n - first < 32;
  }
};

__device__ __forceinline__ int far_class(int work) { return min(FAR_CLASSES - 1, (work - 1) >> 3); }
__device__ __forceinline__ void enlist(int* lists, int* counts, i64 capacity, int work, int value) {
  const int which = far_class(work);
  lists[which * capacity + atomicAdd(counts + which, 1)] = value;
}
// Number n of what was enlisted, the longest class first; -1: there are fewer. All of a warp together.
__device__ __forceinline__ int enlisted(const int* lists, const int* counts, i64 capacity, int n, int lane) {
  static_assert(FAR_CLASSES == 32, "a class for each lane");
  const int which = FAR_CLASSES - 1 - lane, own = counts[which];
  int sum = own;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += other;
  }
  const unsigned there = __ballot_sync(0xffffffffu, n < sum);
  if (!there) return -1;
  int value = 0;
  if (lane == __ffs(there) - 1) value = lists[which * capacity + n - (sum - own)];
  return __shfl_sync(0xffffffffu, value, __ffs(there) - 1);
}
