// x·weightᵀ for up to 64 rows, as in generation: the weights are read once, at the speed of memory. Every number is summed
// over k in one order, whatever the number of rows, so that a row's bits do not depend on the rows beside it: k is cut into
// RUNS runs of 32-wide steps, each is summed by itself, and the runs' sums are added in their order.
//
// The matrix units take x as the left operand, 16 rows at a time, and weights as the right, 8 outputs at a time. Which k a
// lane holds is the same for both operands and otherwise free, so each lane loads 16 bytes that lie together.
#include "async_copy.cuh"

#define RUNS 8
#define STEP 32

__device__ __forceinline__ void multiply_tile(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                              unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// A step of 32: 16 rows, of which a lane has one in `low` and one in `high`, by 8 outputs.
__device__ __forceinline__ void multiply_step(float (&c)[4], uint4 low, uint4 high, uint4 w) {
  multiply_tile(c, low.x, high.x, low.y, high.y, w.x, w.y);
  multiply_tile(c, low.z, high.z, low.w, high.w, w.z, w.w);
}

__device__ __forceinline__ uint4 load16(const bf16* p, bool inside) {
  return inside ? *reinterpret_cast<const uint4*>(p) : make_uint4(0, 0, 0, 0);
}
// Weights are read once: they need not stay in the first cache.
__device__ __forceinline__ uint4 load16_once(const bf16* p, bool inside) {
  uint4 v = make_uint4(0, 0, 0, 0);
  if (inside)
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}

// y [rows, outs], x [rows, width], weight [outs, width], rows `Stride` apart; width a multiple of 8.
struct Product {
  bf16* y;
  i64 yStride;
  const bf16* x;
  i64 xStride;
  const bf16* weight;
  i64 wStride;
  int rows, outs, width;
};

// Steps [from, to) of a run.
struct Run {
  int from, to;
  __device__ __forceinline__ Run(int width, int run) {
    const int steps = (width + STEP - 1) / STEP;
    from = run * steps / RUNS, to = (run + 1) * steps / RUNS;
  }
};

// What a lane holds of the weights of some steps: all that is read in AHEAD steps is on its way before the first is used.
template <int OUTS, int AHEAD>
struct Weights {
  uint4 w[AHEAD][OUTS];
  __device__ __forceinline__ void load(const Product& p, int s, int at, int to, int firstOut, int line, int quad) {
#pragma unroll
    for (int o = 0; o < OUTS; o++) {
      const int out = firstOut + o * 8 + line, k = at * STEP + quad * 8;
      w[s][o] = load16_once(p.weight + out * p.wStride + k, at < to && out < p.outs && k < p.width);
    }
  }
};

// One block has OUTS tiles of 8 outputs, and each of its warps one run; ROWS: tiles of 16 rows.
template <int ROWS, int OUTS, int AHEAD>
__device__ __forceinline__ void rowwise_block(const Product& p) {
  __shared__ float part[RUNS][ROWS * OUTS * 4 * 32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, line = lane / 4, quad = lane % 4;
  const int firstOut = blockIdx.x * OUTS * 8;
  const Run run(p.width, warp);
  float sum[ROWS][OUTS][4] = {};
  Weights<OUTS, AHEAD> ahead;
#pragma unroll
  for (int s = 0; s < AHEAD; s++) ahead.load(p, s, run.from + s, run.to, firstOut, line, quad);
  let_next_begin();
  await_previous();
  for (int at = run.from; at < run.to; at += AHEAD) {
#pragma unroll
    for (int s = 0; s < AHEAD; s++) {
      const int k = (at + s) * STEP + quad * 8;
      const bool inside = at + s < run.to && k < p.width;
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        const int row = r * 16 + line;
        const uint4 low = load16(p.x + row * p.xStride + k, inside && row < p.rows);
        const uint4 high = load16(p.x + (row + 8) * p.xStride + k, inside && row + 8 < p.rows);
#pragma unroll
        for (int o = 0; o < OUTS; o++) multiply_step(sum[r][o], low, high, ahead.w[s][o]);
      }
      ahead.load(p, s, at + s + AHEAD, run.to, firstOut, line, quad);
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++)
#pragma unroll
    for (int o = 0; o < OUTS; o++)
#pragma unroll
      for (int i = 0; i < 4; i++) part[warp][((r * OUTS + o) * 4 + i) * 32 + lane] = sum[r][o][i];
  __syncthreads();
  for (int e = threadIdx.x; e < ROWS * OUTS * 4 * 32; e += RUNS * 32) {
    float total = 0.f;
#pragma unroll
    for (int v = 0; v < RUNS; v++) total += part[v][e];
    const int owner = e % 32, i = e / 32 % 4, o = e / 128 % OUTS, r = e / 128 / OUTS;
    const int row = r * 16 + owner / 4 + (i / 2) * 8, out = firstOut + o * 8 + owner % 4 * 2 + i % 2;
    if (row < p.rows && out < p.outs) p.y[row * p.yStride + out] = float_to_bf16(total);
  }
}

#define ROWWISE(NAME, ROWS, OUTS, AHEAD, BLOCKS)                                                                                \
  extern "C" __global__ void __launch_bounds__(RUNS * 32, BLOCKS)                                                                     \
      NAME(bf16* y, i64 yStride, const bf16* x, i64 xStride, const bf16* weight, i64 wStride, int rows, int outs, int width) {  \
    rowwise_block<ROWS, OUTS, AHEAD>({y, yStride, x, xStride, weight, wStride, rows, outs, width});                             \
  }

ROWWISE(rowwise16, 1, 1, 6, 4)
ROWWISE(rowwise32, 2, 2, 4, 2)
ROWWISE(rowwise64, 4, 2, 4, 2)

#if __CUDA_ARCH__ >= 900 || !defined(__CUDA_ARCH__)
// The same sums where x would otherwise be read again for every few outputs: a cluster of RUNS blocks has 64 outputs, each
// block one run with its part of x in shared memory, and each of its four warps 16 of the outputs. Rows of x lie so far apart
// that the eight lanes of a turn of the banks, which have two rows, meet none twice; so do those of the sums.
#define CLUSTER_OUTS 64
#define CLUSTER_WARPS 4
#define SUMS_PITCH (CLUSTER_OUTS + 8)

__device__ __forceinline__ void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// Two numbers at an address of this block's shared memory, but in the cluster's block `rank`.
__device__ __forceinline__ float2 load_from_block(unsigned address, int rank) {
  unsigned there;
  float2 v;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  asm volatile("ld.shared::cluster.v2.f32 {%0,%1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(there) : "memory");
  return v;
}

template <int ROWS, int AHEAD>
__device__ __forceinline__ void rowwise_cluster(const Product& p, int pitch) {
  extern __shared__ __align__(16) unsigned char memory[];
  bf16* kept = reinterpret_cast<bf16*>(memory);
  float* sums = reinterpret_cast<float*>(memory);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, line = lane / 4, quad = lane % 4;
  const int rank = blockIdx.x % RUNS, firstOut = blockIdx.x / RUNS * CLUSTER_OUTS;
  const Run run(p.width, rank);
  Weights<2, AHEAD> ahead;
#pragma unroll
  for (int s = 0; s < AHEAD; s++) ahead.load(p, s, run.from + s, run.to, firstOut + warp * 16, line, quad);
  let_next_begin();
  await_previous();
  const int pieces = (run.to - run.from) * (STEP / 8);
  for (int i = threadIdx.x; i < ROWS * 16 * pieces; i += CLUSTER_WARPS * 32) {
    const int row = i / pieces, piece = i % pieces, k = run.from * STEP + piece * 8;
    const bool inside = row < p.rows && k < p.width;
    copy16(shared_address(kept + row * pitch + piece * 8), inside ? p.x + row * p.xStride + k : p.x, inside);
  }
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  float sum[ROWS][2][4] = {};
  for (int at = run.from; at < run.to; at += AHEAD) {
#pragma unroll
    for (int s = 0; s < AHEAD; s++) {
      if (at + s < run.to) {
        const bf16* from = kept + line * pitch + (at + s - run.from) * STEP + quad * 8;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
          const uint4 low = *reinterpret_cast<const uint4*>(from + r * 16 * pitch);
          const uint4 high = *reinterpret_cast<const uint4*>(from + (r * 16 + 8) * pitch);
#pragma unroll
          for (int o = 0; o < 2; o++) multiply_step(sum[r][o], low, high, ahead.w[s][o]);
        }
      }
      ahead.load(p, s, at + s + AHEAD, run.to, firstOut + warp * 16, line, quad);
    }
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < ROWS; r++)
#pragma unroll
    for (int o = 0; o < 2; o++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float* to = sums + (r * 16 + half * 8 + line) * SUMS_PITCH + warp * 16 + o * 8 + quad * 2;
        *reinterpret_cast<float2*>(to) = make_float2(sum[r][o][half * 2], sum[r][o][half * 2 + 1]);
      }
  cluster_barrier();
  // Each block adds the runs' sums of a part of the rows.
  for (int e = threadIdx.x; e < ROWS * 16 / RUNS * (CLUSTER_OUTS / 2); e += CLUSTER_WARPS * 32) {
    const int row = rank * (ROWS * 16 / RUNS) + e / (CLUSTER_OUTS / 2), own = e % (CLUSTER_OUTS / 2) * 2;
    const unsigned address = shared_address(sums + row * SUMS_PITCH + own);
    float2 total = make_float2(0.f, 0.f);
#pragma unroll
    for (int v = 0; v < RUNS; v++) {
      const float2 part = load_from_block(address, v);
      total.x += part.x, total.y += part.y;
    }
    const int out = firstOut + own;
    if (row < p.rows && out < p.outs) p.y[row * p.yStride + out] = float_to_bf16(total.x);
    if (row < p.rows && out + 1 < p.outs) p.y[row * p.yStride + out + 1] = float_to_bf16(total.y);
  }
  // Nobody leaves while another reads here.
  cluster_barrier();
}

#define ROWWISE_CLUSTER(NAME, ROWS)                                                                                             \
  extern "C" __global__ void __cluster_dims__(RUNS, 1, 1) __launch_bounds__(CLUSTER_WARPS * 32)                                 \
      NAME(bf16* y, i64 yStride, const bf16* x, i64 xStride, const bf16* weight, i64 wStride, int rows, int outs, int width,    \
           int pitch) {                                                                                                         \
    rowwise_cluster<ROWS, 6>({y, yStride, x, xStride, weight, wStride, rows, outs, width}, pitch);                              \
  }

ROWWISE_CLUSTER(rowwise_cluster32, 2)
ROWWISE_CLUSTER(rowwise_cluster64, 4)
#endif
