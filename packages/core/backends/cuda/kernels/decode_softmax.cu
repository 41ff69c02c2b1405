// Decoding by softmax attention, of which all keys are read. A row's keys are cut into runs by its own length alone: a block
// works one run for HEADS query heads of one key-value head, each of its warps every fourth chunk with a running maximum; the
// last block of a row combines the runs in their order. So a row's result does not depend on the other rows.
#include "decode.cuh"

// Query heads of a block: those that share a key-value head, or a part of them, as a thread keeps sums of each.
#define HEADS (GROUP % 4 == 0 ? 4 : GROUP % 3 == 0 ? 3 : GROUP % 2 == 0 ? 2 : 1)
#define SUBS (GROUP / HEADS)
#define LEAST (-1e30f)

struct Shared {
  NewKey fresh;
  float query[HEADS][HEAD_DIM];
  float weights[WARPS][HEADS][CHUNK];
  float part[WARPS][HEADS][RESULT];
  int last;
};

// What a warp has of its chunks so far: a part of the columns' sums in each lane.
struct Running {
  float sum[HEADS][8], most[HEADS], total[HEADS];
};

// Element d of `count` results together, `stride` floats apart, with their largest logit and sum of weights.
template <bool GLOBAL>
__device__ __forceinline__ float joined(const float* parts, int stride, int count, int d, float& most, float& sum) {
  most = LEAST, sum = 0.f;
  for (int n = 0; n < count; n++) {
    const float* at = parts + n * stride + HEAD_DIM;
    most = fmaxf(most, GLOBAL ? __ldcg(at) : *at);
  }
  float value = 0.f;
  for (int n = 0; n < count; n++) {
    const float* part = parts + n * stride;
    const float factor = exp2_fast((GLOBAL ? __ldcg(part + HEAD_DIM) : part[HEAD_DIM]) - most);
    value = fmaf(factor, GLOBAL ? __ldcg(part + d) : part[d], value);
    sum = fmaf(factor, GLOBAL ? __ldcg(part + HEAD_DIM + 1) : part[HEAD_DIM + 1], sum);
  }
  return value;
}

__device__ __forceinline__ void write_output(const Decode& p, i64 head, int d, float value, float sum) {
  if (d < HEAD_DIM) p.output[head * HEAD_DIM + d] = float_to_bf16(sum > 0.f ? value / sum : 0.f);
  else if (d == HEAD_DIM) p.remainder[head] = 0.f;
}

extern "C" __global__ void __launch_bounds__(BLOCK, HEAD_DIM <= 64 ? 4 : 1) decode_softmax(Decode p) {
  __shared__ Shared sh;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int kvHead = blockIdx.x / SUBS, firstHead = kvHead * GROUP + blockIdx.x % SUBS * HEADS, row = blockIdx.y, z = blockIdx.z;
  const int end = p.lengths[row], begin = p.window ? max(0, end - p.window) : 0;
  const int* table = p.table + (i64)row * p.tableWidth;
  const int top = (end - 1) / CHUNK, chunks = end > 0 ? top - begin / CHUNK + 1 : 0;
  int perRun = p.run / CHUNK;
  while (chunks > perRun * p.runs) perRun *= 2;
  const int runs = max(1, (chunks + perRun - 1) / perRun), own = min(perRun, chunks - z * perRun);
  if (z >= runs) return;
  // The newest keys are in run 0, at its top. What is read first no kernel of the step writes but for the new key.
  const int newest = z == 0 ? end - 1 : -1, first = top - z * perRun;
  uint4 keys[LOADS], values[LOADS];
  if (warp < own) {
    load_chunk(keys, p.keyPages, table, p, kvHead, first - warp, begin, end, lane);
    load_chunk(values, p.valuePages, table, p, kvHead, first - warp, begin, end, lane);
  }
  let_next_begin();
  await_previous();
  if (end > 0) {
    load_queries(sh.query, p, row, firstHead, HEADS, end - 1);
    if (z == 0) load_new(sh.fresh, p, table, row, kvHead, end - 1, blockIdx.x % SUBS == 0);
  }
  __syncthreads();
  Running state;
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    state.most[h] = LEAST, state.total[h] = 0.f;
#pragma unroll
    for (int j = 0; j < 8; j++) state.sum[h][j] = 0.f;
  }
  for (int i = warp; i < own; i += WARPS) {
    const int chunk = first - i, key = chunk * CHUNK + lane;
    if (newest >= 0 && i == 0) put_new(keys, sh.fresh.key, chunk, newest, lane), put_new(values, sh.fresh.value, chunk, newest, lane);
    const bool inside = key >= begin && key < end;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      const float slope = p.slopes ? p.slopes[firstHead + h] * 1.44269504f : 0.f;
      const float logit = chunk_logits(keys, sh.query[h], sh.weights[warp][h], lane) - slope * (float)(end - 1 - key);
      const float most = fmaxf(state.most[h], warp_max(inside ? logit : LEAST));
      const float weight = inside ? exp2_fast(logit - most) : 0.f, factor = exp2_fast(state.most[h] - most);
      state.total[h] = fmaf(state.total[h], factor, warp_sum(weight));
      state.most[h] = most;
#pragma unroll
      for (int j = 0; j < 8; j++) state.sum[h][j] *= factor;
      __syncwarp();
      sh.weights[warp][h][lane] = weight;
    }
    __syncwarp();
    // The next chunk's keys are on their way while this one's values are added.
    const bool more = i + WARPS < own;
    if (more) load_chunk(keys, p.keyPages, table, p, kvHead, chunk - WARPS, begin, end, lane);
#pragma unroll
    for (int h = 0; h < HEADS; h++) add_values(state.sum[h], values, sh.weights[warp][h], lane);
    if (more) load_chunk(values, p.valuePages, table, p, kvHead, chunk - WARPS, begin, end, lane);
  }
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    store_values(sh.part[warp][h], state.sum[h], lane);
    if (lane == 0) sh.part[warp][h][HEAD_DIM] = state.most[h], sh.part[warp][h][HEAD_DIM + 1] = state.total[h];
  }
  __syncthreads();
  const i64 item = (i64)row * gridDim.x + blockIdx.x, head = (i64)row * p.heads + firstHead;
  float* parts = p.parts + item * gridDim.z * HEADS * RESULT;
  for (int e = threadIdx.x; e < HEADS * RESULT; e += BLOCK) {
    const int h = e / RESULT, d = e % RESULT;
    float most, sum;
    const float value = joined<false>(sh.part[0][h], HEADS * RESULT, WARPS, d, most, sum);
    if (runs == 1) write_output(p, head + h, d, value, sum);
    else parts[z * HEADS * RESULT + e] = d == HEAD_DIM ? most : value;
  }
  if (z == 0 && threadIdx.x == 0 && blockIdx.x % SUBS == 0) p.keysRead[(i64)row * p.kvHeads + kvHead] = end - begin;
  if (runs == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) sh.last = atomicAdd(p.states + item, 1) == runs - 1;
  __syncthreads();
  if (!sh.last) return;
  __threadfence();
  for (int e = threadIdx.x; e < HEADS * RESULT; e += BLOCK) {
    const int h = e / RESULT, d = e % RESULT;
    float most, sum;
    const float value = joined<true>(parts + h * RESULT, HEADS * RESULT, runs, d, most, sum);
    write_output(p, head + h, d, value, sum);
  }
  // For the next step.
  if (threadIdx.x == 0) p.states[item] = 0;
}
