// What the backward kernels that go by blocks of keys make of a tile of stick-breaking's logits. The arithmetic is also that of
// flash_backward_tile.cuh, flash_backward_queries.cu and flash_far_queries.cu, which carry the two numbers of a row in other ways: a change
// to one belongs in all four.
#pragma once
#include "flash.cuh"

// Weights and logit gradients of a tile, to shared memory; `carry` is what the first kernel kept of the two rows. s: logits; dP: dO·V,
// which is still being multiplied. `weighed` is called when the weights are there.
template <bool MASKED, class Weighed>
__device__ __forceinline__ void stick_tile(float (&s)[32], float (&dP)[32], const float2 (&carry)[2], const int (&visible)[2],
                                           unsigned weights, unsigned dLogits, int warp, int lane, float scale,
                                           const Weighed& weighed) {
  const int c = lane & 3;
  float leave[2][4], own[2], before[2], sums[2][4], all;  // sums of dÃ by groups of four keys: short chains of additions
  break_rows<MASKED>(s, scale, visible, leave, own);
#pragma unroll
  for (int h = 0; h < 2; h++) before[h] = carry[h].x * nearer_product(own[h], c, all);
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
    store_pair(weights, warp, lane, group, packed[0][0], packed[0][1], packed[1][0], packed[1][1]);
  }
  weighed();
  float prefix[2];
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const float farther = farther_sum((sums[h][0] + sums[h][1]) + (sums[h][2] + sums[h][3]), c, all);
    prefix[h] = carry[h].x > 0.f ? carry[h].y + farther : 0.f;  // a row that the stick did not reach has none
  }
#pragma unroll
  for (int group = 0; group < 4; group++) {
    unsigned packed[2][2];
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
      packed[0][h] = pack_bf16(dz[0], dz[1]);
      packed[1][h] = pack_bf16(dz[2], dz[3]);
    }
    store_pair(dLogits, warp, lane, group, packed[0][0], packed[0][1], packed[1][0], packed[1][1]);
  }
}
