// What a block's warps share: barriers in shared memory (mbarrier), tiles in swizzled shared memory, and the pipeline by which
// one warpgroup brings tiles to the others. PTX ISA, chapter "mbarrier".
#pragma once
#include "async_copy.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER 1
#else
#define HOPPER 0
#endif

// ---- barriers -----------------------------------------------------------------------------------------------------
__device__ __forceinline__ void barrier_init(unsigned bar, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barrier_destroy(unsigned bar) { asm volatile("mbarrier.inval.shared.b64 [%0];" ::"r"(bar) : "memory"); }
__device__ __forceinline__ void barrier_arrive(unsigned bar) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(bar) : "memory");
}
#if __CUDA_ARCH__ >= 900
#define WAIT "try_wait"
#else
#define WAIT "test_wait"
#endif
__device__ __forceinline__ void barrier_wait(unsigned bar, unsigned parity) {
  unsigned done;
  do {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier." WAIT ".parity.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(bar), "r"(parity)
        : "memory");
  } while (!done);
}
// Waits at a named barrier (1 … 15; __syncthreads is number 0) for the 128 threads of a warpgroup.
__device__ __forceinline__ void warpgroup_barrier(int barrier) { asm volatile("bar.sync %0, 128;" ::"r"(barrier) : "memory"); }
// The same, and whether `vote` held in all of them.
__device__ __forceinline__ bool warpgroup_all(int barrier, bool vote) {
  unsigned all;
  asm volatile(
      "{\n.reg .pred p, q;\nsetp.ne.u32 p, %2, 0;\nbar.red.and.pred q, %1, 128, p;\nselp.u32 %0, 1, 0, q;\n}"
      : "=r"(all)
      : "r"(barrier), "r"((unsigned)vote)
      : "memory");
  return all != 0;
}

// What this thread wrote to shared memory becomes visible to the matrix units' own reads.
__device__ __forceinline__ void async_proxy_fence() {
#if HOPPER
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// ---- tiles in shared memory ---------------------------------------------------------------------------------------
// Queries and keys that a warpgroup works on at a time: the rows of a wgmma. attention_plan.ts deals them out.
static_assert(TILE_ROWS == 64, "the rows of a warpgroup's matrix instructions");
__device__ __forceinline__ constexpr int tiles_of(int rows) { return (rows + TILE_ROWS - 1) / TILE_ROWS; }

// A tile of ROWS rows and D columns of bf16: panels of 64 columns (or one of 32), a panel's rows one after another,
// 16-byte chunks of a row exchanged by its number (128- or 64-byte swizzle), so that the matrix units read it
// without bank conflicts, along rows and along columns. Tiles start at multiples of 1024 bytes.
template <int D, int ROWS>
struct Tile {
  static constexpr int PANEL_COLUMNS = D < 64 ? D : 64;
  static constexpr int ROW_BYTES = PANEL_COLUMNS * 2;
  static constexpr int PANEL_BYTES = ROWS * ROW_BYTES;
  static constexpr int BYTES = ROWS * D * 2;
  static constexpr int CHUNKS = D / 8;
  static_assert(D == 32 || D % 64 == 0, "head dimension");

  static constexpr int PER_ROW = PANEL_COLUMNS / 8;
  static __device__ __forceinline__ constexpr int turn(int row) { return PER_ROW == 8 ? row & 7 : (row >> 1) & 3; }
  static __device__ __forceinline__ constexpr unsigned chunk(int row, int chunk) {
    return (chunk / PER_ROW) * PANEL_BYTES + row * ROW_BYTES + ((chunk % PER_ROW) ^ turn(row)) * 16;
  }
};

// ---- pipeline -----------------------------------------------------------------------------------------------------
// A ring of tiles in shared memory that a producing warpgroup of 128 threads fills and READERS warps empty. A step is
// published once the next one is on its way.
template <int STAGES, int READERS>
struct Pipeline {
  static constexpr int BYTES = STAGES * 16;
  unsigned full, empty;
  __device__ explicit Pipeline(unsigned address) : full(address), empty(address + STAGES * 8) {}
  __device__ void init() const {
    for (int i = 0; i < STAGES; i++) barrier_init(full + i * 8, 128), barrier_init(empty + i * 8, READERS);
  }
  // The barriers' memory may be used anew.
  __device__ void destroy() const {
    for (int i = 0; i < STAGES; i++) barrier_destroy(full + i * 8), barrier_destroy(empty + i * 8);
  }
  // Producer: waits until the stage of `step` may be written.
  __device__ __forceinline__ int acquire(int step) const {
    if (step >= STAGES) barrier_wait(empty + step % STAGES * 8, (step / STAGES - 1) & 1);
    return step % STAGES;
  }
  // Producer: this step's copies are on their way.
  __device__ __forceinline__ void publish(int step) const {
    copy_commit();
    if (STAGES == 1) copy_wait<0>(), signal(step);
    else if (step > 0) copy_wait<1>(), signal(step - 1);
  }
  // Producer: no step from `end` on follows.
  __device__ __forceinline__ void finish(int end) const {
    copy_wait<0>();
    if (STAGES > 1 && end > 0) signal(end - 1);
  }
  __device__ __forceinline__ void signal(int step) const {
    async_proxy_fence();
    barrier_arrive(full + step % STAGES * 8);
  }
  // Reader: waits for a step's tiles; gives them back, once a warp.
  __device__ __forceinline__ int wait(int step) const {
    barrier_wait(full + step % STAGES * 8, (step / STAGES) & 1);
    return step % STAGES;
  }
  __device__ __forceinline__ void release(int step, int lane) const {
    if (lane == 0) barrier_arrive(empty + step % STAGES * 8);
  }
};
