// Rows of eight-bit numbers (e4m3: four bits of exponent, three of mantissa, 448 at most) with a float32 scale each, which is the
// row's largest magnitude ÷ 448. They are made of numbers as bfloat16 has them. Rows are filled up with zeros to `width` numbers.
#pragma once
#include "common.cuh"

typedef unsigned char e4m3;

struct RowScale {
  float scale, inverse;
  // A row of zeros stays one.
  __device__ __forceinline__ explicit RowScale(float largest) : scale(fmaxf(largest / 448.f, 1.17549435e-38f)), inverse(1.f / scale) {}
};

// The first number goes to the lowest byte; round to nearest even. Only GPUs since compute capability 8.9 have the instruction.
__device__ __forceinline__ unsigned pack_e4m3(float a, float b, float c, float d) {
#if __CUDA_ARCH__ >= 890
  unsigned short low, high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
  return (unsigned)high << 16 | low;
#else
  __trap();
  return 0;
#endif
}

__device__ __forceinline__ float largest8(uint4 v) {
  float x[8];
  unpack8(v, x);
  float most = 0.f;
#pragma unroll
  for (int j = 0; j < 8; j++) most = fmaxf(most, fabsf(x[j]));
  return most;
}

__device__ __forceinline__ uint2 quantize8(uint4 v, float inverse) {
  float x[8];
  unpack8(v, x);
  return make_uint2(pack_e4m3(x[0] * inverse, x[1] * inverse, x[2] * inverse, x[3] * inverse),
                    pack_e4m3(x[4] * inverse, x[5] * inverse, x[6] * inverse, x[7] * inverse));
}

// Writes the block's row, of which each thread holds the columns 8·(thread + k·threads) … +8, zeros past its end.
template <int GROUPS>
__device__ __forceinline__ void write_row_e4m3(e4m3* row, float* scale, const uint4 (&kept)[GROUPS], int width) {
  float most = 0.f;
#pragma unroll
  for (int k = 0; k < GROUPS; k++) most = fmaxf(most, largest8(kept[k]));
  const RowScale r(block_max(most));
  if (threadIdx.x == 0) *scale = r.scale;
#pragma unroll
  for (int k = 0; k < GROUPS; k++) {
    const int c = (threadIdx.x + k * blockDim.x) * 8;
    if (c < width) *reinterpret_cast<uint2*>(row + c) = quantize8(kept[k], r.inverse);
  }
}
