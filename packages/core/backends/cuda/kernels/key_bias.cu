// Biases of keys as the fused attention kernels read them.
#include "common.cuh"

// y [heads, tokens + behind] = x [tokens, heads] · factor, head by head, with zeros behind each.
extern "C" __global__ void key_bias(float* y, const float* x, i64 tokens, int heads, int behind, float factor) {
  const i64 width = tokens + behind, n = width * heads;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) {
    const i64 head = i / width, token = i - head * width;
    y[i] = token < tokens ? x[token * heads + head] * factor : 0.f;
  }
}
