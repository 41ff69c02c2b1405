// Grouped matmuls (grouped.cuh) with mma.sync, for GPUs of compute capability 8.0 and newer: a warpgroup makes a tile of 64 × 128
// from tiles that it brings itself, one step ahead.
#pragma once
#include "grouped.cuh"
#include "products_portable.cuh"

constexpr int THREADS = 128;
constexpr int ROWS = 64, COLUMNS = 128, SUMS = COLUMNS / 2;
constexpr int A_BYTES = ROWS * STEP * 2, B_BYTES = COLUMNS * STEP * 2, STAGE_BYTES = A_BYTES + B_BYTES;
static_assert(GROUPED_ROWS == ROWS && GROUPED_COLUMNS == COLUMNS && GROUPED_THREADS == THREADS, "what the host launches");
static_assert(GROUPED_BYTES == 1024 + 2 * STAGE_BYTES + 64 * 64 * 2, "what the host launches");

// HEIGHT rows and WIDTH columns of an operand for a step: its rows from `first` on, up to `end`, of `columns` columns, and of them
// those from `column` on.
template <int WIDTH, int HEIGHT>
__device__ __forceinline__ void fetch(unsigned to, const bf16* from, int first, int end, int column, int columns) {
  constexpr int CHUNKS = WIDTH / 8;
#pragma unroll
  for (int i = 0; i < WIDTH * HEIGHT / 8 / THREADS; i++) {
    const int at = i * THREADS + threadIdx.x, row = at / CHUNKS, chunk = at % CHUNKS;
    const bool valid = first + row < end && column + 8 * chunk < columns;
    copy16(to + Tile<WIDTH, HEIGHT>::chunk(row, chunk), valid ? from + (i64)(first + row) * columns + column + 8 * chunk : from, valid);
  }
}

template <int KIND>
__device__ __forceinline__ void fetch_step(const Grouped& p, const GroupedTile& tile, unsigned a, unsigned b, int step) {
  using F = Form<KIND>;
  const int at = tile.first + step * STEP;
  if (F::ROWS_A) fetch<ROWS, STEP>(a, p.a, at, tile.last, tile.row, p.height);
  else fetch<STEP, ROWS>(a, p.a, tile.row, tile.end, at, p.inner);
  // An expert's weights: `inner` rows of `columns`, or the other way round, and twice as many of gate and up.
  const bf16* weights = p.b + (i64)tile.expert * p.inner * (KIND == UP ? 2 * p.columns : p.columns);
  if (F::WEIGHTS) {
    fetch<COLUMNS, STEP>(b, p.b, at, tile.last, tile.column, p.columns);
  } else if (F::ROWS_B) {
    fetch<COLUMNS, STEP>(b, weights, at, p.inner, tile.column, p.columns);
  } else if (KIND == UP) {
    fetch<STEP, COLUMNS / 2>(b, weights, tile.column, p.columns, at, p.inner);
    fetch<STEP, COLUMNS / 2>(b + B_BYTES / 2, weights + (i64)p.columns * p.inner, tile.column, p.columns, at, p.inner);
  } else {
    fetch<STEP, COLUMNS>(b, weights, tile.column, p.columns, at, p.inner);
  }
}

template <int KIND>
__device__ __forceinline__ void multiply_step(float (&sums)[SUMS], unsigned a, unsigned b, int warp, int lane) {
  using F = Form<KIND>;
#pragma unroll
  for (int k = 0; k < STEP / 16; k++) {
    unsigned rows[4], columns[4];
    if (F::ROWS_A)
      load_matrices_transposed(rows, a + Tile<ROWS, STEP>::chunk(16 * k + (lane >> 4) * 8 + (lane & 7), 2 * warp + (lane >> 3 & 1)));
    else load_matrices(rows, a + Tile<STEP, ROWS>::chunk(16 * warp + (lane & 15), 2 * k + (lane >> 4)));
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j += 2) {
      if (F::ROWS_B) load_matrices_transposed(columns, b + Tile<COLUMNS, STEP>::chunk(16 * k + (lane & 15), j + (lane >> 4)));
      else load_matrices(columns, b + Tile<STEP, COLUMNS>::chunk(8 * (j + (lane >> 4)) + (lane & 7), 2 * k + (lane >> 3 & 1)));
      multiply(sums + 4 * j, rows, columns[0], columns[1]);
      multiply(sums + 4 * j + 4, rows, columns[2], columns[3]);
    }
  }
}

// Where results that are bf16 rows go: written by the warp itself.
struct Written {
  const Strip strip;
  const int warp, lane;
  __device__ Written(unsigned square, int warp, int lane) : strip{square, warp, lane}, warp(warp), lane(lane) {}
  // A warp's 16 rows of 64 columns from row `row`, of which a warpgroup has `rows`. The last four are for Hopper's copy engine.
  __device__ __forceinline__ void rows(const unsigned (&words)[16], bf16* to, i64 stride, int rows, int columns, int, int, int, int) {
    strip.store(words, to, stride, rows, columns);
  }
};
using Way = Written;

// Gate and up of the tile, 64 columns at a time.
struct OpenedInRows {
  const Grouped& p;
  const GroupedTile& tile;
  int group;
  const Strip strip;
  __device__ __forceinline__ void take(int, int, unsigned (&gate)[16], unsigned (&up)[16]) {
    const int column = tile.column + 64 * group++, rows = tile.end - tile.row, left = p.columns - column;
    const bf16* from = p.open + (i64)tile.row * 2 * p.columns + column;
    strip.load(gate, from, 2 * p.columns, rows, left);
    strip.load(up, from + p.columns, 2 * p.columns, rows, left);
  }
  template <class Epilogue>
  __device__ __forceinline__ void give(const Epilogue& e, const unsigned (&gate)[16], const unsigned (&up)[16],
                                       const unsigned (&hidden)[16], int column) const {
    e.store(gate, up, hidden, column);
  }
};

template <int KIND, class Epilogue>
__device__ void grouped(const Grouped& p) {
  extern __shared__ char memory[];
  __shared__ int starts[MOST_EXPERTS + 1];
  const unsigned stages = (shared_address(memory) + 1023) & ~1023u, square = stages + 2 * STAGE_BYTES;
  const GroupedTiles<KIND, 1, ROWS, KIND == UP ? COLUMNS / 2 : COLUMNS> tiles(p, starts);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Written way(square, warp, lane);
  for (int i = tiles.first(); i < tiles.count; i += tiles.stride()) {
    const GroupedTile tile = tiles[i];
    Epilogue epilogue(p, tile, way, 0);
    float sums[SUMS] = {};
    if (tile.steps > 0) fetch_step<KIND>(p, tile, stages, stages + A_BYTES, 0);
    copy_commit();
    for (int s = 0; s < tile.steps; s++) {
      const unsigned now = stages + s % 2 * STAGE_BYTES, next = stages + (s + 1) % 2 * STAGE_BYTES;
      if (s + 1 < tile.steps) fetch_step<KIND>(p, tile, next, next + A_BYTES, s + 1);
      copy_commit();
      copy_wait<1>();
      __syncthreads();
      multiply_step<KIND>(sums, now, now + A_BYTES, warp, lane);
      __syncthreads();
    }
    if constexpr (KIND == DOWN_GRAD) {
      OpenedInRows opened{p, tile, 0, way.strip};
      epilogue(sums, opened);
    } else {
      epilogue(sums);
    }
  }
}
