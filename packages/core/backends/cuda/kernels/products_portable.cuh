// Matmuls of tiles by the warps of a warpgroup with mma.sync (compute capability 8.0 and newer): the functions of
// products_hopper.cuh, with the same layout of accumulators. Each warp has 16 of the 64 rows. PTX ISA, "mma.m16n8k16" and
// "ldmatrix".
#pragma once
#include "shared_memory.cuh"

template <int N>
__device__ __forceinline__ void registers_take() {}
template <int N>
__device__ __forceinline__ void registers_give() {}
__device__ __forceinline__ void products_begin() {}
__device__ __forceinline__ void products_commit() {}
template <int PENDING>
__device__ __forceinline__ void products_wait() {}
template <int N>
__device__ __forceinline__ void hold(float (&)[N]) {}

__device__ __forceinline__ void load_matrices(unsigned (&x)[4], unsigned row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(unsigned (&x)[4], unsigned row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(row)
               : "memory");
}
// d[0 … 3] += A·B for a tile of 16 × 8, over 16 of the inner dimension.
__device__ __forceinline__ void multiply(float* d, const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <int D>
__device__ __forceinline__ void compare_tiles(float (&s)[32], unsigned a, unsigned b, int warp, int lane) {
  using T = Tile<D, TILE_ROWS>;
#pragma unroll
  for (int i = 0; i < 32; i++) s[i] = 0.f;
#pragma unroll
  for (int step = 0; step < D / 16; step++) {
    unsigned rows[4], columns[4];
    load_matrices(rows, a + T::chunk(16 * warp + (lane & 15), 2 * step + (lane >> 4)));
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      load_matrices(columns, b + T::chunk(8 * (j + (lane >> 4)) + (lane & 7), 2 * step + (lane >> 3 & 1)));
      multiply(s + 4 * j, rows, columns[0], columns[1]);
      multiply(s + 4 * j + 4, rows, columns[2], columns[3]);
    }
  }
}

// o += A·B over rows 16·step … of the tile b.
template <int D>
__device__ __forceinline__ void accumulate_step(float (&o)[D / 2], const unsigned (&a)[4], unsigned b, int step, int lane) {
  using T = Tile<D, TILE_ROWS>;
#pragma unroll
  for (int j = 0; j < D / 8; j += 2) {
    unsigned columns[4];
    load_matrices_transposed(columns, b + T::chunk(16 * step + (lane & 15), j + (lane >> 4)));
    multiply(o + 4 * j, a, columns[0], columns[1]);
    multiply(o + 4 * j + 4, a, columns[2], columns[3]);
  }
}

template <int D>
__device__ __forceinline__ void accumulate(float (&o)[D / 2], const unsigned (&a)[4][4], unsigned b, int lane) {
#pragma unroll
  for (int step = 0; step < 4; step++) accumulate_step<D>(o, a[step], b, step, lane);
}

template <int D>
__device__ __forceinline__ void accumulate_transposed(float (&o)[D / 2], unsigned a, unsigned b, int warp, int lane) {
#pragma unroll
  for (int step = 0; step < 4; step++) {
    unsigned rows[4];
    load_matrices_transposed(rows,
                             a + Tile<TILE_ROWS, TILE_ROWS>::chunk(16 * step + (lane >> 4) * 8 + (lane & 7), 2 * warp + (lane >> 3 & 1)));
    accumulate_step<D>(o, rows, b, step, lane);
  }
}

__device__ __forceinline__ void store_word(unsigned to, unsigned x) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(x) : "memory");
}
__device__ __forceinline__ void store_pair(unsigned tile, int warp, int lane, int pair, unsigned a, unsigned b, unsigned c,
                                           unsigned d) {
  const int row = warp * 16 + (lane >> 2), at = 4 * (lane & 3);
  store_word(tile + Tile<TILE_ROWS, TILE_ROWS>::chunk(row, 2 * pair) + at, a);
  store_word(tile + Tile<TILE_ROWS, TILE_ROWS>::chunk(row + 8, 2 * pair) + at, b);
  store_word(tile + Tile<TILE_ROWS, TILE_ROWS>::chunk(row, 2 * pair + 1) + at, c);
  store_word(tile + Tile<TILE_ROWS, TILE_ROWS>::chunk(row + 8, 2 * pair + 1) + at, d);
}
