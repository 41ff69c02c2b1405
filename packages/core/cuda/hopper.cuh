// Hopper's instructions as inline functions: barriers in shared memory (mbarrier), asynchronous copies (cp.async), matrix
// products by a warpgroup (wgmma) with operands in swizzled shared memory, and the swizzle itself. PTX ISA 8.0 and later,
// chapters "mbarrier", "wgmma" and "Matrix descriptor format".
#pragma once
#include "common.cuh"

__device__ __forceinline__ unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

// ---- barriers -----------------------------------------------------------------------------------------------------
__device__ __forceinline__ void barrier_init(unsigned bar, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barrier_arrive(unsigned bar) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared::cta.b64 state, [%0];\n}" ::"r"(bar) : "memory");
}
__device__ __forceinline__ void barrier_wait(unsigned bar, unsigned parity) {
  unsigned done;
#ifdef TRAP_HANGS
  const long long start = clock64();
#endif
  do {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(bar), "r"(parity)
        : "memory");
#ifdef TRAP_HANGS
    if (!done && clock64() - start > 1000000000ll) {
      printf("hang: block %d thread %d barrier %x parity %u\n", blockIdx.x, threadIdx.x, bar, parity);
      __trap();
    }
#endif
  } while (!done);
}
// Waits for the 128 threads of a warpgroup; `id` 1 … 15.
__device__ __forceinline__ void warpgroup_barrier(int id) { asm volatile("bar.sync %0, 128;" ::"r"(id) : "memory"); }
// The same, and whether `vote` held in all of them.
__device__ __forceinline__ bool warpgroup_all(int id, bool vote) {
  unsigned all;
  asm volatile(
      "{\n.reg .pred p, q;\nsetp.ne.u32 p, %2, 0;\nbar.red.and.pred q, %1, 128, p;\nselp.u32 %0, 1, 0, q;\n}"
      : "=r"(all)
      : "r"(id), "r"((unsigned)vote)
      : "memory");
  return all != 0;
}

// ---- copies -------------------------------------------------------------------------------------------------------
// 16 bytes from global to shared memory; zeros where `valid` is false (the address must still be one of the tensor).
__device__ __forceinline__ void copy16(unsigned to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
// What this thread wrote to shared memory becomes visible to wgmma.
__device__ __forceinline__ void async_proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- registers ----------------------------------------------------------------------------------------------------
template <int N>
__device__ __forceinline__ void registers_take() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
__device__ __forceinline__ void registers_give() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

// ---- tiles in shared memory ---------------------------------------------------------------------------------------
// A tile of ROWS rows and D columns of bf16: panels of 64 columns (or one of 32), a panel's rows one after another,
// 16-byte chunks of a row exchanged by its number (128- or 64-byte swizzle), so that wgmma reads it without bank
// conflicts, along rows and along columns. Tiles start at multiples of 1024 bytes.
template <int D, int ROWS>
struct Tile {
  static constexpr int PANEL_COLUMNS = D < 64 ? D : 64;
  static constexpr int ROW_BYTES = PANEL_COLUMNS * 2;
  static constexpr int PANEL_BYTES = ROWS * ROW_BYTES;
  static constexpr int BYTES = ROWS * D * 2;
  static constexpr int CHUNKS = D / 8;
  static_assert(D == 32 || D % 64 == 0, "head dimension");

  static __device__ __forceinline__ unsigned chunk(int row, int chunk) {
    constexpr int PER_ROW = PANEL_COLUMNS / 8;
    const int turn = PER_ROW == 8 ? row & 7 : (row >> 1) & 3;
    return (chunk / PER_ROW) * PANEL_BYTES + row * ROW_BYTES + ((chunk % PER_ROW) ^ turn) * 16;
  }
  // wgmma's descriptor: address, strides between the 8-row groups and between panels, swizzle.
  static __device__ __forceinline__ unsigned long long descriptor(unsigned address) {
    constexpr unsigned long long SWIZZLE = ROW_BYTES == 128 ? 1ull : 2ull;
    return (unsigned long long)((address & 0x3ffff) >> 4) | (unsigned long long)(PANEL_BYTES >> 4) << 16 |
           (unsigned long long)((8 * ROW_BYTES) >> 4) << 32 | SWIZZLE << 62;
  }
  // Columns 16·step … of all rows: an operand whose inner dimension runs along the columns.
  static __device__ __forceinline__ unsigned along_columns(int step) {
    constexpr int STEPS = PANEL_COLUMNS / 16;
    return (step / STEPS) * PANEL_BYTES + (step % STEPS) * 32;
  }
  // Rows 16·step … of all columns: an operand whose inner dimension runs along the rows.
  static __device__ __forceinline__ unsigned along_rows(int step) { return step * 16 * ROW_BYTES; }
};

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
#define OUT4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define OUT16(i) OUT4(i), OUT4(i + 4), OUT4(i + 8), OUT4(i + 12)
#define OUT32(i) OUT16(i), OUT16(i + 16)
#define OUT64(i) OUT32(i), OUT32(i + 32)

// d [64, n] (+)= A·B over 16 of the inner dimension; `clear` starts from zero.
// _SS: both operands in shared memory; TRANSPOSE: their inner dimension runs along rows (both), or columns (neither).
// _RS: A in registers (four pairs of bf16), B with the inner dimension along rows.
#define WGMMA(n, count, list, a0, a1, a2, a3, a4, a5)                                                              \
  template <bool TRANSPOSE>                                                                                        \
  __device__ __forceinline__ void multiply(float (&d)[count], unsigned long long a, unsigned long long b, bool clear) { \
    if constexpr (TRANSPOSE)                                                                                       \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " a2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n             \
                   "k16.f32.bf16.bf16 {" list "}, " a0 ", " a1 ", p, 1, 1, 1, 1;\n}"                               \
                   : OUT##count(0)                                                                                 \
                   : "l"(a), "l"(b), "r"((int)!clear));                                                            \
    else                                                                                                           \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " a2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n             \
                   "k16.f32.bf16.bf16 {" list "}, " a0 ", " a1 ", p, 1, 1, 0, 0;\n}"                               \
                   : OUT##count(0)                                                                                 \
                   : "l"(a), "l"(b), "r"((int)!clear));                                                            \
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
#undef WGMMA

// Four 8×8 matrices of bf16 from registers to the row addresses that the lanes give.
__device__ __forceinline__ void store_matrices(unsigned row, unsigned a, unsigned b, unsigned c, unsigned d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}

// ---- arithmetic ---------------------------------------------------------------------------------------------------
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
