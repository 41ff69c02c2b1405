// Matmuls of tiles by a warpgroup with Hopper's wgmma: operands stay in shared memory, 64 rows at a time. PTX ISA 8.0,
// chapters "wgmma" and "Matrix descriptor format". products_portable.cuh gives the same functions for other GPUs.
#pragma once
#include "shared_memory.cuh"

// ---- registers ----------------------------------------------------------------------------------------------------
template <int N>
__device__ __forceinline__ void registers_take() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
__device__ __forceinline__ void registers_give() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

// ---- descriptors --------------------------------------------------------------------------------------------------
// Address, strides between panels and between groups of eight rows, swizzle.
template <class T>
__device__ __forceinline__ unsigned long long descriptor(unsigned address) {
  constexpr unsigned long long SWIZZLE = T::ROW_BYTES == 128 ? 1ull : 2ull;
  return (unsigned long long)((address & 0x3ffff) >> 4) | (unsigned long long)(T::PANEL_BYTES >> 4) << 16 |
         (unsigned long long)((8 * T::ROW_BYTES) >> 4) << 32 | SWIZZLE << 62;
}
// Sixteen columns from 16·step on, of all rows: an operand whose inner dimension runs along the columns.
template <class T>
__device__ __forceinline__ unsigned long long along_columns(int step) {
  constexpr int STEPS = T::PANEL_COLUMNS / 16;
  return ((step / STEPS) * T::PANEL_BYTES + (step % STEPS) * 32) >> 4;
}
// Sixteen rows from 16·step on, of all columns: an operand whose inner dimension runs along the rows.
template <class T>
__device__ __forceinline__ unsigned long long along_rows(int step) {
  return (step * 16 * T::ROW_BYTES) >> 4;
}

// ---- wgmma --------------------------------------------------------------------------------------------------------
__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
// Keeps the compiler from moving uses of accumulators across a wait.
template <int N>
__device__ __forceinline__ void hold(float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(x[i])::"memory");
}

#define LIST16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define LIST32 LIST16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define LIST64                                                                                                  \
  LIST32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56" \
         ",%57,%58,%59,%60,%61,%62,%63"
#define LIST128                                                                                                       \
  LIST64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89"   \
         ",%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112" \
         ",%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define OUT4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define OUT16(i) OUT4(i), OUT4(i + 4), OUT4(i + 8), OUT4(i + 12)
#define OUT32(i) OUT16(i), OUT16(i + 16)
#define OUT64(i) OUT32(i), OUT32(i + 32)
#define OUT128(i) OUT64(i), OUT64(i + 64)

// d [64, n] (+)= A·B over 16 of the inner dimension; `clear` starts from zero.
// Both operands in shared memory; TRANSPOSE: of which the inner dimension runs along rows, not columns.
// Or A in registers (four pairs of bf16), B with the inner dimension along rows.
#define WGMMA(n, count, list, a0, a1, a2, a3, a4, a5)                                                              \
  template <bool TRANSPOSE_A, bool TRANSPOSE_B = TRANSPOSE_A>                                                      \
  __device__ __forceinline__ void multiply(float (&d)[count], unsigned long long a, unsigned long long b, bool clear) { \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " a2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n               \
                 "k16.f32.bf16.bf16 {" list "}, " a0 ", " a1 ", p, 1, 1, " a3 ", " a4 ";\n}"                       \
                 : OUT##count(0)                                                                                   \
                 : "l"(a), "l"(b), "r"((int)!clear), "n"((int)TRANSPOSE_A), "n"((int)TRANSPOSE_B));                \
  }                                                                                                                \
  __device__ __forceinline__ void multiply(float (&d)[count], const unsigned (&a)[4], unsigned long long b, bool clear) { \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " a5 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n               \
                 "k16.f32.bf16.bf16 {" list "}, {" a0 "," a1 "," a2 "," a3 "}, " a4 ", p, 1, 1, 1;\n}"             \
                 : OUT##count(0)                                                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)!clear));                          \
  }
WGMMA(32, 16, LIST16, "%16", "%17", "%18", "%19", "%20", "%21")
WGMMA(64, 32, LIST32, "%32", "%33", "%34", "%35", "%36", "%37")
WGMMA(128, 64, LIST64, "%64", "%65", "%66", "%67", "%68", "%69")
WGMMA(256, 128, LIST128, "%128", "%129", "%130", "%131", "%132", "%133")
#undef WGMMA


// ---- tiles --------------------------------------------------------------------------------------------------------
// s = A·Bᵀ of two tiles [TILE_ROWS, D]. Matmuls run until products_wait; nothing touches s before.
template <int D>
__device__ __forceinline__ void compare_tiles(float (&s)[32], unsigned a, unsigned b, int, int) {
  using T = Tile<D, TILE_ROWS>;
  const unsigned long long da = descriptor<T>(a), db = descriptor<T>(b);
#pragma unroll
  for (int step = 0; step < D / 16; step++)
    multiply<false>(s, da + along_columns<T>(step), db + along_columns<T>(step), step == 0);
}
// o += A·B, A [64, 64] in registers (pairs of accumulators as bf16), B a tile [64, D].
template <int D>
__device__ __forceinline__ void accumulate(float (&o)[D / 2], const unsigned (&a)[4][4], unsigned b, int) {
  const unsigned long long db = descriptor<Tile<D, TILE_ROWS>>(b);
#pragma unroll
  for (int step = 0; step < 4; step++) multiply(o, a[step], db + along_rows<Tile<D, TILE_ROWS>>(step), false);
}
// o += Aᵀ·B, A a tile [64, 64], B a tile [64, D].
template <int D>
__device__ __forceinline__ void accumulate_transposed(float (&o)[D / 2], unsigned a, unsigned b, int, int) {
  const unsigned long long da = descriptor<Tile<TILE_ROWS, TILE_ROWS>>(a), db = descriptor<Tile<D, TILE_ROWS>>(b);
#pragma unroll
  for (int step = 0; step < 4; step++)
    multiply<true>(o, da + along_rows<Tile<TILE_ROWS, TILE_ROWS>>(step), db + along_rows<Tile<D, TILE_ROWS>>(step), false);
}
// A warp's 16 rows of columns 16·pair … 16·pair + 15 to a tile [64, 64]: upper and lower rows of the first eight columns,
// then of the second eight, as accumulators hold them.
__device__ __forceinline__ void store_pair(unsigned tile, int warp, int lane, int pair, unsigned a, unsigned b, unsigned c,
                                           unsigned d) {
  const int row = warp * 16 + (lane >> 3 & 1) * 8 + (lane & 7);
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   tile + Tile<TILE_ROWS, TILE_ROWS>::chunk(row, 2 * pair + (lane >> 4))),
               "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}
