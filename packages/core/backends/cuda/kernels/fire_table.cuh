// FIRE's bias (https://arxiv.org/abs/2310.04418) as a table. Its network has one input, from 0 to 1,
//   x = log(c·distance + 1) / log(c·max(position, threshold) + 1),
// and one layer of rectified units, so for each head it is piecewise linear in x with a knot where a unit turns on or off,
// x = −b1/w1. The table holds the knots in order and each segment's slope and intercept: exact, not an approximation.
#pragma once
#include "common.cuh"

// Segments are numbered by the knots below them: segment s has knots[s − 1] < x ≤ knots[s].
struct FireTable {
  float* data;
  int units, heads;  // W, H
  // In units of log2, as the fused kernels' logits are; knots in [0, 1) alone, each once.
  __device__ int& count() const { return ((int*)data)[0]; }
  __device__ float& c() const { return data[1]; }          // |c|
  __device__ float& threshold() const { return data[2]; }  // |multiplier · initial threshold|
  __device__ float2* segments(int head) const { return (float2*)(data + 4) + head * (units + 1); }  // slope, intercept
  __device__ float* knots() const { return data + 4 + 2 * heads * (units + 1); }
  // Unit w is on in segments from[w] … to[w] − 1.
  __device__ int* from() const { return (int*)knots() + units; }
  __device__ int* to() const { return from() + units; }
};
// What the gradients are made of, for each segment and then for each knot: Σ dB, Σ dB·x, Σ dB·∂x/∂c, Σ dB·∂x/∂threshold.
// A segment's sum is over the tiles that begin there, whole; a knot's over the pairs beyond it in tiles that begin before it.
static_assert(FIRE_SUMS == 4, "the sums above");
__device__ __forceinline__ constexpr int fire_columns(int units) { return (2 * units + 1) * FIRE_SUMS; }
