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
};

// Floats as numbers in the same order.
__device__ __forceinline__ unsigned ordered(float x) {
  const unsigned bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float of_order(unsigned order) {
  return __uint_as_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
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

// The sum over the threads before this one, and over all.
template <typename T>
struct Scan {
  T before, whole;
};
template <typename T>
__device__ __forceinline__ Scan<T> block_scan(T own) {
  __shared__ T part[32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  T sum = own;
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) {
    const T below = __shfl_up_sync(0xffffffffu, sum, o);
    if (lane >= o) sum += below;
  }
  __syncthreads();
  if (lane == 31) part[warp] = sum;
  __syncthreads();
  Scan<T> scan = {sum - own, 0};
  for (int w = 0; w < (int)(blockDim.x >> 5); w++) {
    if (w == warp) scan.before += scan.whole;
    scan.whole += part[w];
  }
  return scan;
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

// The largest threshold at which the tokens from it on are at least so many, or have at least that mass. Of bfloat16 the
// upper half says all: the lower is that of the one number that it can be.
__device__ unsigned bisect(const Logits& logits, int count, u64 mass) {
  unsigned threshold = 0;
  for (int bit = 31; bit >= (logits.type == BF16 ? 16 : 0); bit--) {
    const unsigned higher = threshold | 1u << bit;
    const Sums sums = above(logits, higher, true);
    if (sums.count >= count && sums.mass >= mass) threshold = higher;
  }
  return logits.type == BF16 && !(threshold & 0x80000000u) ? threshold | 0xffffu : threshold;
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
      kept.mass += (u64)ties * logits.mass(of_order(threshold));
    }
    if (row.topP < 1.f) {
      const u64 wanted = (u64)((double)row.topP * (double)kept.mass);
      const unsigned at = bisect(logits, 1, max(wanted, (u64)1));
      if (at >= threshold) {
        const Sums over = above(logits, at, false);
        const u64 each = max((u64)1, logits.mass(of_order(at)));
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
    int mine = 0;
    for (int i = from; i < to; i++) mine += ordered(raw.at(i)) == threshold;
    const int before = block_scan(mine).before;
    u64 mass = 0;
    int seen = before;
    for (int i = from; i < to; i++) {
      const float x = raw.at(i);
      const unsigned order = ordered(x);
      if (order > threshold || (order == threshold && seen++ < ties)) mass += logits.mass(x);
    }
    const Scan<u64> scan = block_scan(mass);
    const u64 whole = scan.whole, start = scan.before;
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
