// The block of flash_backward.cu: who works in it, and what lies where in its shared memory.
#pragma once
#include "flash_queries.cuh"

// Three warpgroups with 64 queries each, one that sums, and one of which two warps send sums and two bring keys and values.
constexpr int WGS = BLOCK_WARPGROUPS, STAGES = BLOCK_STAGES, THREADS = (WGS + 2) * 128;
// Of 96 that a thread starts with.
constexpr int CONSUMER_REGISTERS = 128, SUMMING_REGISTERS = 72, HELPER_REGISTERS = 24;
static_assert(WGS * CONSUMER_REGISTERS + SUMMING_REGISTERS + HELPER_REGISTERS == (WGS + 2) * 96, "registers of a block");
constexpr int LOADERS = 64;  // threads that bring keys and values
constexpr int BUFFERS = 2;   // of squares
using T = Tile<D, TILE_ROWS>;
using Square = Tile<TILE_ROWS, TILE_ROWS>;
using Ring = Pipeline<STAGES, WGS * 4>;
constexpr int SUM_BYTES = 2 * TILE_ROWS * D * 4;  // a tile's dV, then its dK, as the accumulators lie
// WARPGROUP + its number: the threads of a consumer; SUMMING: those of the warpgroup that sums.
enum NamedBarrier { WARPGROUP = 1, SUMMING = WARPGROUP + WGS };

struct Shared {
  unsigned q, dO, k, v, squares;
  unsigned sums;  // a tile's dV and dK on their way from or to global memory
  Ring ring;
  unsigned full, empty;    // of the squares' buffers
  unsigned staged, taken;  // of the two halves of `sums`
  unsigned stops;          // [192] see Carry
  int* block;              // which block this is
  __device__ explicit Shared(char* base)
      : q((shared_address(base) + 1023) & ~1023u),
        dO(q + WGS * T::BYTES),
        k(dO + WGS * T::BYTES),
        v(k + STAGES * T::BYTES),
        squares(v + STAGES * T::BYTES),
        sums(squares + BUFFERS * WGS * 2 * Square::BYTES),
        ring(sums + SUM_BYTES),
        full(ring.full + Ring::BYTES),
        empty(full + BUFFERS * 8),
        staged(empty + BUFFERS * 8),
        taken(staged + 16),
        stops(taken + 16) {
    block = (int*)(base + (stops + WGS * TILE_ROWS * 8 - shared_address(base)));
  }
  static constexpr int BYTES = (2 * WGS + 2 * STAGES) * T::BYTES + BUFFERS * WGS * 2 * Square::BYTES + SUM_BYTES +
                               WGS * TILE_ROWS * 8 + 128;
  __device__ void init() const {
    for (int i = 0; i < STAGES; i++) barrier_init(ring.full + i * 8, LOADERS), barrier_init(ring.empty + i * 8, WGS * 4);
    for (int i = 0; i < BUFFERS; i++) barrier_init(full + i * 8, WGS * 4), barrier_init(empty + i * 8, 4);
    for (int i = 0; i < 2; i++) barrier_init(staged + i * 8, 4), barrier_init(taken + i * 8, 1);
  }
  __device__ __forceinline__ unsigned weights(int buffer, int wg) const {
    return squares + (buffer * WGS + wg) * 2 * Square::BYTES;
  }
  __device__ __forceinline__ unsigned dLogits(int buffer, int wg) const { return weights(buffer, wg) + Square::BYTES; }
};
static_assert(Ring::BYTES + (2 * BUFFERS + 4) * 8 + 4 <= 128 && 1023 + Shared::BYTES <= BLOCK_BYTES,
              "more shared memory than the host gives");

// Where a lane's part of the first 16 columns lies in a warp's rows of a square; that of columns 16·pair … is at
// `place ^ 32 · pair`: what store_pair(tile, …) finds anew for each.
__device__ __forceinline__ unsigned pair_place(int warp, int lane) {
  const int row = warp * 16 + (lane >> 3 & 1) * 8 + (lane & 7);
  return Square::chunk(row, lane >> 4);
}
__device__ __forceinline__ void store_pair(unsigned to, unsigned a, unsigned b, unsigned c, unsigned d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}
