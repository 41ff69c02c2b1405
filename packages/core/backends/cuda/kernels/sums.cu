// Sums of what several GPUs have sent, in one order whoever sent it: each part is read once and the sum written once.
#include "common.cuh"

static_assert(SUM_VECTOR == sizeof(float4) / sizeof(float), "a thread adds a float4 at once");

// sum [count] = (go_on ? sum : 0) + parts[0] + parts[1] + …, added in this order; parts [number, count], count a multiple of SUM_VECTOR.
extern "C" __global__ void ordered_sum(float* sum, const float* parts, i64 count, int number, int go_on) {
  for (i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * SUM_VECTOR; i < count;
       i += (i64)gridDim.x * blockDim.x * SUM_VECTOR) {
    float4 total = go_on ? *(const float4*)(sum + i) : *(const float4*)(parts + i);
#pragma unroll 4
    for (int p = go_on ? 0 : 1; p < number; p++) {
      const float4 one = *(const float4*)(parts + p * count + i);
      total.x += one.x, total.y += one.y, total.z += one.z, total.w += one.w;
    }
    *(float4*)(sum + i) = total;
  }
}

// The same of parts in bfloat16, added in float32: count is a multiple of VECTOR, and parts lie at multiples of 16 bytes.
extern "C" __global__ void ordered_sum_bf16(float* sum, const bf16* parts, i64 count, int number, int go_on) {
  for (i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * VECTOR; i < count;
       i += (i64)gridDim.x * blockDim.x * VECTOR) {
    float total[VECTOR];
    if (go_on) load8(sum + i, total);
    else load8(parts + i, total);
#pragma unroll 4
    for (int p = go_on ? 0 : 1; p < number; p++) {
      float one[VECTOR];
      load8(parts + p * count + i, one);
#pragma unroll
      for (int j = 0; j < VECTOR; j++) total[j] += one[j];
    }
    store8(sum + i, total);
  }
}
