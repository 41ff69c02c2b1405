// What the kernels of a step of generation share: attention of one new token for each of several documents, whose keys and
// values lie in pages. A warp takes CHUNK keys at once, LANES_PER_KEY lanes each, eight numbers a lane.
#pragma once
#include "common.cuh"

#ifndef HEAD_DIM
#define HEAD_DIM 64
#endif
#ifndef GROUP
#define GROUP 1
#endif
#ifndef PAGE
#define PAGE 16
#endif

#define WARPS 4
#define BLOCK (WARPS * 32)
#define CHUNK 32
#define LANES_PER_KEY (HEAD_DIM / 8)
#define KEYS_PER_LOAD (32 / LANES_PER_KEY)
#define LOADS (CHUNK / KEYS_PER_LOAD)
#define PAGES_PER_CHUNK (CHUNK / PAGE)
static_assert(CHUNK % PAGE == 0 && PAGE % KEYS_PER_LOAD == 0, "a load of a warp lies in one page, and pages make up a chunk");
// Of a result: weighted values, then what is left of the stick and 0, or the largest logit and the sum of weights.
#define RESULT (HEAD_DIM + 2)

struct Decode {
  const bf16 *q, *k, *v;     // rows qStride, kStride and vStride apart
  bf16 *keyPages, *valuePages;
  const int *lengths, *table;
  const float* angles;       // cosines and sines [2, positions, HEAD_DIM/2], or null
  const float* slopes;       // ALiBi's [heads], or null
  bf16* output;              // [rows, heads, HEAD_DIM]
  float* remainder;          // [rows, heads]
  int* keysRead;             // [rows, kvHeads]
  float* parts;              // results of parts of a row's keys
  int* done;                 // [rows, kvHeads]: whether the near keys were all
  int* states;               // of the blocks that share a row; 0 between launches
  i64 positions;
  int qStride, kStride, vStride, heads, kvHeads, tableWidth, window, attendCurrent, near, run, runs;
  float scale, exhausted;    // scale: log2(e) included
};

// Element d of a head, turned to a position where there are angles, and rounded as it is stored.
__device__ __forceinline__ bf16 turned(const Decode& p, const bf16* head, int d, int position) {
  if (!p.angles) return head[d];
  const int half = HEAD_DIM / 2;
  const float c = p.angles[position * (i64)half + d % half], s = p.angles[(p.positions + position) * half + d % half];
  const float own = bf16_to_float(head[d]), other = bf16_to_float(head[d < half ? d + half : d - half]);
  return float_to_bf16(d < half ? own * c - other * s : own * c + other * s);
}

// Queries of `count` heads from one on, turned and scaled.
__device__ __forceinline__ void load_queries(float (*query)[HEAD_DIM], const Decode& p, int row, int firstHead, int count, int position) {
  for (int i = threadIdx.x; i < count * HEAD_DIM; i += BLOCK) {
    const bf16* head = p.q + (i64)row * p.qStride + (firstHead + i / HEAD_DIM) * HEAD_DIM;
    query[i / HEAD_DIM][i % HEAD_DIM] = bf16_to_float(turned(p, head, i % HEAD_DIM, position)) * p.scale;
  }
}

// The new key, turned, and the new value.
struct NewKey {
  __align__(16) bf16 key[HEAD_DIM];
  __align__(16) bf16 value[HEAD_DIM];
};
// To shared memory, and to their place in the pages if `write`.
__device__ __forceinline__ void load_new(NewKey& fresh, const Decode& p, const int* table, int row, int kvHead, int position, bool write) {
  const i64 to = (((i64)table[position / PAGE] * p.kvHeads + kvHead) * PAGE + position % PAGE) * HEAD_DIM;
  const bf16 *key = p.k + (i64)row * p.kStride + kvHead * HEAD_DIM, *value = p.v + (i64)row * p.vStride + kvHead * HEAD_DIM;
  for (int d = threadIdx.x; d < HEAD_DIM; d += BLOCK) {
    fresh.key[d] = turned(p, key, d, position);
    fresh.value[d] = value[d];
    if (write) p.keyPages[to + d] = fresh.key[d], p.valuePages[to + d] = fresh.value[d];
  }
}

// The keys [begin, end) of a chunk, which begins at a multiple of CHUNK; in `kept` those of this lane: KEYS_PER_LOAD·i + lane /
// LANES_PER_KEY, its eight numbers of each. Others are zero.
__device__ __forceinline__ void load_chunk(uint4 (&kept)[LOADS], const bf16* pages, const int* table, const Decode& p, int kvHead,
                                           int chunk, int begin, int end, int lane) {
  int page[PAGES_PER_CHUNK];
#pragma unroll
  for (int i = 0; i < PAGES_PER_CHUNK; i++) {
    const int first = chunk * CHUNK + i * PAGE;
    page[i] = first < end && first + PAGE > begin ? table[chunk * PAGES_PER_CHUNK + i] : 0;
  }
#pragma unroll
  for (int i = 0; i < LOADS; i++) {
    const int at = i * KEYS_PER_LOAD + lane / LANES_PER_KEY, key = chunk * CHUNK + at;
    kept[i] = make_uint4(0, 0, 0, 0);
    if (key >= begin && key < end) {
      const i64 from = (((i64)page[i * KEYS_PER_LOAD / PAGE] * p.kvHeads + kvHead) * PAGE + at % PAGE) * HEAD_DIM;
      kept[i] = *reinterpret_cast<const uint4*>(pages + from + lane % LANES_PER_KEY * 8);
    }
  }
}
// The new key, where it is one of the chunk's: it may not be in its page yet.
__device__ __forceinline__ void put_new(uint4 (&kept)[LOADS], const bf16* fresh, int chunk, int newest, int lane) {
#pragma unroll
  for (int i = 0; i < LOADS; i++)
    if (chunk * CHUNK + i * KEYS_PER_LOAD + lane / LANES_PER_KEY == newest)
      kept[i] = *reinterpret_cast<const uint4*>(fresh + lane % LANES_PER_KEY * 8);
}

// Logits of a chunk: that of key `lane`, through `logits[CHUNK]` in shared memory.
__device__ __forceinline__ float chunk_logits(const uint4 (&keys)[LOADS], const float* query, float* logits, int lane) {
  float q[8];
#pragma unroll
  for (int j = 0; j < 8; j++) q[j] = query[lane % LANES_PER_KEY * 8 + j];
  __syncwarp();
#pragma unroll
  for (int i = 0; i < LOADS; i++) {
    float x[8], dot = 0.f;
    unpack8(keys[i], x);
#pragma unroll
    for (int j = 0; j < 8; j++) dot = fmaf(q[j], x[j], dot);
#pragma unroll
    for (int o = LANES_PER_KEY / 2; o; o >>= 1) dot += __shfl_xor_sync(0xffffffffu, dot, o);
    if (lane % LANES_PER_KEY == 0) logits[i * KEYS_PER_LOAD + lane / LANES_PER_KEY] = dot;
  }
  __syncwarp();
  return logits[lane];
}

// Adds the chunk's values by their weights in shared memory: eight columns a lane, of every KEYS_PER_LOAD-th key.
__device__ __forceinline__ void add_values(float (&sum)[8], const uint4 (&values)[LOADS], const float* weights, int lane) {
#pragma unroll
  for (int i = 0; i < LOADS; i++) {
    float x[8];
    unpack8(values[i], x);
    const float w = weights[i * KEYS_PER_LOAD + lane / LANES_PER_KEY];
#pragma unroll
    for (int j = 0; j < 8; j++) sum[j] = fmaf(w, x[j], sum[j]);
  }
}
// The lanes' sums to part[HEAD_DIM].
__device__ __forceinline__ void store_values(float* part, float (&sum)[8], int lane) {
#pragma unroll
  for (int j = 0; j < 8; j++)
#pragma unroll
    for (int o = LANES_PER_KEY; o < 32; o <<= 1) sum[j] += __shfl_xor_sync(0xffffffffu, sum[j], o);
  if (lane < LANES_PER_KEY)
#pragma unroll
    for (int j = 0; j < 8; j++) part[lane * 8 + j] = sum[j];
}
