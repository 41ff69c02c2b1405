// FIRE's bias on a tile of the fused kernels, from the table of fire_table.cuh. x is log2(c·distance + 1), which the rows of a
// tile have in common, times a factor of the row; along a row and from row to row it is monotone, so the nearest and the
// farthest pair of a warp's tile say which segments it touches. Mostly that is one, and the bias costs a logarithm and a
// multiply-add a pair; every knot inside adds (change of slope)·max(x − knot, 0). All kernels go through the same warps' tiles
// with the same operations: they make the same bias to the bit.
#pragma once
#include "fire_table.cuh"

// The warp's first and last segment, and slope and intercept of the first.
struct FireSpan {
  int from, to;
  float2 line;
};

__device__ __forceinline__ float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

struct FireBias {
  const float* table;
  int line, knotsAt;  // offsets in the table: of the head's segments, of the knots
  int count;
  float c, threshold;
  float inverse[2];  // of the thread's two rows: 1 / denominator of x

  __device__ __forceinline__ void begin(const Attention& p, int head) {
    const FireTable t{p.fireTable, p.fireUnits, p.heads};
    table = p.fireTable;
    line = (int)((float*)t.segments(head) - t.data), knotsAt = (int)(t.knots() - t.data);
    count = t.count();
    c = t.c(), threshold = t.threshold();
  }
  __device__ __forceinline__ float2 segment(int s) const { return ((const float2*)(table + line))[s]; }
  __device__ __forceinline__ float knot_of(int k) const { return table[knotsAt + k]; }
  // `position`: of the upper row.
  __device__ __forceinline__ void rows(int position) {
#pragma unroll
    for (int h = 0; h < 2; h++)
      inverse[h] = reciprocal(log2_fast(fmaf(c, fmaxf((float)(position + 8 * h), threshold), 1.f)) + 1e-6f * LOG2E);
  }
  // log2(c·distance + 1) of one of the thread's 24 distances: that of the upper row's key is at key + 8, the lower's at key.
  // Near the diagonal a distance of 0 must give 0; keys ahead of their row count as the row's own.
  template <bool MASKED>
  __device__ __forceinline__ float log(int upperVisible, int i) const {
    const float first = (float)(upperVisible + 7);
    if (!MASKED) return log2_fast(fmaf(-c, (float)i, fmaf(c, first, 1.f)));
    const float distance = first - (float)i;
    return distance > 0.f ? log2_fast(fmaf(c, distance, 1.f)) : 0.f;
  }
  // From the logarithms at 23 and at 0.
  __device__ __forceinline__ FireSpan span(float nearest, float farthest) const {
    const float least = __shfl_sync(0xffffffffu, nearest * inverse[0], 3);
    const float most = __shfl_sync(0xffffffffu, farthest * inverse[1], 28);
    FireSpan span{0, 0, {}};
    for (int from = 0; from < count; from += 32) {
      const int k = from + (threadIdx.x & 31);
      const float knot = k < count ? knot_of(k) : INFINITY;
      span.from += __popc(__ballot_sync(0xffffffffu, knot < least));
      span.to += __popc(__ballot_sync(0xffffffffu, knot < most));
    }
    span.line = segment(span.from);
    return span;
  }
  template <bool MASKED>
  __device__ __forceinline__ FireSpan prepare(float (&u)[24], int upperVisible) const {
#pragma unroll
    for (int i = 0; i < 24; i++) u[i] = log<MASKED>(upperVisible, i);
    return span(u[23], u[0]);
  }
  // Change of slope at knot k, and the knot, both on the logarithm's scale in row h.
  __device__ __forceinline__ void bend(int k, int h, float& change, float& edge) const {
    change = (segment(k + 1).x - segment(k).x) * inverse[h];
    edge = knot_of(k) * reciprocal(inverse[h]);
  }
  // s ← s · scale + bias + base[row], in units of log2.
  __device__ __forceinline__ void add(float (&s)[32], const float (&u)[24], float scale, const float (&base)[2],
                                      const FireSpan& span) const {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const float slope = span.line.x * inverse[h], intercept = span.line.y + base[h];
#pragma unroll
      for (int key = 0; key < 16; key++)
        s[at(h, key)] = fmaf(s[at(h, key)], scale, fmaf(slope, u[key + 8 - 8 * h], intercept));
    }
#pragma unroll 1
    for (int k = span.from; k < span.to; k++) {
#pragma unroll
      for (int h = 0; h < 2; h++) {
        float change, edge;
        bend(k, h, change, edge);
#pragma unroll
        for (int key = 0; key < 16; key++)
          s[at(h, key)] = fmaf(change, fmaxf(u[key + 8 - 8 * h] - edge, 0.f), s[at(h, key)]);
      }
    }
  }
};

// Sums over a warp of four values; lane i gets the i-th (i < 4), always added in the same order.
__device__ __forceinline__ float warp_sums(const float (&x)[FIRE_SUMS], int lane) {
  const bool odd = lane & 1, upper = lane & 2;
  const float a = (odd ? x[1] : x[0]) + __shfl_xor_sync(0xffffffffu, odd ? x[0] : x[1], 1);
  const float b = (odd ? x[3] : x[2]) + __shfl_xor_sync(0xffffffffu, odd ? x[2] : x[3], 1);
  float sum = (upper ? b : a) + __shfl_xor_sync(0xffffffffu, upper ? a : b, 2);
#pragma unroll
  for (int o = 4; o < 32; o <<= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  return sum;
}

// The sums that the gradients of FIRE's parameters are made of (fire_table.cuh), in slots of shared memory, a warp's own.
struct FireSums {
  float* slots;  // [2W + 1, 4]
  int units, segment;
  float sums[FIRE_SUMS];         // of the tiles that began in `segment`, not yet in its slot
  float perC;                          // 1 / c
  float shareC[2], shareThreshold[2];  // of a row: factors of Σ dB·x

  __device__ __forceinline__ void begin(const Attention& p, const FireBias& bias, float* warpSlots, int position, int lane) {
    slots = warpSlots, units = p.fireUnits, segment = 0;
    for (int i = lane; i < fire_columns(units); i += 32) slots[i] = 0.f;
    __syncwarp();
    perC = bias.c > 0.f ? 1.f / bias.c : 0.f;
#pragma unroll
    for (int i = 0; i < FIRE_SUMS; i++) sums[i] = 0.f;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const float at = (float)(position + 8 * h), longest = fmaxf(at, bias.threshold);
      const float natural = bias.inverse[h] * LOG2E, per = natural / fmaf(bias.c, longest, 1.f);
      shareC[h] = -longest * per;
      shareThreshold[h] = bias.threshold > at ? -bias.c * per : 0.f;
    }
  }
  __device__ __forceinline__ void put(int slot, const float (&x)[FIRE_SUMS], int lane) {
    const float sum = warp_sums(x, lane);
    if (lane < FIRE_SUMS) slots[slot * FIRE_SUMS + lane] += sum;
  }
  __device__ __forceinline__ void flush(int lane) {
    put(segment, sums, lane);
#pragma unroll
    for (int i = 0; i < FIRE_SUMS; i++) sums[i] = 0.f;
  }
  // Adds a row's Σ dB, Σ dB·log2(c·distance + 1), Σ dB/(c·distance + 1).
  __device__ __forceinline__ void combine(float (&to)[FIRE_SUMS], const FireBias& bias, int h, float plain, float withLog,
                                          float withShare) const {
    const float withX = withLog * bias.inverse[h];
    to[0] += plain;
    to[1] += withX;
    // ∂log(c·distance + 1)/∂c = distance/(c·distance + 1) = (1 − 1/(c·distance + 1))/c
    to[2] += fmaf(bias.inverse[h] * LOG2E, (plain - withShare) * perC, shareC[h] * withX);
    to[3] = fmaf(shareThreshold[h], withX, to[3]);
  }
  // Takes in a tile's dB.
  __device__ __forceinline__ void add(const float (&dB)[32], const float (&u)[24], const FireBias& bias, const FireSpan& span,
                                      int lane) {
    if (span.from != segment) flush(lane), segment = span.from;
    {
      float plain[2] = {0.f, 0.f}, withLog[2] = {0.f, 0.f}, withShare[2] = {0.f, 0.f};
#pragma unroll
      for (int i = 0; i < 24; i++) {
        const float share = exp2_fast(-u[i]);
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const int key = i - 8 + 8 * h;
          if (key < 0 || key >= 16) continue;
          const float x = dB[at(h, key)];
          plain[h] += x;
          withLog[h] = fmaf(x, u[i], withLog[h]);
          withShare[h] = fmaf(x, share, withShare[h]);
        }
      }
#pragma unroll
      for (int h = 0; h < 2; h++) combine(sums, bias, h, plain[h], withLog[h], withShare[h]);
    }
#pragma unroll 1
    for (int k = span.from; k < span.to; k++) {
      float beyond[FIRE_SUMS] = {0.f, 0.f, 0.f, 0.f}, change[2], edge[2], minus = -1.f;
      asm volatile("" : "+f"(minus));  // the shares are made anew: there is no room to keep them
#pragma unroll
      for (int h = 0; h < 2; h++) bias.bend(k, h, change[h], edge[h]);
      float plain[2] = {0.f, 0.f}, withLog[2] = {0.f, 0.f}, withShare[2] = {0.f, 0.f};
#pragma unroll
      for (int i = 0; i < 24; i++) {
        const float share = exp2_fast(minus * u[i]);
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const int key = i - 8 + 8 * h;
          if (key < 0 || key >= 16) continue;
          const float x = u[i] > edge[h] ? dB[at(h, key)] : 0.f;
          plain[h] += x;
          withLog[h] = fmaf(x, u[i], withLog[h]);
          withShare[h] = fmaf(x, share, withShare[h]);
        }
      }
#pragma unroll
      for (int h = 0; h < 2; h++) combine(beyond, bias, h, plain[h], withLog[h], withShare[h]);
      put(units + 1 + k, beyond, lane);
    }
  }
};
