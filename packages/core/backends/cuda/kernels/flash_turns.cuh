// The order in which the blocks of flash_backward.cu add to the sums of a key tile: that in which they start, which
// is a document's last queries first, within them one head of a group of query heads after the other. A block waits only
// for blocks that have started, so at any number of blocks a multiprocessor somebody goes on.
#pragma once
#include "flash_queries.cuh"

// Sums from shared to global memory: stored by whoever is first, added by the others.
__device__ __forceinline__ void send_sums(float* to, unsigned from, int bytes, bool first) {
  if (first)
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
  else
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes)
                 : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// Waits until what this thread has sent may be written over, or is there.
__device__ __forceinline__ void sums_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
__device__ __forceinline__ void sums_arrived() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
__device__ __forceinline__ int read_progress(const int* progress) {
  int now;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(now) : "l"(progress) : "memory");
  return now;
}
// What this thread has seen done is done for whoever reads the new progress.
__device__ __forceinline__ void write_progress(int* progress, int next) {
  asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(progress), "r"(next) : "memory");
}

// Whom a block waits for at each of its key tiles. Each block publishes the number of the tile up to which it has added;
// at a tile, a block waits for the nearest one before it in the order that adds there: it has waited for those before.
// For documents whose queries are their keys.
struct Turns {
  const float* stop;    // last tiles reached by the block's own 64-row blocks and those after it, of the group's first head
  const int* progress;  // of the block's own queries and the group's first head
  int own, later;       // 64-row blocks: the block's, and those after it in the document
  int place, group;     // of the head in its group of query heads
  int rowBlocks, position, window;
  int before;           // how many places before this block in the order is the one to wait for; 0: none
  int seen;             // its progress when last read
  int lane, near;       // first tile of the block lane + 1 places before

  __device__ __forceinline__ Turns(const Attention& p, const QueryItem& item, int head, const int* progressOfAll, int lane)
      : own(tiles_of(item.rows)),
        later(tiles_of(item.keys) - item.first / TILE_ROWS - own),
        place(head % (p.heads / p.kvHeads)),
        group(p.heads / p.kvHeads),
        rowBlocks(p.rowBlocks),
        position(item.first),
        window(p.window),
        before(0),
        seen(0),
        lane(lane) {
    const i64 at = (i64)(head - place) * rowBlocks + item.rowBlock;
    stop = MECHANISM == SOFTMAX ? nullptr : stops_of(p) + at;
    progress = progressOfAll + at;
    near = lane < others() ? from(lane + 1) : 1 << 30;
  }
  __device__ __forceinline__ int others() const { return (later + BLOCK_WARPGROUPS - 1) / BLOCK_WARPGROUPS * group + place; }
  // 64-row block (from the block's first) and head (in the group) of the block `i` places before.
  __device__ __forceinline__ void locate(int i, int& row, int& head) const {
    const int at = place - i;
    const int blocks = at >= 0 ? 0 : (group - 1 - at) / group;  // blocks of queries between
    row = blocks ? own + (blocks - 1) * BLOCK_WARPGROUPS : 0;
    head = at + blocks * group;
  }
  // The first tile it works on.
  __device__ __forceinline__ int from(int i) const {
    int row, head;
    locate(i, row, head);
    if (MECHANISM == SOFTMAX) return window ? max(0, position + row * TILE_ROWS + 1 - window) / TILE_ROWS : 0;
    const int end = row ? min(row + BLOCK_WARPGROUPS, own + later) : own;
    int least = 1 << 30;
    for (int r = row; r < end; r++) least = min(least, (int)stop[(i64)head * rowBlocks + r]);
    return least;
  }
  // Finds whom to wait for at tile n, all of a warp together; n grows from call to call, and whoever adds to a tile adds to
  // all nearer ones. Whether there is nobody.
  __device__ __forceinline__ bool alone(int n) {
    const int limit = before ? before - 1 : others();
    for (int base = 0; base < limit; base += 32) {
      const int i = base + lane + 1;
      const unsigned there = __ballot_sync(0xffffffffu, i <= limit && (base == 0 ? near : from(i)) <= n);
      if (there) {
        before = base + __ffs(there), seen = 0;
        break;
      }
    }
    return before == 0;
  }
  // Waits, after a call of `alone` for the tile, until whoever is before this block has added to it.
  __device__ __forceinline__ void wait(int n) {
    if (before == 0 || seen > n) return;
    int row, head;
    locate(before, row, head);
    do seen = read_progress(progress + (i64)head * rowBlocks + row);
    while (seen <= n);
    asm volatile("fence.proxy.async.global;" ::: "memory");
  }
};
