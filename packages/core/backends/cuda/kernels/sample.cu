// The next token of each row from its logits, one block a row: the topK most likely, of those the most likely that have
// probability topP together, of those the ones at least minP as probable as the first; then a draw among them by one number that
// the host gives. Nothing is sorted: a threshold is found digit by digit of the logits' order, from how many tokens, or how much
// of their probability, each digit has. Sums of probabilities are whole numbers, so that their order does not matter and a row's
// token is the same whatever else is in the batch.
#include "common.cuh"

typedef unsigned long long u64;

#define WARPS 32
#define BLOCK (WARPS * 32)
#define DIGITS 2048

struct SampleRow {
  float inverseTemperature;  // 0: the most likely token
  float topP, minP;
  int topK;
  int uniform;               // of 2^32, without sign
};

// Floats as numbers in the same order, and back.
__device__ __forceinline__ unsigned ordered(float x) {
  const unsigned bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float of_order(unsigned order) {
  return __uint_as_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

__device__ __forceinline__ u64 warp_total(u64 x) {
#pragma unroll
  for (int o = 16; o; o >>= 1) x += __shfl_xor_sync(0xffffffffu, x, o);
  return x;
}
// The sum over the lanes up to this one.
__device__ __forceinline__ u64 warp_scan(u64 x) {
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) {
    const u64 below = __shfl_up_sync(0xffffffffu, x, o);
    if ((int)(threadIdx.x % 32) >= o) x += below;
  }
  return x;
}
// What the threads before this one have together, and what all have.
struct Scan {
  u64 before, whole;
};
__device__ __forceinline__ Scan block_scan(u64 own) {
  __shared__ u64 part[WARPS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const u64 sum = warp_scan(own);
  __syncthreads();
  if (lane == 31) part[warp] = sum;
  __syncthreads();
  Scan scan = {sum - own, 0};
  for (int w = 0; w < WARPS; w++) {
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

// A set of tokens: those above a threshold, and the first `ties` of those at it. `above`: how many, or how much mass, those
// above it have.
struct Selection {
  unsigned threshold;
  int ties;
  u64 above;
};

// Of each digit how many tokens, or their mass in pieces of 14 bits: 2¹⁸ of them stay below 2³².
struct Shared {
  unsigned sums[3][DIGITS];
  unsigned threshold;
  u64 above;
};
#define PIECE 14

// The largest threshold at which the tokens from it on are `wanted`, or have that mass. Of bfloat16 the upper half of the order
// says all: the lower is that of the one number that it can be.
template <bool MASS>
__device__ __forceinline__ Selection select(Shared& sh, const Logits& logits, u64 wanted) {
  __syncthreads();
  if (threadIdx.x == 0) sh.threshold = 0, sh.above = 0;
  for (int end = 32; end > (logits.type == BF16 ? 16 : 0);) {
    const int begin = max(logits.type == BF16 ? 16 : 0, end - 11), last = (1 << (end - begin)) - 1;
    for (int d = threadIdx.x; d < (MASS ? 3 : 1) * DIGITS; d += BLOCK) sh.sums[0][d] = 0;
    __syncthreads();
    const unsigned prefix = sh.threshold;
#pragma unroll 4
    for (int i = threadIdx.x; i < logits.size; i += BLOCK) {
      const float x = logits.at(i);
      const unsigned order = ordered(x), digit = order >> begin & last;
      if (end < 32 && order >> end != prefix >> end) continue;
      if (MASS) {
        const u64 mass = logits.mass(x);
#pragma unroll
        for (int n = 0; n < 3; n++) atomicAdd(&sh.sums[n][digit], (unsigned)(mass >> (n * PIECE)) & ((1u << PIECE) - 1));
      } else {
        atomicAdd(&sh.sums[0][digit], 1u);
      }
    }
    __syncthreads();
    // Two digits a thread, the highest first.
    u64 own[2];
#pragma unroll
    for (int n = 0; n < 2; n++) {
      const int digit = DIGITS - 1 - 2 * (int)threadIdx.x - n;
      own[n] = sh.sums[0][digit];
      if (MASS) own[n] += ((u64)sh.sums[1][digit] << PIECE) + ((u64)sh.sums[2][digit] << 2 * PIECE);
    }
    u64 before = block_scan(own[0] + own[1]).before + sh.above;
    __syncthreads();
#pragma unroll
    for (int n = 0; n < 2; n++) {
      // The one digit with which there is enough, and without which there was not.
      if (before < wanted && before + own[n] >= wanted)
        sh.threshold = prefix | (unsigned)(DIGITS - 1 - 2 * threadIdx.x - n) << begin, sh.above = before;
      before += own[n];
    }
    __syncthreads();
    end = begin;
  }
  const unsigned threshold = sh.threshold;
  return {logits.type == BF16 && !(threshold & 0x80000000u) ? threshold | 0xffffu : threshold, logits.size, sh.above};
}

// Whether token i, of which a warp has 32 at once, is among the chosen; `ties`: those at the threshold so far.
__device__ __forceinline__ bool is_among(const Logits& logits, const Selection& chosen, int i, int end, int& ties) {
  const unsigned order = i < end ? ordered(logits.at(i)) : 0;
  const bool tied = i < end && order == chosen.threshold;
  const unsigned all = __ballot_sync(0xffffffffu, tied), below = all & ((1u << threadIdx.x % 32) - 1);
  const bool among = i < end && (order > chosen.threshold || (tied && ties + __popc(below) < chosen.ties));
  ties += __popc(all);
  return among;
}

// The token on which a draw falls, −1 if on none: each warp has a run of tokens.
__device__ __forceinline__ int draw(const Logits& logits, const Selection& chosen, unsigned uniform) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int per = (logits.size + BLOCK - 1) / BLOCK * 32, from = min(logits.size, warp * per), end = min(logits.size, from + per);
  u64 own = 0;
  for (int i = from + lane; i < end; i += 32) own += ordered(logits.at(i)) == chosen.threshold;
  // Lane 0 has what the warps before have.
  const int earlier = (int)__shfl_sync(0xffffffffu, block_scan(own).before, 0);
  u64 mass = 0;
  int ties = earlier;
  for (int first = from; first < end; first += 32)
    if (is_among(logits, chosen, first + lane, end, ties)) mass += logits.mass(logits.at(first + lane));
  const Scan scan = block_scan(mass);
  // The product's upper half: uniform · whole / 2^32.
  const u64 wide = uniform, point = (scan.whole >> 32) * wide + (((scan.whole & 0xffffffffull) * wide) >> 32);
  __shared__ int drawn;
  if (threadIdx.x == 0) drawn = -1;
  __syncthreads();
  u64 start = __shfl_sync(0xffffffffu, scan.before, 0);
  if (point >= start && point < start + warp_total(mass)) {
    ties = earlier;
    for (int first = from; first < end; first += 32) {
      const bool among = is_among(logits, chosen, first + lane, end, ties);
      const u64 sum = warp_scan(among ? logits.mass(logits.at(first + lane)) : 0);
      const unsigned over = __ballot_sync(0xffffffffu, point < start + sum);
      if (over) {
        if (lane == 0) drawn = first + __ffs(over) - 1;
        break;
      }
      start += __shfl_sync(0xffffffffu, sum, 31);
    }
  }
  __syncthreads();
  return drawn;
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    sample_tokens(int* tokens, float* logProbabilities, const void* all, int type, i64 stride, const SampleRow* rows, int size) {
  const SampleRow row = rows[blockIdx.x];
  const Logits raw = {(const char*)all + blockIdx.x * stride * (type == BF16 ? 2 : 4), type, size, 0.f, 1.f};
  __shared__ Shared sh;
  __shared__ int first;
  if (threadIdx.x == 0) first = size;
  float most = -INFINITY;
  bool bad = false;
#pragma unroll 4
  for (int i = threadIdx.x; i < size; i += BLOCK) {
    const float x = raw.at(i);
    most = fmaxf(most, x);
    bad = bad || x != x;
  }
  most = block_max(most);
  // The most likely token, the first of equal ones; and the sum of all probabilities beside its own.
  int own = size;
  float sum = 0.f;
#pragma unroll 4
  for (int i = threadIdx.x; i < size; i += BLOCK) {
    const float x = raw.at(i);
    sum += exp2_fast((x - most) * 1.44269504f);
    if (x == most) own = min(own, i);
  }
  atomicMin(&first, own);
  const float total = block_sum(sum);
  const bool broken = __syncthreads_or(bad) || !(most - most == 0.f);
  int token = first;
  if (!broken && row.inverseTemperature > 0.f) {
    const Logits logits = {raw.row, type, size, most, row.inverseTemperature * 1.44269504f};
    Selection chosen = {0, size, 0};
    if (row.topK < size) {
      chosen = select<false>(sh, logits, row.topK);
      chosen.ties = row.topK - (int)chosen.above;
    }
    if (row.topP < 1.f) {
      u64 mass = 0;
      for (int i = threadIdx.x; i < size; i += BLOCK) {
        const float x = logits.at(i);
        if (row.topK == size || ordered(x) > chosen.threshold) mass += logits.mass(x);
      }
      mass = block_scan(mass).whole;
      if (row.topK < size) mass += (u64)chosen.ties * logits.mass(of_order(chosen.threshold));
      const u64 wanted = max((u64)1, (u64)((double)row.topP * (double)mass));
      Selection likely = select<true>(sh, logits, wanted);
      if (likely.threshold >= chosen.threshold) {
        const u64 each = max((u64)1, logits.mass(of_order(likely.threshold)));
        const int few = (int)min((u64)size, (wanted - likely.above + each - 1) / each);
        likely.ties = likely.threshold > chosen.threshold ? few : min(chosen.ties, few);
        chosen = likely;
      }
    }
    if (row.minP > 0.f) {
      const unsigned least = ordered(most + __logf(row.minP) / row.inverseTemperature);
      if (least > chosen.threshold) chosen = {least, size, 0};
    }
    const int drawn = draw(logits, chosen, (unsigned)row.uniform);
    if (drawn >= 0) token = drawn;
  }
  if (threadIdx.x == 0) {
    tokens[blockIdx.x] = broken ? -1 : token;
    logProbabilities[blockIdx.x] = broken ? most : raw.at(token) - most - logf(total);
  }
}
