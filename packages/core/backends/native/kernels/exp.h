// exp without branches, so that loops over it vectorise: 2^n · 2^f by a polynomial, within 2 ulp.
#pragma once
#include <cstdint>
#include <cstring>

inline float fast_exp(float x) {
  // Below, exp is as good as 0 in a softmax; above, it overflows.
  const float clamped = x < -87.3f ? -87.3f : (x > 88.7f ? 88.7f : x);
  const float shifted = clamped * 1.44269504f + 12582912.0f;  // rounds to the nearest integer
  const float n = shifted - 12582912.0f;
  const float f = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * f * f + f + 1.0f;
  // n reaches 128, one more than an exponent holds: two factors.
  const int32_t half = static_cast<int32_t>(n) >> 1, other = static_cast<int32_t>(n) - half;
  const int32_t bits1 = (half + 127) << 23, bits2 = (other + 127) << 23;
  float factor1, factor2;
  std::memcpy(&factor1, &bits1, 4);
  std::memcpy(&factor2, &bits2, 4);
  return p * factor1 * factor2;
}

inline float fast_sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }
