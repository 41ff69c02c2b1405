// Decoding by stick-breaking attention. A block works one key-value head of a row, with all query heads that share it, from the
// newest key to the oldest: its warps take a chunk each, and what they come to is combined in order. `decode_near` works the
// newest keys, `decode_far` runs of those further back, each by itself; its last block combines the runs. A walk stops where
// every stick of the group is exhausted: the far blocks then have nothing to do. A row's result does not depend on the other
// rows, nor on which far blocks came first: what lies behind the place where the sticks are exhausted is never added, whether it
// was read or not.
#include "decode.cuh"

struct Shared {
  NewKey fresh;
  float query[GROUP][HEAD_DIM];
  float weights[WARPS][CHUNK];
  float part[WARPS][GROUP][RESULT];
  float total[GROUP][RESULT];
  int stop;
};

// Keys [begin, end), of which a block has some.
struct Span {
  int begin, end;
  __device__ __forceinline__ int top() const { return (end - 1) / CHUNK; }
  __device__ __forceinline__ int chunks() const { return end > begin ? top() - begin / CHUNK + 1 : 0; }
};

// One head's share of a chunk: logits, weights, weighted values into part[RESULT].
__device__ __forceinline__ void chunk_head(const uint4 (&keys)[LOADS], const uint4 (&values)[LOADS], const float* query, int chunk,
                                           Span span, float* weights, float* part, int lane) {
  const float logit = chunk_logits(keys, query, weights, lane);
  const int key = chunk * CHUNK + lane;
  const bool inside = key >= span.begin && key < span.end;
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
  __syncwarp();
  weights[lane] = newer - newer * r;
  __syncwarp();
  float sum[8] = {};
  add_values(sum, values, weights, lane);
  store_values(part, sum, lane);
  if (lane == 0) part[HEAD_DIM] = left, part[HEAD_DIM + 1] = 0.f;
}

// Element d of a head's total with what lies further back; `left`: the total's stick.
__device__ __forceinline__ float combined(float total, float left, const volatile float* part, int d) {
  return d == HEAD_DIM ? left * part[HEAD_DIM] : fmaf(left, part[d], total);
}

// Elements of all heads' totals that a thread has: threadIdx.x + n · BLOCK.
#define OWN ((GROUP * RESULT + BLOCK - 1) / BLOCK)

// Adds `count` results, `stride` floats apart, to the totals.
__device__ __forceinline__ void combine(Shared& sh, const volatile float* parts, int stride, int count) {
  float next[OWN];
#pragma unroll
  for (int n = 0; n < OWN; n++) {
    const int i = threadIdx.x + n * BLOCK, g = i / RESULT, d = i % RESULT;
    if (i >= GROUP * RESULT) break;
    float total = sh.total[g][d], left = sh.total[g][HEAD_DIM];
    for (int w = 0; w < count; w++) {
      const volatile float* part = parts + w * stride + g * RESULT;
      total = combined(total, left, part, d);
      left *= part[HEAD_DIM];
    }
    next[n] = total;
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n < OWN; n++) {
    const int i = threadIdx.x + n * BLOCK;
    if (i < GROUP * RESULT) sh.total[i / RESULT][i % RESULT] = next[n];
  }
  __syncthreads();
}

// Whether nothing is left of any stick.
__device__ __forceinline__ bool is_exhausted(const Shared& sh, const Decode& p) {
  bool nothing = true;
  for (int g = 0; g < GROUP; g++) nothing = nothing && !(sh.total[g][HEAD_DIM] >= p.exhausted);
  return nothing;
}

// A walk over keys from the newest, a chunk for each warp at a time.
struct Walk {
  Span span;
  const int* table;
  int kvHead;
  uint4 keys[LOADS], values[LOADS];

  __device__ __forceinline__ void load(const Decode& p, int chunk) {
    load_chunk(keys, p.keyPages, table, p, kvHead, chunk, span.begin, span.end, threadIdx.x % 32);
    load_chunk(values, p.valuePages, table, p, kvHead, chunk, span.begin, span.end, threadIdx.x % 32);
  }
  // What is read first, which no kernel of the step writes but for the new key.
  __device__ __forceinline__ void begin(const Decode& p) {
    const int chunk = span.top() - (int)(threadIdx.x / 32);
    if (span.chunks() > 0 && chunk >= span.begin / CHUNK) load(p, chunk);
  }
  // Into sh.total; returns how many keys were read, in every thread. `newest`: the new key's position, if it is among them.
  __device__ __forceinline__ int run(Shared& sh, const Decode& p, int newest) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, top = span.top(), chunks = span.chunks();
    for (int i = threadIdx.x; i < GROUP * RESULT; i += BLOCK) sh.total[i / RESULT][i % RESULT] = i % RESULT == HEAD_DIM ? 1.f : 0.f;
    __syncthreads();
    int done = 0;
    while (done < chunks) {
      const int chunk = top - done - warp;
      if (done + warp < chunks) {
        if (done > 0) load(p, chunk);
        if (newest >= 0) put_new(keys, sh.fresh.key, chunk, newest, lane), put_new(values, sh.fresh.value, chunk, newest, lane);
#pragma unroll 1
        for (int g = 0; g < GROUP; g++)
          chunk_head(keys, values, sh.query[g], chunk, span, sh.weights[warp], sh.part[warp][g], lane);
      }
      __syncthreads();
      combine(sh, &sh.part[0][0][0], GROUP * RESULT, min(WARPS, chunks - done));
      done = min(done + WARPS, chunks);
      if (is_exhausted(sh, p)) break;
    }
    return chunks > 0 ? span.end - max(span.begin, (top - done + 1) * CHUNK) : 0;
  }
};

__device__ __forceinline__ void write_output(const Decode& p, const float* total, int row, int kvHead, int g, int d) {
  const i64 head = (i64)row * p.heads + kvHead * GROUP + g;
  if (d < HEAD_DIM) p.output[head * HEAD_DIM + d] = float_to_bf16(total[d]);
  else if (d == HEAD_DIM) p.remainder[head] = p.lengths[row] > 0 ? total[HEAD_DIM] : 0.f;
}

// The keys that the row's query sees, and where the near ones of them begin: whole chunks.
__device__ __forceinline__ Span seen(const Decode& p, int length) {
  return {0, length > 0 && !p.attendCurrent ? length - 1 : length};
}
__device__ __forceinline__ int near_begin(const Decode& p, Span all) {
  return all.end > 0 ? max(all.begin, (all.top() + 1) * CHUNK - p.near) : 0;
}

extern "C" __global__ void __launch_bounds__(BLOCK) decode_near(Decode p) {
  extern __shared__ __align__(16) unsigned char memory[];
  Shared& sh = *reinterpret_cast<Shared*>(memory);
  const int kvHead = blockIdx.x, row = blockIdx.y, length = p.lengths[row];
  const int* table = p.table + (i64)row * p.tableWidth;
  const i64 item = (i64)row * p.kvHeads + kvHead;
  const Span all = seen(p, length);
  Walk walk = {{near_begin(p, all), all.end}, table, kvHead};
  walk.begin(p);
  let_next_begin();
  await_previous();
  if (length > 0) {
    load_new(sh.fresh, p, table, row, kvHead, length - 1, true);
    load_queries(sh.query, p, row, kvHead * GROUP, GROUP, length - 1);
  }
  __syncthreads();
  const int read = walk.run(sh, p, p.attendCurrent ? length - 1 : -1);
  const bool done = walk.span.begin <= all.begin || is_exhausted(sh, p);
  float* parts = p.parts + item * (1 + p.runs) * GROUP * RESULT;
  for (int i = threadIdx.x; i < GROUP * RESULT; i += BLOCK) {
    if (done) write_output(p, sh.total[i / RESULT], row, kvHead, i / RESULT, i % RESULT);
    else parts[i] = sh.total[i / RESULT][i % RESULT];
  }
  if (threadIdx.x == 0) {
    p.keysRead[item] = read;
    p.done[item] = done;
  }
}

// Run z of the keys behind the near ones: [near − (z+1)·run, near − z·run).
extern "C" __global__ void __launch_bounds__(BLOCK) decode_far(Decode p) {
  extern __shared__ __align__(16) unsigned char memory[];
  Shared& sh = *reinterpret_cast<Shared*>(memory);
  const int kvHead = blockIdx.x, row = blockIdx.y, z = blockIdx.z, length = p.lengths[row];
  const i64 item = (i64)row * p.kvHeads + kvHead;
  int* states = p.states + item * (1 + p.runs);
  let_next_begin();
  await_previous();
  if (p.done[item]) return;
  const Span all = seen(p, length);
  const int near = near_begin(p, all), runs = (near - all.begin + p.run - 1) / p.run;
  if (z >= runs) return;
  float* parts = p.parts + item * (1 + p.runs) * GROUP * RESULT;
  if (threadIdx.x == 0) {
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
  const bool stop = sh.stop;
  if (!stop) {
    const int end = near - z * p.run;
    Walk walk = {{max(all.begin, end - p.run), end}, p.table + (i64)row * p.tableWidth, kvHead};
    walk.begin(p);
    load_queries(sh.query, p, row, kvHead * GROUP, GROUP, length - 1);
    __syncthreads();
    const int read = walk.run(sh, p, -1);
    if (threadIdx.x == 0) atomicAdd(p.keysRead + item, read);
    for (int i = threadIdx.x; i < GROUP * RESULT; i += BLOCK)
      parts[(1 + z) * GROUP * RESULT + i] = sh.total[i / RESULT][i % RESULT];
    __threadfence();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    if (!stop) *(volatile int*)(states + 1 + z) = 1;
    __threadfence();
    sh.stop = atomicAdd(states, 1) == runs - 1;
  }
  __syncthreads();
  if (!sh.stop) return;
  __threadfence();
  // The last block: all runs in order, up to where nothing is left.
  for (int i = threadIdx.x; i < GROUP * RESULT; i += BLOCK) sh.total[i / RESULT][i % RESULT] = parts[i];
  __syncthreads();
  for (int n = 0; n < runs && !is_exhausted(sh, p); n++) combine(sh, parts + (1 + n) * GROUP * RESULT, 0, 1);
  for (int i = threadIdx.x; i < GROUP * RESULT; i += BLOCK)
    write_output(p, sh.total[i / RESULT], row, kvHead, i / RESULT, i % RESULT);
  // For the next step.
  for (int n = threadIdx.x; n < 1 + runs; n += BLOCK) states[n] = 0;
}
