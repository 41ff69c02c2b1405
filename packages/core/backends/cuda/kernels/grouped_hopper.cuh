// Grouped matmuls with wgmma (grouped.cuh): a warpgroup brings tiles of both operands, by the copy engine (TMA) and, what lies apart,
// by cp.async; two multiply and make of the results what becomes of them. Two blocks are a cluster: they have the same columns of the
// right operand, of which each brings one half to both, since tiles would be wanted faster than the second-level cache gives them.
// Results leave by the copy engine too.
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
// A warpgroup's, for results on their way; a warp has 16 rows of each.
constexpr int SQUARE_BYTES = 64 * 64 * 2, SQUARES = 1;
// DOWN_GRAD has gate and up brought like operands, 64 columns of both at a time, behind those of each tile.
constexpr int OPENED = COLUMNS / 64;
static_assert(GROUPED_ROWS == CLUSTER * ROWS && GROUPED_COLUMNS == COLUMNS && GROUPED_THREADS == THREADS, "what the host launches");
// A warpgroup that takes more than others have given waits for ever.
static_assert(WARPGROUPS * CONSUMER_REGISTERS + PRODUCER_REGISTERS <= (WARPGROUPS + 1) * (65536 / THREADS / 8 * 8), "registers of a block");
static_assert(GROUPED_BYTES == 1024 + STAGES * (STAGE_BYTES + 16) + WARPGROUPS * SQUARES * SQUARE_BYTES, "what the host launches");

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

// From shared memory; what lies outside of the tensor is left out. Counted by the thread that asks.
__device__ __forceinline__ void store_box(const TensorMap& map, unsigned from, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map), "r"(from), "r"(x), "r"(y),
               "r"(z)
               : "memory");
}
// The same, added to what is there: once for each element, so that the sum is that of a thread which reads and writes.
__device__ __forceinline__ void add_box(const TensorMap& map, unsigned from, int x, int y, int z) {
  asm volatile("cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map), "r"(from),
               "r"(x), "r"(y), "r"(z)
               : "memory");
}
__device__ __forceinline__ void store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until the shared memory of all but the newest PENDING groups has been read.
template <int PENDING>
__device__ __forceinline__ void store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}
__device__ __forceinline__ void store_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

// ---- the cluster --------------------------------------------------------------------------------------------------
// All threads of all blocks of the cluster; what they wrote need not be seen, nor have come.
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
    full = squares + WARPGROUPS * SQUARES * SQUARE_BYTES;
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
  // Producer, behind its last step: waits until every stage has been given back, and so until every arrival has come that is owed to
  // this block. One that reaches a block which has left is an error of the launch (719).
  __device__ __forceinline__ void drain(int steps) const {
#pragma unroll 1
    for (int i = 0; i < STAGES; i++) acquire(steps + i);
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
  const int rank = blockIdx.x % CLUSTER;
  const unsigned half = b + rank * (B_BYTES / CLUSTER);
  if (KIND == UP) copy_box_to_all(half, map, barrier, at, rank * p.columns + tile.column, tile.expert);
  else if (KIND == DOWN) copy_box_to_all(half, map, barrier, at, tile.column + rank * (COLUMNS / CLUSTER), tile.expert);
  else
    for (int i = 0; i < COLUMNS / 64 / CLUSTER; i++) {
      const int column = tile.column + rank * (COLUMNS / CLUSTER) + 64 * i;
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
  ring.drain(step);
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
  ring.drain(step);
}

// ---- results on their way ----------------------------------------------------------------------------------------
// A warp's results, 2 KB at a time, from squares of its warpgroup to memory by the copy engine: the warp goes on as soon as they are
// in shared memory. Where an expert's rows end within the warp's, it writes them itself, since the next expert's follow there.
struct Sent {
  static constexpr int PIECE = 16 * 128;  // of a warp in a square
  const unsigned squares;
  const int warp, lane;
  const TensorMap* const maps[2];
  int next = 0;  // of the squares

  __device__ Sent(unsigned square, int warp, int lane, const TensorMap& first, const TensorMap& second)
      : squares(square), warp(warp), lane(lane), maps{&first, &second} {}
  // A square whose piece of this warp nothing reads any more.
  __device__ __forceinline__ unsigned acquire() const {
    if (lane == 0) store_wait_read<SQUARES - 1>();
    __syncwarp();
    return squares + next * SQUARE_BYTES;
  }
  // `ask`, by one thread, once what all have written is seen by the copy engine.
  template <class Ask>
  __device__ __forceinline__ void send(Ask ask) {
    async_proxy_fence();
    __syncwarp();
    if (lane == 0) ask(), store_commit();
    next = next + 1 == SQUARES ? 0 : next + 1;
  }
  // 16 rows of 64 columns as Strip has them, to column x, half y and row z of the warpgroup's in a map.
  __device__ __forceinline__ void rows(const unsigned (&words)[16], bf16* to, i64 stride, int rows, int columns, int map, int x, int y,
                                       int z) {
    const Strip strip{acquire(), warp, lane};
    if (16 * warp + 16 > rows) {
      strip.store(words, to, stride, rows, columns);
      return;
    }
    strip.write(words);
    send([&] { store_box(*maps[map], strip.square + warp * PIECE, x, y, z + 16 * warp); });
  }
};

using Way = Sent;

// Steps whose stages hold results that the copy engine is still reading.
struct Held {
  static constexpr int MOST = 2;
  const Ring& ring;
  const int lane;
  int first = 0, count = 0;
  __device__ Held(const Ring& ring, int lane) : ring(ring), lane(lane) {}
  __device__ __forceinline__ void add(int step) {
    if (lane == 0) store_commit();
    if (count == 0) first = step;
    if (++count > MOST) let_go<MOST>();
  }
  // The oldest one, with PENDING after it.
  template <int PENDING>
  __device__ __forceinline__ void let_go() {
    if (lane == 0) store_wait_read<PENDING>();
    __syncwarp();
    ring.release(first++, lane);
    count--;
  }
  __device__ __forceinline__ void let_one_go() {
    if (count == 2) let_go<1>();
    else if (count == 1) let_go<0>();
  }
};
static_assert(Held::MOST == 2, "let_one_go");

// ---- consumers ----------------------------------------------------------------------------------------------------
// Gate and up of a warpgroup's rows, 64 columns at a time.
struct OpenedInRing {
  const Ring& ring;
  int step;
  const unsigned own;
  Held& held;
  const TensorMap &wide, &product;
  __device__ __forceinline__ void take(int warp, int lane, unsigned (&gate)[16], unsigned (&up)[16]) const {
    ring.wait(step);
    const Strip strip{ring.a(step) + own, warp, lane};
    strip.read(gate, strip.square);
    strip.read(up, strip.square + A_BYTES);
  }
  // Their gradients and the weighed product leave from the stage, the first two from where gate and up were.
  template <class Epilogue>
  __device__ __forceinline__ void give(const Epilogue& e, const unsigned (&gate)[16], const unsigned (&up)[16],
                                       const unsigned (&hidden)[16], int column) {
    const unsigned at = ring.a(step) + own;
    const int warp = e.way.warp, lane = e.way.lane, left = e.p.columns - column;
    const Strip strips[3] = {{at, warp, lane}, {at + A_BYTES, warp, lane}, {at + 2 * A_BYTES, warp, lane}};
    __syncwarp();
    if (16 * warp + 16 > e.rows) {
      bf16* to = e.p.wide + (i64)e.row * 2 * e.p.columns + column;
      strips[0].store(gate, to, 2 * e.p.columns, e.rows, left);
      strips[1].store(up, to + e.p.columns, 2 * e.p.columns, e.rows, left);
      strips[2].store(hidden, e.p.hidden + (i64)e.row * e.p.columns + column, e.p.columns, e.rows, left);
      async_proxy_fence();  // tiles come here next
      __syncwarp();
    } else {
      strips[0].write(gate);
      strips[1].write(up);
      strips[2].write(hidden);
      async_proxy_fence();
      __syncwarp();
      if (lane == 0) {
        const unsigned of_warp = warp * Sent::PIECE;
        store_box(wide, strips[0].square + of_warp, column, 0, e.row + 16 * warp);
        store_box(wide, strips[1].square + of_warp, column, 1, e.row + 16 * warp);
        store_box(product, strips[2].square + of_warp, column, 0, e.row + 16 * warp);
      }
    }
    held.add(step++);
  }
};

template <int KIND, class Epilogue, class Tiles>
__device__ void consume(const Grouped& p, const TensorMap& first, const TensorMap& second, const Ring& ring, const Tiles& tiles, int wg,
                        int thread) {
  using F = Form<KIND>;
  using A = Tile<F::ROWS_A ? ROWS : STEP, F::ROWS_A ? STEP : ROWS>;
  using B = Tile<F::ROWS_B ? COLUMNS : STEP, F::ROWS_B ? STEP : COLUMNS>;
  const int warp = thread / 32, lane = thread % 32;
  // This warpgroup's 64 rows of the result.
  const unsigned own = wg * (F::ROWS_A ? A::PANEL_BYTES : 64 * A::ROW_BYTES);
  Sent way(ring.squares + wg * SQUARES * SQUARE_BYTES, warp, lane, first, second);
  Held held(ring, lane);
  int step = 0;
  for (int i = tiles.first(); i < tiles.count; i += tiles.stride()) {
    const GroupedTile tile = tiles[i];
    const int steps = __shfl_sync(0xffffffffu, tile.steps, 0);
    // Behind the expert's last row there is nothing to multiply.
    const bool any = __shfl_sync(0xffffffffu, tile.row + 64 * wg < tile.end, 0);
    Epilogue epilogue(p, tile, way, 64 * wg);
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
        if (KIND == DOWN_GRAD) held.let_one_go();
      }
      products_wait<0>();
      hold(sums);
      if (steps > 0) ring.release(step - 1, lane);
    } else {
      for (int s = 0; s < steps; s++, step++) {
        ring.wait(step);
        ring.release(step, lane);
        if (KIND == DOWN_GRAD) held.let_one_go();
      }
    }
    if constexpr (KIND == DOWN_GRAD) {
      while (held.count > 0) held.let_one_go();
      OpenedInRing opened{ring, step, wg * 64u * 128u, held, first, second};
      epilogue(sums, opened);
      step += OPENED;
    } else {
      epilogue(sums);
    }
  }
  while (held.count > 0) held.let_one_go();
  if (lane == 0) store_wait();
}

// `first` and `second` are results; `open` is read by DOWN_GRAD alone.
template <int KIND, class Epilogue>
__device__ void grouped(const Grouped& p, const TensorMap& mapA, const TensorMap& mapB, const TensorMap& open, const TensorMap& first,
                        const TensorMap& second) {
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
    consume<KIND, Epilogue>(p, first, second, ring, tiles, wg, threadIdx.x % 128);
  }
  // This barrier knows of threads, not of what they have sent: an arrival may still be on its way when it is passed. But both blocks'
  // producers come here with all that is owed to their block, arrivals and tiles alike, since a stage is given back by those who have
  // seen its tiles. So when the first block leaves, nothing is on its way to it or from it.
  cluster_barrier();
}
