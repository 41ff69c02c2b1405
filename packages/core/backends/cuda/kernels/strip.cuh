// Results on their way between accumulators and memory.
#pragma once
#include "shared_memory.cuh"

// Of products_hopper.cuh or products_portable.cuh.
__device__ __forceinline__ void store_pair(unsigned tile, int warp, int lane, int pair, unsigned a, unsigned b, unsigned c, unsigned d);

__device__ __forceinline__ uint4 read_shared(unsigned from) {
  uint4 x;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(from) : "memory");
  return x;
}
__device__ __forceinline__ void write_shared(unsigned to, uint4 x) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w) : "memory");
}

// A warp's 16 rows of 64 columns: as accumulators hold them, pairs of bf16 (word 4·j … of eight columns each: upper rows, lower
// rows), and as rows of 16-byte pieces for coalesced loads and stores. Between the two, the warp's part of a square of 64 × 64.
struct Strip {
  using Square = Tile<64, 64>;
  unsigned square;
  int warp, lane;

  __device__ __forceinline__ int row(int i) const { return 16 * warp + 4 * i + lane / 8; }
  __device__ __forceinline__ unsigned piece(int i) const { return square + Square::chunk(row(i), lane % 8); }
  // To the square.
  __device__ __forceinline__ void write(const unsigned (&words)[16]) const {
#pragma unroll
    for (int pair = 0; pair < 4; pair++)
      store_pair(square, warp, lane, pair, words[4 * pair], words[4 * pair + 1], words[4 * pair + 2], words[4 * pair + 3]);
  }
  // To rows of `to`, of which there are `rows` and `columns`.
  __device__ __forceinline__ void store(const unsigned (&words)[16], bf16* to, i64 stride, int rows, int columns) const {
    __syncwarp();
    write(words);
    __syncwarp();
    if (lane % 8 * 8 >= columns) return;
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (row(i) < rows) *reinterpret_cast<uint4*>(to + row(i) * stride + lane % 8 * 8) = read_shared(piece(i));
  }
  // A warp's rows of a square elsewhere.
  __device__ __forceinline__ void read(unsigned (&words)[16], unsigned from) const {
#pragma unroll
    for (int pair = 0; pair < 4; pair++)
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(words[4 * pair]), "=r"(words[4 * pair + 1]), "=r"(words[4 * pair + 2]), "=r"(words[4 * pair + 3])
                   : "r"(from + Square::chunk(16 * warp + (lane >> 3 & 1) * 8 + (lane & 7), 2 * pair + (lane >> 4)))
                   : "memory");
  }
  // Rows of `from`; zero where there are none.
  __device__ __forceinline__ void load(unsigned (&words)[16], const bf16* from, i64 stride, int rows, int columns) const {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const bool inside = row(i) < rows && lane % 8 * 8 < columns;
      const uint4 piece = inside ? *reinterpret_cast<const uint4*>(from + row(i) * stride + lane % 8 * 8) : make_uint4(0, 0, 0, 0);
      write_shared(this->piece(i), piece);
    }
    __syncwarp();
    read(words, square);
  }
};
