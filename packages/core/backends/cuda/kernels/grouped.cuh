// Grouped matmuls: the rows of a mixture's tokens lie sorted by expert, and every expert's rows are multiplied by its own weights,
// or by each other for the weights' gradients. Where an expert's rows begin is read on the GPU, where blocks find their tiles by
// it. What a tile's product becomes is in mixture_matmul.cu; grouped_hopper.cuh and grouped_portable.cuh make it.
#pragma once
#include "strip.cuh"

// Tokens N of C columns, experts of F units; R rows, one for each choice of a token, sorted by expert.
// Rows of x and dy are read where the tokens have them on Hopper; other GPUs have them laid out in the order of the experts first.
enum Kind {
  UP,            // x · inputᵀ: gate and up [R, 2F], and silu(gate)·up [R, F]
  DOWN,          // hidden · outputᵀ [R, C]
  DOWN_GRAD,     // dy · output [R, F], and from it the gradients of all that is before `output`
  UP_GRAD,       // their gradients [R, 2F] · input [R, C]
  DOWN_WEIGHTS,  // dyᵀ · gate·hidden [C, F] of each expert
  UP_WEIGHTS,    // gradients of gate and upᵀ · x [2F, C] of each expert; on Hopper xᵀ · gradients, stored the other way round
};

// kernel_interface.ts writes it. A kernel reads what its kind names; null for the rest.
struct Grouped {
  const bf16* a;       // rows of the left operand
  const bf16* b;       // the right operand: weights, or rows
  const int* offsets;  // [experts + 1]: where an expert's rows begin
  const int* order;    // [R]: which choice of which token a row is
  const float* gates;  // of each choice
  const bf16* open;    // [R, 2F]: gate and up, as UP made them
  bf16* out;           // [R, C]
  bf16* wide;          // [R, 2F]
  bf16* hidden;        // [R, F]
  float* sums;         // the weights' gradient; DOWN_GRAD: of each tile of columns the gates' share of it [tiles, R]
  i64 stride;          // of rows that are gathered
  i64 rows;            // R
  int experts;
  int inner;       // what is summed over, where it is not an expert's rows
  int height;      // rows of a weight's gradient
  int columns;     // of the result; UP: units
  int active;      // choices of a token
  int accumulate;  // whether a weight's gradient is added to what is there
};

template <int KIND>
struct Form {
  static constexpr bool WEIGHTS = KIND == DOWN_WEIGHTS || KIND == UP_WEIGHTS;
  // Whether an operand's inner dimension runs along its rows.
  static constexpr bool ROWS_A = WEIGHTS;
  static constexpr bool ROWS_B = KIND != UP && KIND != DOWN;
  // Whether the left operand's rows are those of tokens, brought from where they are.
  static constexpr bool GATHERED = HOPPER && KIND != DOWN && KIND != UP_GRAD;
};

// Of the inner dimension, at a time.
constexpr int STEP = 64;

// A tile of the result.
struct GroupedTile {
  int expert;
  int row;    // first row: of the sorted ones, or of the weight
  int end;    // end of the expert's rows, or of the weight's
  int column, number;  // first column; which tile of columns
  int first;  // the first of the rows that are summed over
  int last;   // their end
  int steps;
};

// Tiles of ROWS × COLUMNS of as many blocks as are a cluster, one below the other: an expert's one after another, its tiles of columns
// innermost, since neighbours share rows.
template <int KIND, int BLOCKS, int ROWS, int COLUMNS>
struct GroupedTiles {
  static constexpr int ALL_ROWS = BLOCKS * ROWS;
  const Grouped& p;
  const int* starts;
  int across, down, count;

  // `starts` [MOST_EXPERTS + 1] in shared memory; for all threads of the block together.
  __device__ GroupedTiles(const Grouped& p, int* starts) : p(p), starts(starts) {
    across = (p.columns + COLUMNS - 1) / COLUMNS;
    down = (p.height + ALL_ROWS - 1) / ALL_ROWS;
    if (!Form<KIND>::WEIGHTS && threadIdx.x < 32) {
      int total = 0;
      if (threadIdx.x == 0) starts[0] = 0;
      for (int base = 0; base < p.experts; base += 32) {
        const int e = base + (int)threadIdx.x;
        int tiles = e < p.experts ? (p.offsets[e + 1] - p.offsets[e] + ALL_ROWS - 1) / ALL_ROWS : 0;
#pragma unroll
        for (int o = 1; o < 32; o *= 2) {
          const int before = __shfl_up_sync(0xffffffffu, tiles, o);
          if ((int)threadIdx.x >= o) tiles += before;
        }
        if (e < p.experts) starts[e + 1] = total + tiles;
        total += __shfl_sync(0xffffffffu, tiles, 31);
      }
    }
    __syncthreads();
    count = Form<KIND>::WEIGHTS ? p.experts * down * across : starts[p.experts] * across;
  }

  // A cluster's first, and how far on the next is.
  __device__ int first() const { return blockIdx.x / BLOCKS; }
  __device__ int stride() const { return gridDim.x / BLOCKS; }
  __device__ GroupedTile operator[](int i) const {
    GroupedTile tile;
    const int line = i / across;
    tile.number = i - line * across;
    tile.column = tile.number * COLUMNS;
    if (Form<KIND>::WEIGHTS) {
      tile.expert = line / down;
      tile.row = (line - tile.expert * down) * ALL_ROWS;
      tile.end = p.height;
      tile.first = p.offsets[tile.expert];
      tile.last = p.offsets[tile.expert + 1];
      tile.steps = (tile.last - tile.first + STEP - 1) / STEP;
    } else {
      int low = 0, high = p.experts;
      while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (starts[middle] <= line) low = middle;
        else high = middle;
      }
      tile.expert = low;
      tile.row = p.offsets[low] + (line - starts[low]) * ALL_ROWS;
      tile.end = p.offsets[low + 1];
      tile.first = 0;
      tile.last = p.inner;
      tile.steps = (p.inner + STEP - 1) / STEP;
    }
    tile.row += blockIdx.x % BLOCKS * ROWS;
    return tile;
  }
};
