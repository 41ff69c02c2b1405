// What may follow stick-breaking attention, head by head: the remainder's learned vector, and the norm of each head's output.
// x, output and dy [rows, heads, headDim]; weight and bias [heads, headDim]. The threads share the rows; for gradients of
// weights they share the heads, and each is summed over the rows in order.
#include <cmath>

#include "pieces.h"

namespace {

constexpr int64_t kVectorsPerItem = 64;

}  // namespace

extern "C" void sb_head_norm(int64_t rows, int64_t heads, int64_t headDim, float epsilon, const float* x,
                             const float* weight, const float* bias, float* y, float* mean, float* inverseStd) {
  in_pieces(rows * heads, kVectorsPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float *from = x + r * headDim, *w = weight + r % heads * headDim, *b = bias + r % heads * headDim;
      float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < headDim; i++) sum += from[i];
      const float center = sum / static_cast<float>(headDim);
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < headDim; i++) squares += (from[i] - center) * (from[i] - center);
      const float inverse = 1.0f / std::sqrt(squares / static_cast<float>(headDim) + epsilon);
#pragma omp simd
      for (int64_t i = 0; i < headDim; i++) y[r * headDim + i] = (from[i] - center) * inverse * w[i] + b[i];
      mean[r] = center;
      inverseStd[r] = inverse;
    }
  });
}

extern "C" void sb_head_norm_grad(int64_t rows, int64_t heads, int64_t headDim, const float* x, const float* weight,
                                  const float* mean, const float* inverseStd, const float* dy, float* dx,
                                  float* dWeight, float* dBias) {
  in_pieces(rows * heads, kVectorsPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float *from = x + r * headDim, *grad = dy + r * headDim, *w = weight + r % heads * headDim;
      const float center = mean[r], inverse = inverseStd[r];
      float sum = 0, along = 0;
#pragma omp simd reduction(+ : sum, along)
      for (int64_t i = 0; i < headDim; i++) {
        sum += grad[i] * w[i];
        along += grad[i] * w[i] * (from[i] - center) * inverse;
      }
      const float average = sum / static_cast<float>(headDim), back = along / static_cast<float>(headDim);
#pragma omp simd
      for (int64_t i = 0; i < headDim; i++)
        dx[r * headDim + i] = (grad[i] * w[i] - average - (from[i] - center) * inverse * back) * inverse;
    }
  });
  parallel_for(heads, [&](int64_t head) {
    float *toWeight = dWeight + head * headDim, *toBias = dBias + head * headDim;
    for (int64_t i = 0; i < headDim; i++) toWeight[i] = toBias[i] = 0;
    for (int64_t r = head; r < rows * heads; r += heads) {
      const float *from = x + r * headDim, *grad = dy + r * headDim;
      const float center = mean[r], inverse = inverseStd[r];
#pragma omp simd
      for (int64_t i = 0; i < headDim; i++) {
        toWeight[i] += grad[i] * (from[i] - center) * inverse;
        toBias[i] += grad[i];
      }
    }
  });
}

// remainder [rows, heads]; y = output + remainder·bias.
extern "C" void sb_remainder_bias(int64_t rows, int64_t heads, int64_t headDim, const float* output,
                                  const float* remainder, const float* bias, float* y) {
  in_pieces(rows * heads, kVectorsPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float *from = output + r * headDim, *b = bias + r % heads * headDim;
      for (int64_t i = 0; i < headDim; i++) y[r * headDim + i] = from[i] + remainder[r] * b[i];
    }
  });
}

extern "C" void sb_remainder_bias_grad(int64_t rows, int64_t heads, int64_t headDim, const float* remainder,
                                       const float* bias, const float* dy, float* dRemainder, float* dBias) {
  in_pieces(rows * heads, kVectorsPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float *grad = dy + r * headDim, *b = bias + r % heads * headDim;
      float along = 0;
#pragma omp simd reduction(+ : along)
      for (int64_t i = 0; i < headDim; i++) along += grad[i] * b[i];
      dRemainder[r] = along;
    }
  });
  parallel_for(heads, [&](int64_t head) {
    float* to = dBias + head * headDim;
    for (int64_t i = 0; i < headDim; i++) to[i] = 0;
    for (int64_t r = head; r < rows * heads; r += heads) {
      for (int64_t i = 0; i < headDim; i++) to[i] += dy[r * headDim + i] * remainder[r];
    }
  });
}
