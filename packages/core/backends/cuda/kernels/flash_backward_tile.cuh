// What flash_backward.cu makes of a tile of logits: weights and logit gradients, in registers and in shared memory.
#pragma once
#include "flash_backward.cuh"

// What the two rows of a thread carry from tile to tile.
struct Carry {
  float left[2], sum[2];                // stick-breaking: what is left of the stick, the sum of dÃ so far
  unsigned stops;                       // where the rows' sticks stop: in shared memory, a tile and what is left before it
  int lastStop;                         // the nearest of the warpgroup's
  float delta[2], logSumExp[2], slope;  // softmax
};

// s: logits; dP: dO·V, which is still being multiplied. `a`: the gradient of the logits (without the scale) as pairs of
// bfloat16. That and the weights also go to shared memory.
template <bool MASKED>
__device__ __forceinline__ void stick_tile(float (&s)[32], float (&dP)[32], unsigned (&a)[4][4], Carry& carry, unsigned weights,
                                           int n, int limit, int lane, float scale) {
  const int c = lane & 3;
  const int visible[2] = {limit - TILE_ROWS * n - 16 * c, limit + 8 - TILE_ROWS * n - 16 * c};
  float leave[2][4], own[2], before[2], sums[2][4];  // sums of dÃ by groups of four keys: short chains of additions
  break_rows<MASKED>(s, scale, visible, leave, own);
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float all;
    before[h] = nearer_product(own[h], c, all);
    carry.left[h] *= reciprocal(all);
  }
  // What is left of the stick before this tile: kept by the forward where the row stopped, else from the far side.
  if (__any_sync(0xffffffffu, n <= carry.lastStop))
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float tile, left;
      asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(tile), "=f"(left) : "r"(carry.stops + 64 * h) : "memory");
      carry.left[h] = n == (int)tile ? left : n < (int)tile ? 0.f : carry.left[h];
    }
#pragma unroll
  for (int h = 0; h < 2; h++) before[h] *= carry.left[h];
  products_wait<0>();
  hold(dP);
#pragma unroll
  for (int group = 3; group >= 0; group--) {
    unsigned packed[2][2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float product[4], weight[4];
      product[3] = 1.f;
#pragma unroll
      for (int i = 2; i >= 0; i--) product[i] = fmaf(product[i + 1], s[at(h, 4 * group + i + 1)], product[i + 1]);
      float after = leave[h][group];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float t = s[at(h, 4 * group + i)], u = t * after;
        after = fmaf(after, t, after);
        s[at(h, 4 * group + i)] = u * product[i];  // σ(z)
        weight[i] = u * before[h];
        const float dA = weight[i] * dP[at(h, 4 * group + i)];
        dP[at(h, 4 * group + i)] = dA;
        sums[h][group] = i == 0 ? dA : sums[h][group] + dA;
      }
      before[h] *= leave[h][group];
      packed[0][h] = pack_bf16(weight[0], weight[1]);
      packed[1][h] = pack_bf16(weight[2], weight[3]);
    }
    store_pair(weights ^ group * 32, packed[0][0], packed[0][1], packed[1][0], packed[1][1]);
  }
  float prefix[2];
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float whole;
    const float farther = farther_sum((sums[h][0] + sums[h][1]) + (sums[h][2] + sums[h][3]), c, whole);
    const bool active = carry.left[h] > 0.f;
    prefix[h] = active ? carry.sum[h] + farther : 0.f;
    carry.sum[h] += active ? whole : 0.f;
  }
#pragma unroll
  for (int group = 0; group < 4; group++) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float dz[4], sum = prefix[h];
      prefix[h] += sums[h][group];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float dA = dP[at(h, 4 * group + i)];
        sum += dA;
        dz[i] = fmaf(-s[at(h, 4 * group + i)], sum, dA);
      }
      a[group][h] = pack_bf16(dz[0], dz[1]);
      a[group][2 + h] = pack_bf16(dz[2], dz[3]);
    }
    store_pair((weights ^ group * 32) + Square::BYTES, a[group][0], a[group][1], a[group][2], a[group][3]);
  }
}

template <bool MASKED>
__device__ __forceinline__ void softmax_tile(float (&s)[32], float (&dP)[32], unsigned (&a)[4][4], const Carry& carry,
                                             unsigned weights, int n, int limit, int lane, float scale, int window) {
  const int c = lane & 3;
#pragma unroll
  for (int group = 0; group < 4; group++) {
    unsigned packed[2][2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int visible = limit + 8 * h - TILE_ROWS * n - 16 * c, from = window ? visible - window : -TILE_ROWS;
#pragma unroll
      for (int key = 4 * group; key < 4 * group + 4; key++) {
        float x = fmaf(s[at(h, key)], scale, -carry.logSumExp[h]);
        if (ALIBI) x = fmaf(carry.slope, (float)(key + 1 - visible), x);
        x = exp2_fast(x);
        s[at(h, key)] = MASKED && (key >= visible || key < from) ? 0.f : x;
      }
      packed[0][h] = pack_bf16(s[at(h, 4 * group)], s[at(h, 4 * group + 1)]);
      packed[1][h] = pack_bf16(s[at(h, 4 * group + 2)], s[at(h, 4 * group + 3)]);
    }
    store_pair(weights ^ group * 32, packed[0][0], packed[0][1], packed[1][0], packed[1][1]);
  }
  products_wait<0>();
  hold(dP);
#pragma unroll
  for (int group = 0; group < 4; group++) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float dz[4];
#pragma unroll
      for (int i = 0; i < 4; i++) dz[i] = s[at(h, 4 * group + i)] * (dP[at(h, 4 * group + i)] - carry.delta[h]);
      a[group][h] = pack_bf16(dz[0], dz[1]);
      a[group][2 + h] = pack_bf16(dz[2], dz[3]);
    }
    store_pair((weights ^ group * 32) + Square::BYTES, a[group][0], a[group][1], a[group][2], a[group][3]);
  }
}
