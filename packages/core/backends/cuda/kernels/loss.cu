// Cross-entropy over one chunk of logits, float32 as the matrix product accumulated them: rounded to bfloat16 first, logits
// around 10 would already cost the gradient one per cent. The logits' gradient is bfloat16, ready for the next matmuls. One
// block a token; the row is read once, with a running maximum and sum.
#include "common.cuh"

extern "C" __global__ void cross_entropy(float* loss, float* logSumExp, const float* logits, const int* targets, int vocab,
                                         int stride, float scale, int ignore) {
  const float* row = logits + (i64)blockIdx.x * stride;
  float row_max = -INFINITY, row_sum = 0.f, v[8];
  for (int c = threadIdx.x * 8; c < vocab; c += blockDim.x * 8) {
    load8(row + c, v);
    const int valid = min(8, vocab - c);
    float m = row_max;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      v[j] = j < valid ? v[j] * scale : -INFINITY;
      m = fmaxf(m, v[j]);
    }
    row_sum *= __expf(row_max - m);
#pragma unroll
    for (int j = 0; j < 8; j++) row_sum += __expf(v[j] - m);
    row_max = m;
  }
  const float m = block_max(row_max);
  row_sum = block_sum(row_max == -INFINITY ? 0.f : row_sum * __expf(row_max - m));
  if (threadIdx.x) return;
  const float total = m + logf(row_sum);
  const int target = targets[blockIdx.x];
  logSumExp[blockIdx.x] = total;
  loss[blockIdx.x] = target == ignore ? 0.f : total - row[target] * scale;
}

extern "C" __global__ void cross_entropy_grad(bf16* dLogits, const float* logits, const int* targets,
                                              const float* logSumExp, const float* dLoss, int vocab, int stride, float scale, int ignore) {
  const float* row = logits + (i64)blockIdx.x * stride;
  bf16* out = dLogits + (i64)blockIdx.x * stride;
  const int target = targets[blockIdx.x];
  const float factor = target == ignore ? 0.f : dLoss[blockIdx.x] * scale, total = logSumExp[blockIdx.x];
  float v[8];
  for (int c = threadIdx.x * 8; c < stride; c += blockDim.x * 8) {
    load8(row + c, v);
#pragma unroll
    for (int j = 0; j < 8; j++)
      v[j] = c + j >= vocab || factor == 0.f ? 0.f : factor * (__expf(v[j] * scale - total) - (c + j == target ? 1.f : 0.f));
    store8(out + c, v);
  }
}
