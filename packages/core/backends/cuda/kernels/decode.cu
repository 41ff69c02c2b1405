// Attention of one new token for each of several documents, whose keys and values lie in pages. A block works one key-value
// head of a row, with all query heads that share it, from the newest key to the oldest: its warps take 32 keys each, and
// what they come to is combined in order. `decode_near` works the newest keys, `decode_far` runs of those further back, each
// by itself; its last block combines the runs. Stick-breaking attention stops where every stick of the group is exhausted: the
// far blocks then have nothing to do. A row's result does not depend on the other rows, nor on which far blocks came first: what
// lies behind the place where the sticks are exhausted is never added, whether it was read or not.
#include "common.cuh"

#ifndef HEAD_DIM
#define HEAD_DIM 64
#endif
#ifndef GROUP
#define GROUP 1
#endif
#ifndef STICK
#define STICK 1
#endif
#ifndef PAGE
#define PAGE 16
#endif

// Of softmax attention all keys are read, so many at once; of stick-breaking attention often few.
#define WARPS (STICK ? 8 : 16)
#define CHUNK 32
#define LANES_PER_KEY (HEAD_DIM / 8)
#define KEYS_PER_LOAD (32 / LANES_PER_KEY)
#define LOADS (CHUNK / KEYS_PER_LOAD)
// Of a result: weighted values, then what is left of the stick and 0, or the largest logit and the sum of weights.
#define RESULT (HEAD_DIM + 2)

struct Decode {
  const bf16 *q, *k, *v;     // rows qStride, kvStride apart
  bf16 *keyPages, *valuePages;
  const int *lengths, *table;
  const float* angles;       // cosines and sines [2, positions, HEAD_DIM/2], or null
  const float* slopes;       // ALiBi's [heads], or null
  bf16* output;              // [rows, heads, HEAD_DIM]
  float* remainder;          // [rows, heads]
  int* keysRead;             // [rows, kvHeads]
  float* parts;              // [rows, kvHeads, 1 + runs, GROUP, RESULT]
  int* done;                 // [rows, kvHeads]: whether the near keys were all
  int* states;               // [rows, kvHeads, 1 + runs]: far blocks that are done, which of them were read; 0 between launches
  i64 positions;
  int qStride, kvStride, heads, kvHeads, tableWidth, window, attendCurrent, near, run, runs;
  float scale, exhausted;    // scale: log2(e) included
};

struct Shared {
  float query[GROUP][HEAD_DIM];
  float weights[WARPS][CHUNK];
  float part[WARPS][GROUP][RESULT];
  float total[GROUP][RESULT];
  int stop;
};

// Keys of 16-byte pieces: key KEYS_PER_LOAD·i + lane / LANES_PER_KEY of the chunk, this lane's eight numbers of it.
__device__ __forceinline__ void load_chunk(uint4 (&kept)[LOADS], const bf16* pages, const int* table, const Decode& p, int kvHead,
                                           int first, int begin, int end, int lane) {
#pragma unroll
  for (int i = 0; i < LOADS; i++) {
    const int key = first + i * KEYS_PER_LOAD + lane / LANES_PER_KEY;
    kept[i] = make_uint4(0, 0, 0, 0);
    if (key >= begin && key < end) {
      const i64 at = (((i64)table[key / PAGE] * p.kvHeads + kvHead) * PAGE + key % PAGE) * HEAD_DIM;
      kept[i] = *reinterpret_cast<const uint4*>(pages + at + lane % LANES_PER_KEY * 8);
    }
  }
}

// One head's share of a chunk: logits, weights, weighted values into part[RESULT].
__device__ __forceinline__ void chunk_head(const uint4 (&keys)[LOADS], const uint4 (&values)[LOADS], const float* query, float slope,
                                           int first, int begin, int end, int last, float* weights, float* part, int lane) {
  float q[8];
#pragma unroll
  for (int j = 0; j < 8; j++) q[j] = query[lane % LANES_PER_KEY * 8 + j];
#pragma unroll
  for (int i = 0; i < LOADS; i++) {
    float x[8], dot = 0.f;
    unpack8(keys[i], x);
#pragma unroll
    for (int j = 0; j < 8; j++) dot = fmaf(q[j], x[j], dot);
#pragma unroll
    for (int o = LANES_PER_KEY / 2; o; o >>= 1) dot += __shfl_xor_sync(0xffffffffu, dot, o);
    if (lane % LANES_PER_KEY == 0) weights[i * KEYS_PER_LOAD + lane / LANES_PER_KEY] = dot;
  }
  __syncwarp();
  const int key = first + lane;
  const bool inside = key >= begin && key < end;
  const float logit = weights[lane] - slope * (float)(last - key);
  float weight, head, tail;
  if (STICK) {
    // A key takes its share of what the newer ones, in the lanes above, leave.
    const float t = inside ? exp2_fast(logit) : 0.f, r = reciprocal(1.f + t);
    float left = r;
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
      const float above = __shfl_down_sync(0xffffffffu, left, o);
      if (lane + o < 32) left *= above;
    }
    float newer = __shfl_down_sync(0xffffffffu, left, 1);
    if (lane == 31) newer = 1.f;
    weight = newer - newer * r;
    head = __shfl_sync(0xffffffffu, left, 0);
    tail = 0.f;
  } else {
    const float shown = inside ? logit : -1e30f;
    head = warp_max(shown);
    weight = inside ? exp2_fast(shown - head) : 0.f;
    tail = warp_sum(weight);
  }
  __syncwarp();
  weights[lane] = weight;
  __syncwarp();
  float sum[8] = {};
#pragma unroll
  for (int i = 0; i < LOADS; i++) {
    float x[8];
    unpack8(values[i], x);
    const float w = weights[i * KEYS_PER_LOAD + lane / LANES_PER_KEY];
#pragma unroll
    for (int j = 0; j < 8; j++) sum[j] = fmaf(w, x[j], sum[j]);
  }
#pragma unroll
  for (int j = 0; j < 8; j++)
#pragma unroll
    for (int o = LANES_PER_KEY; o < 32; o <<= 1) sum[j] += __shfl_xor_sync(0xffffffffu, sum[j], o);
  if (lane < LANES_PER_KEY)
#pragma unroll
    for (int j = 0; j < 8; j++) part[lane * 8 + j] = sum[j];
  if (lane == 0) part[HEAD_DIM] = head, part[HEAD_DIM + 1] = tail;
  __syncwarp();
}

__device__ __forceinline__ void empty_result(float* total, int d) {
  total[d] = d == HEAD_DIM ? (STICK ? 1.f : -1e30f) : 0.f;
}

// Element d of a head's total with what lies further back; `first`: the number behind the total's values.
__device__ __forceinline__ float combined(float total, float first, const volatile float* part, int d) {
  const float other = part[HEAD_DIM];
  if (STICK) return d == HEAD_DIM ? first * other : fmaf(first, part[d], total);
  const float most = fmaxf(first, other);
  return d == HEAD_DIM ? most : total * exp2_fast(first - most) + part[d] * exp2_fast(other - most);
}

// Elements of all heads' totals that a thread has: threadIdx.x + n · threads.
#define OWN ((GROUP * RESULT + WARPS * 32 - 1) / (WARPS * 32))

// Adds `count` results, `stride` floats apart, to the totals.
__device__ __forceinline__ void combine(Shared& sh, const volatile float* parts, int stride, int count) {
  float next[OWN];
#pragma unroll
  for (int n = 0; n < OWN; n++) {
    const int i = threadIdx.x + n * WARPS * 32, g = i / RESULT, d = i % RESULT;
    if (i >= GROUP * RESULT) break;
    float total = sh.total[g][d], first = sh.total[g][HEAD_DIM];
    for (int w = 0; w < count; w++) {
      const volatile float* part = parts + w * stride + g * RESULT;
      total = combined(total, first, part, d);
      first = combined(first, first, part, HEAD_DIM);
    }
    next[n] = total;
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n < OWN; n++) {
    const int i = threadIdx.x + n * WARPS * 32;
    if (i < GROUP * RESULT) sh.total[i / RESULT][i % RESULT] = next[n];
  }
  __syncthreads();
}

// Whether nothing is left of any stick.
__device__ __forceinline__ bool is_exhausted(const Shared& sh, const Decode& p) {
  bool nothing = STICK;
  for (int g = 0; g < GROUP; g++) nothing = nothing && !(sh.total[g][HEAD_DIM] >= p.exhausted);
  return nothing;
}

// Keys [begin, end) of the row from the newest, a chunk for each warp at a time, into sh.total; returns how many were read, in every thread.
__device__ __forceinline__ int walk(Shared& sh, const Decode& p, const int* table, int kvHead, int begin, int end, int last) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int i = threadIdx.x; i < GROUP * RESULT; i += WARPS * 32) empty_result(sh.total[i / RESULT], i % RESULT);
  __syncthreads();
  int at = end;
  while (at > begin) {
    const int first = at - (warp + 1) * CHUNK;
    const bool any = first + CHUNK > begin;
    if (any) {
      uint4 keys[LOADS], values[LOADS];
      load_chunk(keys, p.keyPages, table, p, kvHead, first, begin, at, lane);
      load_chunk(values, p.valuePages, table, p, kvHead, first, begin, at, lane);
#pragma unroll 1
      for (int g = 0; g < GROUP; g++) {
        const float slope = p.slopes ? p.slopes[kvHead * GROUP + g] * 1.44269504f : 0.f;
        chunk_head(keys, values, sh.query[g], slope, first, begin, at, last, sh.weights[warp], sh.part[warp][g], lane);
      }
    }
    __syncthreads();
    combine(sh, &sh.part[0][0][0], GROUP * RESULT, min(WARPS, (at - begin + CHUNK - 1) / CHUNK));
    at = max(begin, at - WARPS * CHUNK);
    if (is_exhausted(sh, p)) break;
  }
  return end - at;
}

// The group's queries, turned to their position where there are angles.
__device__ __forceinline__ void load_queries(Shared& sh, const Decode& p, int row, int kvHead, int position) {
  const bf16* from = p.q + (i64)row * p.qStride + kvHead * GROUP * HEAD_DIM;
  for (int i = threadIdx.x; i < GROUP * HEAD_DIM; i += WARPS * 32) {
    const int d = i % HEAD_DIM, half = HEAD_DIM / 2;
    float x = bf16_to_float(from[i]);
    if (p.angles) {
      const float c = p.angles[position * (i64)half + d % half], s = p.angles[(p.positions + position) * half + d % half];
      const float other = bf16_to_float(from[d < half ? i + half : i - half]);
      x = d < half ? x * c - other * s : x * c + other * s;
      x = bf16_to_float(float_to_bf16(x));
    }
    sh.query[i / HEAD_DIM][d] = x * p.scale;
  }
}

// The new key and value to their place in the pages.
__device__ __forceinline__ void append(const Decode& p, const int* table, int row, int kvHead, int position) {
  const i64 to = (((i64)table[position / PAGE] * p.kvHeads + kvHead) * PAGE + position % PAGE) * HEAD_DIM;
  const bf16 *key = p.k + (i64)row * p.kvStride + kvHead * HEAD_DIM, *value = p.v + (i64)row * p.kvStride + kvHead * HEAD_DIM;
  for (int d = threadIdx.x; d < HEAD_DIM; d += WARPS * 32) {
    const int half = HEAD_DIM / 2;
    bf16 x = key[d];
    if (p.angles) {
      const float c = p.angles[position * (i64)half + d % half], s = p.angles[(p.positions + position) * half + d % half];
      const float own = bf16_to_float(x), other = bf16_to_float(key[d < half ? d + half : d - half]);
      x = float_to_bf16(d < half ? own * c - other * s : own * c + other * s);
    }
    p.keyPages[to + d] = x;
    p.valuePages[to + d] = value[d];
  }
}

__device__ __forceinline__ void write_output(const Decode& p, const float* total, int row, int kvHead, int g, int d) {
  const i64 head = (i64)row * p.heads + kvHead * GROUP + g;
  if (d < HEAD_DIM) {
    const float factor = STICK ? 1.f : (total[HEAD_DIM + 1] > 0.f ? 1.f / total[HEAD_DIM + 1] : 0.f);
    p.output[head * HEAD_DIM + d] = float_to_bf16(total[d] * factor);
  } else if (d == HEAD_DIM) {
    p.remainder[head] = STICK && p.lengths[row] > 0 ? total[HEAD_DIM] : 0.f;
  }
}

struct Span {
  int begin, end;
};
// The keys that the row's query sees.
__device__ __forceinline__ Span seen(const Decode& p, int length) {
  if (STICK) return {0, p.attendCurrent ? length : length - 1};
  return {p.window ? max(0, length - p.window) : 0, length};
}

extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_near(Decode p) {
  extern __shared__ __align__(16) unsigned char memory[];
  Shared& sh = *reinterpret_cast<Shared*>(memory);
  const int kvHead = blockIdx.x, row = blockIdx.y, length = p.lengths[row];
  const int* table = p.table + (i64)row * p.tableWidth;
  const i64 item = (i64)row * p.kvHeads + kvHead;
  if (length > 0) {
    append(p, table, row, kvHead, length - 1);
    load_queries(sh, p, row, kvHead, length - 1);
  }
  __syncthreads();
  const Span all = length > 0 ? seen(p, length) : Span{0, 0};
  const int begin = max(all.begin, all.end - p.near);
  const int read = walk(sh, p, table, kvHead, begin, all.end, length - 1);
  const bool done = begin <= all.begin || is_exhausted(sh, p);
  float* parts = p.parts + item * (1 + p.runs) * GROUP * RESULT;
  for (int i = threadIdx.x; i < GROUP * RESULT; i += WARPS * 32) {
    if (done) write_output(p, sh.total[i / RESULT], row, kvHead, i / RESULT, i % RESULT);
    else parts[i] = sh.total[i / RESULT][i % RESULT];
  }
  if (threadIdx.x == 0) {
    p.keysRead[item] = read;
    p.done[item] = done;
  }
}

// Run z of the keys behind the near ones: [end − near − (z+1)·run, end − near − z·run).
extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_far(Decode p) {
  extern __shared__ __align__(16) unsigned char memory[];
  Shared& sh = *reinterpret_cast<Shared*>(memory);
  const int kvHead = blockIdx.x, row = blockIdx.y, z = blockIdx.z, length = p.lengths[row];
  const i64 item = (i64)row * p.kvHeads + kvHead;
  int* states = p.states + item * (1 + p.runs);
  if (p.done[item]) return;
  const Span all = seen(p, length);
  const int far = all.end - p.near - all.begin, runs = (far + p.run - 1) / p.run;
  if (z >= runs) return;
  float* parts = p.parts + item * (1 + p.runs) * GROUP * RESULT;
  if (STICK && threadIdx.x == 0) {
    // Whether the runs that are done, from the nearest on, leave nothing.
    bool nothing = false;
    float left[GROUP];
    for (int g = 0; g < GROUP; g++) left[g] = parts[g * RESULT + HEAD_DIM];
    for (int n = 0; n < z && !nothing; n++) {
      if (!*(volatile int*)(states + 1 + n)) break;
      __threadfence();
      nothing = true;
      for (int g = 0; g < GROUP; g++) {
        left[g] *= *(volatile float*)(parts + (1 + n) * GROUP * RESULT + g * RESULT + HEAD_DIM);
        nothing = nothing && !(left[g] >= p.exhausted);
      }
    }
    sh.stop = nothing;
  }
  __syncthreads();
  if (!STICK || !sh.stop) {
    load_queries(sh, p, row, kvHead, length - 1);
    __syncthreads();
    const int end = all.end - p.near - z * p.run, begin = max(all.begin, end - p.run);
    const int read = walk(sh, p, p.table + (i64)row * p.tableWidth, kvHead, begin, end, length - 1);
    if (threadIdx.x == 0) atomicAdd(p.keysRead + item, read);
    for (int i = threadIdx.x; i < GROUP * RESULT; i += WARPS * 32)
      parts[(1 + z) * GROUP * RESULT + i] = sh.total[i / RESULT][i % RESULT];
    __threadfence();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    if (!STICK || !sh.stop) *(volatile int*)(states + 1 + z) = 1;
    __threadfence();
    sh.stop = atomicAdd(states, 1) == runs - 1;
  }
  __syncthreads();
  if (!sh.stop) return;
  __threadfence();
  // The last block: all runs in order, up to where nothing is left.
  for (int i = threadIdx.x; i < GROUP * RESULT; i += WARPS * 32) sh.total[i / RESULT][i % RESULT] = parts[i];
  __syncthreads();
  for (int n = 0; n < runs && !is_exhausted(sh, p); n++) combine(sh, parts + (1 + n) * GROUP * RESULT, 0, 1);
  for (int i = threadIdx.x; i < GROUP * RESULT; i += WARPS * 32)
    write_output(p, sh.total[i / RESULT], row, kvHead, i / RESULT, i % RESULT);
  // For the next step.
  for (int n = threadIdx.x; n < 1 + runs; n += WARPS * 32) states[n] = 0;
}
