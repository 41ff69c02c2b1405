// Grouped matmuls with wgmma (grouped.cuh): a warpgroup brings tiles of both operands, by the copy engine (TMA) and, what lies apart,
// by cp.async; two multiply and make of the results what becomes of them. Two blocks are a cluster: they have the same columns of the
// right operand, of which each brings one half to both, since tiles would be wanted faster than the second-level cache gives them.
#pragma once
#include "grouped.cuh"
#include "gathered_rows.cuh"
#include "products_hopper.cuh"

// CUtensorMap of cuda.h.
struct alignas(64) TensorMap {
  char bytes[128];
};

constexpr int CLUSTER = 2, WARPGROUPS = 2, THREADS = (WARPGROUPS + 1) * 128;
constexpr int CONSUMER_REGISTERS = 224, PRODUCER_REGISTERS = 56;
constexpr int ROWS = WARPGROUPS * 64, COLUMNS = 256, SUMS = COLUMNS / 2;
constexpr int A_BYTES = ROWS * STEP * 2, B_BYTES = COLUMNS * STEP * 2, STAGE_BYTES = A_BYTES + B_BYTES, STAGES = 4;
constexpr int PANEL_BYTES = 64 * STEP * 2;
// One a warpgroup, for results on their way.
constexpr int SQUARE_BYTES = 64 * 64 * 2;
// DOWN_GRAD has gate and up brought like operands, 64 columns of both at a time, behind those of each tile.
constexpr int OPENED = COLUMNS / 64;
static_assert(GROUPED_ROWS == CLUSTER * ROWS && GROUPED_COLUMNS == COLUMNS && GROUPED_THREADS == THREADS, "what the host launches");
// A warpgroup that takes more than others have given waits for ever.
static_assert(WARPGROUPS * CONSUMER_REGISTERS + PRODUCER_REGISTERS <= (WARPGROUPS + 1) * (65536 / THREADS / 8 * 8), "registers of a block");
static_assert(GROUPED_BYTES == 1024 + STAGES * (STAGE_BYTES + 16) + WARPGROUPS * SQUARE_BYTES, "what the host launches");

// ---- the copy engine ----------------------------------------------------------------------------------------------
__device__ __forceinline__ void expect_bytes(unsigned barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy_box(unsigned to, const TensorMap& map, unsigned barrier, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(to),
               "l"(&map), "r"(barrier), "r"(x), "r"(y)
               : "memory");
}
__device__ __forceinline__ void copy_box(unsigned to, const TensorMap& map, unsigned barrier, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
               "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z)
               : "memory");
}
// To the same place in all blocks of the cluster, and counted by each one's barrier.
__device__ __forceinline__ void copy_box_to_all(unsigned to, const TensorMap& map, unsigned barrier, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::
          "r"(to), "l"(&map), "r"(barrier), "h"((unsigned short)((1 << CLUSTER) - 1)), "r"(x), "r"(y)
      : "memory");
}
__device__ __forceinline__ void copy_box_to_all(unsigned to, const TensorMap& map, unsigned barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%4, %5, %6}], [%2], %3;" ::
          "r"(to), "l"(&map), "r"(barrier), "h"((unsigned short)((1 << CLUSTER) - 1)), "r"(x), "r"(y), "r"(z)
      : "memory");
}
// Into the second-level cache.
__device__ __forceinline__ void ask_box(const TensorMap& map, int x, int y, int z) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %3}];" ::"l"(&map), "r"(x), "r"(y), "r"(z) : "memory");
}

// ---- the cluster --------------------------------------------------------------------------------------------------
__device__ __forceinline__ int cluster_rank() { return blockIdx.x % CLUSTER; }
// All threads of all blocks of the cluster; what they wrote need not be seen.
__device__ __forceinline__ void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait;" ::: "memory");
}
// Arrives at the barrier that a block of the cluster has at this one's address: that this one has read there. Release and acquire at
// the cluster's scope are fences that wait for all of the multiprocessor's stores: half of a step's time.
__device__ __forceinline__ void barrier_arrive_at(unsigned barrier, int rank) {
  asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\nmbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(barrier),
               "r"(rank)
               : "memory");
}

// ---- the ring of tiles --------------------------------------------------------------------------------------------
struct Ring {
  unsigned tiles, squares, full, empty;

  __device__ explicit Ring(unsigned memory) {
    tiles = (memory + 1023) & ~1023u;
    squares = tiles + STAGES * STAGE_BYTES;
    full = squares + WARPGROUPS * SQUARE_BYTES;
    empty = full + STAGES * 8;
  }
  // `arrivals`: of this block's producer, a step.
  __device__ void init(int arrivals) const {
    for (int i = 0; i < STAGES; i++) barrier_init(full + i * 8, arrivals), barrier_init(empty + i * 8, CLUSTER * WARPGROUPS * 4);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __device__ __forceinline__ unsigned a(int step) const { return tiles + step % STAGES * STAGE_BYTES; }
  __device__ __forceinline__ unsigned b(int step) const { return a(step) + A_BYTES; }
  // Producer: the barrier of a step whose stage may be written, in all blocks of the cluster.
  __device__ __forceinline__ unsigned acquire(int step) const {
    if (step >= STAGES) barrier_wait(empty + step % STAGES * 8, (step / STAGES - 1) & 1);
    return full + step % STAGES * 8;
  }
  __device__ __forceinline__ void wait(int step) const { barrier_wait(full + step % STAGES * 8, (step / STAGES) & 1); }
  // Consumer, once a warp: all producers that write here may do so again.
  __device__ __forceinline__ void release(int step, int lane) const {
    if (lane < CLUSTER) barrier_arrive_at(empty + step % STAGES * 8, lane);
  }
};

// ---- producer -----------------------------------------------------------------------------------------------------
// A block's half of the right operand.
template <int KIND>
__device__ __forceinline__ void copy_right(const Grouped& p, const TensorMap& map, unsigned barrier, unsigned b, const GroupedTile& tile,
                                           int at) {
  using F = Form<KIND>;
  const int rank = cluster_rank();
  const unsigned half = b + rank * (B_BYTES / 2);
  if (KIND == UP) copy_box_to_all(half, map, barrier, at, rank * p.columns + tile.column, tile.expert);
  else if (KIND == DOWN) copy_box_to_all(half, map, barrier, at, tile.column + rank * (COLUMNS / 2), tile.expert);
  else
    for (int i = 0; i < COLUMNS / 64 / CLUSTER; i++) {
      const int column = tile.column + rank * (COLUMNS / 2) + 64 * i;
      if (F::WEIGHTS) copy_box_to_all(half + i * PANEL_BYTES, map, barrier, column, at);
      else copy_box_to_all(half + i * PANEL_BYTES, map, barrier, column, at, tile.expert);
    }
}
// Of gate and up 64 columns.
__device__ __forceinline__ void copy_opened(const TensorMap& map, unsigned barrier, unsigned to, const GroupedTile& tile, int group) {
  expect_bytes(barrier, 2 * A_BYTES);
  for (int i = 0; i < 2; i++) copy_box(to + i * A_BYTES, map, barrier, tile.column + 64 * group, i, tile.row);
}

// Rows behind an expert's: what they give is not stored.
template <int KIND, class Tiles>
__device__ void produce(const Grouped& p, const TensorMap& mapA, const TensorMap& mapB, const Ring& ring, const Tiles& tiles) {
  int step = 0;
  for (int i = tiles.first(); i < tiles.count; i += tiles.stride()) {
    const GroupedTile tile = tiles[i];
    for (int s = 0; s < tile.steps; s++, step++) {
      const int at = s * STEP;
      const unsigned barrier = ring.acquire(step);
      expect_bytes(barrier, STAGE_BYTES);
      copy_box(ring.a(step), mapA, barrier, at, tile.row);
      copy_right<KIND>(p, mapB, barrier, ring.b(step), tile, at);
    }
  }
}

// ---- producer, where the left operand is gathered ----------------------------------------------------------------
template <int KIND, class Tiles>
__device__ void produce_gathered(const Grouped& p, const TensorMap& mapB, const TensorMap& open, const Ring& ring, const Tiles& tiles,
                                 int thread) {
  using F = Form<KIND>;
  Gather<KIND, ROWS> gather(p, thread);
  const auto ask = [&](const GroupedTile& tile) { return F::ROWS_A ? gather.ask(tile.first, tile.last) : gather.ask(tile.row, tile.end); };
  int step = 0;
  GroupedTile following = tiles[tiles.first()];
  int rows = ask(following);  // asked for one step, or tile, ahead
  for (int i = tiles.first(); i < tiles.count; i += tiles.stride()) {
    const GroupedTile tile = following;
    if (i + tiles.stride() < tiles.count) following = tiles[i + tiles.stride()];
    if (KIND == DOWN_GRAD && thread < 2 * OPENED) ask_box(open, tile.column + 64 * (thread / 2), thread % 2, tile.row);
    if (!F::ROWS_A) {
      gather.take(rows);
      rows = ask(following);
    }
    for (int s = 0; s < tile.steps; s++, step++) {
      const int at = tile.first + s * STEP;
      if (F::ROWS_A) {
        gather.take(rows);
        rows = s + 1 < tile.steps ? gather.ask(at + STEP, tile.last) : ask(following);
      }
      const unsigned barrier = ring.acquire(step);
      if (thread == 0) {
        expect_bytes(barrier, B_BYTES);
        copy_right<KIND>(p, mapB, barrier, ring.b(step), tile, at);
      }
      if (F::ROWS_A) gather.copy(ring.a(step), tile.row, p.height);
      else gather.copy(ring.a(step), at, p.inner);
      arrive_when_copied(barrier);
    }
    if (F::ROWS_A && tile.steps == 0) rows = ask(following);
    if (KIND == DOWN_GRAD)
      for (int g = 0; g < OPENED; g++, step++) {
        const unsigned barrier = ring.acquire(step);
        if (thread == 0) copy_opened(open, barrier, ring.a(step), tile, g);
        arrive_when_copied(barrier);
      }
  }
}

// ---- consumers ----------------------------------------------------------------------------------------------------
// Gate and up of a warpgroup's rows, 64 columns at a time.
struct OpenedInRing {
  const Ring& ring;
  int step;
  const unsigned own;
  __device__ __forceinline__ void take(const Strip& strip, unsigned (&gate)[16], unsigned (&up)[16]) {
    ring.wait(step);
    strip.read(gate, ring.a(step) + own);
    strip.read(up, ring.a(step) + A_BYTES + own);
    ring.release(step++, strip.lane);
  }
};

template <int KIND, class Epilogue, class Tiles>
__device__ void consume(const Grouped& p, const Ring& ring, const Tiles& tiles, int wg, int thread) {
  using F = Form<KIND>;
  using A = Tile<F::ROWS_A ? ROWS : STEP, F::ROWS_A ? STEP : ROWS>;
  using B = Tile<F::ROWS_B ? COLUMNS : STEP, F::ROWS_B ? STEP : COLUMNS>;
  const int warp = thread / 32, lane = thread % 32;
  // This warpgroup's 64 rows of the result.
  const unsigned own = wg * (F::ROWS_A ? A::PANEL_BYTES : 64 * A::ROW_BYTES);
  int step = 0;
  for (int i = tiles.first(); i < tiles.count; i += tiles.stride()) {
    const GroupedTile tile = tiles[i];
    const int steps = __shfl_sync(0xffffffffu, tile.steps, 0);
    // Behind the expert's last row there is nothing to multiply.
    const bool any = __shfl_sync(0xffffffffu, tile.row + 64 * wg < tile.end, 0);
    Epilogue epilogue(p, tile, ring.squares + wg * SQUARE_BYTES, warp, lane, 64 * wg);
    float sums[SUMS] = {};
    hold(sums);
    if (any) {
      for (int s = 0; s < steps; s++, step++) {
        ring.wait(step);
        const unsigned left = ring.a(step) + own;
        if (F::GATHERED) async_proxy_fence();
        const unsigned long long a = descriptor<A>(left), b = descriptor<B>(ring.b(step));
        products_begin();
#pragma unroll
        for (int k = 0; k < STEP / 16; k++)
          multiply<F::ROWS_A, F::ROWS_B>(sums, a + (F::ROWS_A ? along_rows<A>(k) : along_columns<A>(k)),
                                         b + (F::ROWS_B ? along_rows<B>(k) : along_columns<B>(k)), false);
        products_commit();
        if (s > 0) {
          products_wait<1>();
          ring.release(step - 1, lane);
        }
      }
      products_wait<0>();
      hold(sums);
      if (steps > 0) ring.release(step - 1, lane);
    } else {
      for (int s = 0; s < steps; s++, step++) {
        ring.wait(step);
        ring.release(step, lane);
      }
    }
    if constexpr (KIND == DOWN_GRAD) {
      OpenedInRing opened{ring, step, wg * 64u * 128u};
      epilogue(sums, opened);
      step += OPENED;
    } else {
      epilogue(sums);
    }
  }
}

// `open` is read by DOWN_GRAD alone.
template <int KIND, class Epilogue>
__device__ void grouped(const Grouped& p, const TensorMap& mapA, const TensorMap& mapB, const TensorMap& open) {
  extern __shared__ char memory[];
  __shared__ int starts[MOST_EXPERTS + 1];
  const Ring ring(shared_address(memory));
  if (threadIdx.x == 0) ring.init(Form<KIND>::GATHERED ? 1 + GATHERING : 1);
  const GroupedTiles<KIND, CLUSTER, ROWS, KIND == UP ? COLUMNS / 2 : COLUMNS> tiles(p, starts);
  cluster_barrier();
  const int wg = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  if (wg == WARPGROUPS) {
    registers_give<PRODUCER_REGISTERS>();
    if constexpr (Form<KIND>::GATHERED) produce_gathered<KIND>(p, mapB, open, ring, tiles, threadIdx.x % 128);
    else if (threadIdx.x % 128 == 0) produce<KIND>(p, mapA, mapB, ring, tiles);
  } else {
    registers_take<CONSUMER_REGISTERS>();
    consume<KIND, Epilogue>(p, ring, tiles, wg, threadIdx.x % 128);
  }
  // Others write to this block's memory.
  cluster_barrier();
}
