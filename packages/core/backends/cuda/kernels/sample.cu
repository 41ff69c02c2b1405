// The next token of each row from its logits, one block a row: the topK most likely, of those the most likely that have
// probability topP together, of those the ones at least minP as probable as the first; then a draw among them by one number that
// the host gives. Nothing is sorted: a threshold is found by bisection over the logits' order. Sums of probabilities are whole
// numbers, so that their order does not matter and a row's token is the same whatever else is in the batch.
#include "common.cuh"

typedef unsigned long long u64;

struct SampleRow {
  float inverseTemperature;  // 0: the most likely token
  float topP, minP;
  int topK;
  int uniform;               // of 2^32, without sign
  int unused;
};

// Floats as numbers in the same order.
__device__ __forceinline__ unsigned ordered(float x) {
  const unsigned bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

struct Sums {
  int count;
  u64 mass;
};

__device__ __forceinline__ Sums block_sums(Sums x) {
  __shared__ Sums part[32];
#pragma unroll
  for (int o = 16; o; o >>= 1) {
    x.count += __shfl_xor_sync(0xffffffffu, x.count, o);
    x.mass += __shfl_xor_sync(0xffffffffu, x.mass, o);
  }
  __syncthreads();
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = x;
  __syncthreads();
  Sums all = {0, 0};
  for (int w = 0; w < (int)(blockDim.x >> 5); w++) all.count += part[w].count, all.mass += part[w].mass;
  return all;
}

struct Logits {
  const void* row;
  int type, size;
  float most, inverse;
  __device__ __forceinline__ float at(int i) const { return load_any(row, type, i); }
  // Beside the most likely token's, of 2^40.
  __device__ __forceinline__ u64 mass(float x) const { return (u64)(exp2_fast((x - most) * inverse) * 1099511627776.f); }
};

// Over the tokens whose order is above, or at least, a threshold.
__device__ Sums above(const Logits& logits, unsigned threshold, bool with) {
  Sums own = {0, 0};
  for (int i = threadIdx.x; i < logits.size; i += blockDim.x) {
    const float x = logits.at(i);
    const unsigned order = ordered(x);
    if (with ? order >= threshold : order > threshold) own.count++, own.mass += logits.mass(x);
  }
  return block_sums(own);
}

// The largest threshold at which the tokens from it on are at least so many, or have at least that mass.
__device__ unsigned bisect(const Logits& logits, int count, u64 mass) {
  unsigned threshold = 0;
  for (int bit = 31; bit >= 0; bit--) {
    const unsigned higher = threshold | 1u << bit;
    const Sums sums = above(logits, higher, true);
    if (sums.count >= count && sums.mass >= mass) threshold = higher;
  }
  return threshold;
}

extern "C" __global__ void __launch_bounds__(1024)
    sample_tokens(int* tokens, float* logProbabilities, const void* all, int type, i64 stride, const SampleRow* rows, int size) {
  const SampleRow row = rows[blockIdx.x];
  const Logits raw = {(const char*)all + blockIdx.x * stride * (type == BF16 ? 2 : 4), type, size, 0.f, 1.f};
  // The most likely token, the first of equal ones.
  float most = -INFINITY;
  bool bad = false;
  for (int i = threadIdx.x; i < size; i += blockDim.x) {
    const float x = raw.at(i);
    most = fmaxf(most, x);
    bad = bad || x != x;
  }
  most = block_max(most);
  __shared__ int first;
  __shared__ float total;
  if (threadIdx.x == 0) first = size;
  __syncthreads();
  int own = size;
  for (int i = threadIdx.x; i < size && own == size; i += blockDim.x)
    if (raw.at(i) == most) own = i;
  atomicMin(&first, own);
  float sum = 0.f;
  for (int i = threadIdx.x; i < size; i += blockDim.x) sum += exp2_fast((raw.at(i) - most) * 1.44269504f);
  sum = block_sum(sum);
  if (threadIdx.x == 0) total = sum;
  const bool broken = __syncthreads_or(bad) || !(most - most == 0.f);
  int token = first;
  if (!broken && row.inverseTemperature > 0.f) {
    const Logits logits = {raw.row, type, size, most, row.inverseTemperature * 1.44269504f};
    unsigned threshold = 0;
    Sums kept = above(logits, 0, true);
    int ties = size;  // how many of the tokens at the threshold are among them
    if (row.topK < size) {
      threshold = bisect(logits, row.topK, 0);
      kept = above(logits, threshold, false);
      ties = row.topK - kept.count;
      const u64 each = logits.mass(threshold & 0x80000000u ? __uint_as_float(threshold & 0x7fffffffu) : __uint_as_float(~threshold));
      kept.mass += (u64)ties * each;
    }
    if (row.topP < 1.f) {
      const u64 wanted = (u64)((double)row.topP * (double)kept.mass);
      const unsigned at = bisect(logits, 1, max(wanted, (u64)1));
      if (at >= threshold) {
        const Sums over = above(logits, at, false);
        const u64 each = max((u64)1, logits.mass(at & 0x80000000u ? __uint_as_float(at & 0x7fffffffu) : __uint_as_float(~at)));
        const int few = (int)((wanted > over.mass ? wanted - over.mass + each - 1 : each) / each);
        ties = at > threshold ? max(few, 1) : min(ties, max(few, 1));
        threshold = at;
      }
    }
    if (row.minP > 0.f) {
      const unsigned at = ordered(most + __logf(row.minP) / row.inverseTemperature);
      if (at > threshold) threshold = at, ties = size;
    }
    // Each thread has a run of tokens: how many ties and how much mass came before it, then where the draw falls.
    const int per = (size + blockDim.x - 1) / blockDim.x, from = min(size, (int)threadIdx.x * per), to = min(size, from + per);
    __shared__ int tiesOf[1024];
    __shared__ u64 massOf[1024];
    int mine = 0;
    for (int i = from; i < to; i++) mine += ordered(raw.at(i)) == threshold;
    tiesOf[threadIdx.x] = mine;
    __syncthreads();
    int before = 0;
    for (int t = 0; t < (int)threadIdx.x; t++) before += tiesOf[t];
    u64 mass = 0;
    int seen = before;
    for (int i = from; i < to; i++) {
      const float x = raw.at(i);
      const unsigned order = ordered(x);
      if (order > threshold || (order == threshold && seen++ < ties)) mass += logits.mass(x);
    }
    massOf[threadIdx.x] = mass;
    __syncthreads();
    u64 whole = 0, start = 0;
    for (int t = 0; t < (int)blockDim.x; t++) {
      if (t == (int)threadIdx.x) start = whole;
      whole += massOf[t];
    }
    // The product's upper half: uniform · whole / 2^32.
    const u64 uniform = (unsigned)row.uniform;
    const u64 point = (whole >> 32) * uniform + (((whole & 0xffffffffull) * uniform) >> 32);
    __shared__ int drawn;
    if (threadIdx.x == 0) drawn = token;
    __syncthreads();
    if (point >= start && point < start + mass) {
      seen = before;
      u64 at = start;
      for (int i = from; i < to; i++) {
        const float x = raw.at(i);
        const unsigned order = ordered(x);
        if (!(order > threshold || (order == threshold && seen++ < ties))) continue;
        at += logits.mass(x);
        if (point < at) {
          drawn = i;
          break;
        }
      }
    }
    __syncthreads();
    token = drawn;
  }
  if (threadIdx.x == 0) {
    tokens[blockIdx.x] = broken ? -1 : token;
    logProbabilities[blockIdx.x] = broken ? most : raw.at(token) - most - logf(total);
  }
}
