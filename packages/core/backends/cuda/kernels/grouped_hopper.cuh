// Grouped matmuls with wgmma (grouped.cuh): one thread has the copy engine (TMA) bring tiles of both operands, two warpgroups
// multiply and make of the results what becomes of them.
#pragma once
#include "grouped.cuh"
#include "products_hopper.cuh"

// CUtensorMap of cuda.h.
struct alignas(64) TensorMap {
  char bytes[128];
};

constexpr int WARPGROUPS = 2, THREADS = (WARPGROUPS + 1) * 128;
constexpr int CONSUMER_REGISTERS = 232, PRODUCER_REGISTERS = 40;
constexpr int ROWS = WARPGROUPS * 64, COLUMNS = 256, SUMS = COLUMNS / 2;
constexpr int A_BYTES = ROWS * STEP * 2, B_BYTES = COLUMNS * STEP * 2, STAGE_BYTES = A_BYTES + B_BYTES, STAGES = 4;
// One a warpgroup, for results on their way.
constexpr int SQUARE_BYTES = 64 * 64 * 2;
static_assert(GROUPED_ROWS == ROWS && GROUPED_COLUMNS == COLUMNS && GROUPED_THREADS == THREADS, "what the host launches");
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

// ---- the ring of tiles --------------------------------------------------------------------------------------------
struct Ring {
  unsigned tiles, squares, full, empty;

  __device__ explicit Ring(unsigned memory) {
    tiles = (memory + 1023) & ~1023u;
    squares = tiles + STAGES * STAGE_BYTES;
    full = squares + WARPGROUPS * SQUARE_BYTES;
    empty = full + STAGES * 8;
  }
  __device__ void init() const {
    for (int i = 0; i < STAGES; i++) barrier_init(full + i * 8, 1), barrier_init(empty + i * 8, WARPGROUPS * 4);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __device__ __forceinline__ unsigned a(int step) const { return tiles + step % STAGES * STAGE_BYTES; }
  __device__ __forceinline__ unsigned b(int step) const { return a(step) + A_BYTES; }
  // Producer: the barrier of a step whose stage may be written.
  __device__ __forceinline__ unsigned acquire(int step) const {
    if (step >= STAGES) barrier_wait(empty + step % STAGES * 8, (step / STAGES - 1) & 1);
    return full + step % STAGES * 8;
  }
  __device__ __forceinline__ void wait(int step) const { barrier_wait(full + step % STAGES * 8, (step / STAGES) & 1); }
  __device__ __forceinline__ void release(int step, int lane) const {
    if (lane == 0) barrier_arrive(empty + step % STAGES * 8);
  }
};

// ---- producer -----------------------------------------------------------------------------------------------------
template <int KIND>
__device__ __forceinline__ void copy_step(const Grouped& p, const TensorMap& mapA, const TensorMap& mapB, const Ring& ring,
                                          const GroupedTile& tile, int step, int at) {
  using F = Form<KIND>;
  constexpr int PANEL_BYTES = 64 * STEP * 2;
  const unsigned barrier = ring.acquire(step), a = ring.a(step), b = ring.b(step);
  expect_bytes(barrier, STAGE_BYTES);
  if (F::ROWS_A)
    for (int i = 0; i < ROWS / 64; i++) copy_box(a + i * PANEL_BYTES, mapA, barrier, tile.row + 64 * i, at);
  else copy_box(a, mapA, barrier, at, tile.row);
  if (KIND == UP) {
    copy_box(b, mapB, barrier, at, tile.column, tile.expert);
    copy_box(b + B_BYTES / 2, mapB, barrier, at, p.columns + tile.column, tile.expert);
  } else if (KIND == DOWN) {
    copy_box(b, mapB, barrier, at, tile.column, tile.expert);
  } else {
    for (int i = 0; i < COLUMNS / 64; i++)
      if (F::WEIGHTS) copy_box(b + i * PANEL_BYTES, mapB, barrier, tile.column + 64 * i, at);
      else copy_box(b + i * PANEL_BYTES, mapB, barrier, tile.column + 64 * i, at, tile.expert);
  }
}

// Rows behind an expert's: what they give is not stored. Where rows are summed over, they are left out (consume).
template <int KIND, class Tiles>
__device__ void produce(const Grouped& p, const TensorMap& mapA, const TensorMap& mapB, const Ring& ring, const Tiles& tiles) {
  int step = 0;
  for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
    const GroupedTile tile = tiles[i];
    for (int s = 0; s < tile.steps; s++, step++) copy_step<KIND>(p, mapA, mapB, ring, tile, step, tile.first + s * STEP);
  }
}

// ---- consumers ----------------------------------------------------------------------------------------------------
template <int KIND, class Epilogue, class Tiles>
__device__ void consume(const Grouped& p, const Ring& ring, const Tiles& tiles, int wg, int thread) {
  using F = Form<KIND>;
  using A = Tile<F::ROWS_A ? ROWS : STEP, F::ROWS_A ? STEP : ROWS>;
  using B = Tile<F::ROWS_B ? COLUMNS : STEP, F::ROWS_B ? STEP : COLUMNS>;
  const int warp = thread / 32, lane = thread % 32;
  // This warpgroup's 64 rows of the result.
  const unsigned own = wg * (F::ROWS_A ? A::PANEL_BYTES : 64 * A::ROW_BYTES);
  int step = 0;
  for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
    const GroupedTile tile = tiles[i];
    const int steps = __shfl_sync(0xffffffffu, tile.steps, 0);
    Epilogue epilogue(p, tile, ring.squares + wg * SQUARE_BYTES, warp, lane, 64 * wg);
    float sums[SUMS] = {};
    hold(sums);
    for (int s = 0; s < steps; s++, step++) {
      ring.wait(step);
      const unsigned left = ring.a(step) + own;
      if (F::WEIGHTS && tile.first + (s + 1) * STEP > tile.last) {
        // The next expert's rows are in the tile too.
        for (int row = tile.last - tile.first - s * STEP + thread / 8; row < STEP; row += 16)
          write_shared(left + row * 128 + thread % 8 * 16, make_uint4(0, 0, 0, 0));
        async_proxy_fence();
        warpgroup_barrier(1 + wg);
      }
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
    epilogue(sums);
  }
}

template <int KIND, class Epilogue>
__device__ void grouped(const Grouped& p, const TensorMap& mapA, const TensorMap& mapB) {
  extern __shared__ char memory[];
  __shared__ int starts[MOST_EXPERTS + 1];
  const Ring ring(shared_address(memory));
  if (threadIdx.x == 0) ring.init();
  const GroupedTiles<KIND, ROWS, KIND == UP ? COLUMNS / 2 : COLUMNS> tiles(p, starts);
  const int wg = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  if (wg == WARPGROUPS) {
    registers_give<PRODUCER_REGISTERS>();
    if (threadIdx.x % 128 == 0) produce<KIND>(p, mapA, mapB, ring, tiles);
  } else {
    registers_take<CONSUMER_REGISTERS>();
    consume<KIND, Epilogue>(p, ring, tiles, wg, threadIdx.x % 128);
  }
}
