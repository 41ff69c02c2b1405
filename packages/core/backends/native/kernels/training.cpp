// What a training step needs besides the layers: the output head fused with cross-entropy, AdamW, the gradients' norm.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "exp.h"
#include "gemm.h"
#include "parallel.h"

namespace {

// How many rows have their logits in memory at once: about four million numbers.
int64_t chunk_rows(int64_t vocabSize) { return std::max<int64_t>(48, (int64_t{1} << 22) / std::max<int64_t>(1, vocabSize)); }

// Room for a chunk's logits, kept between calls: fresh memory costs as much time as computing the logits. Only one thread
// calls this.
float* logits_room(int64_t size) {
  static std::unique_ptr<float[]> room;
  static int64_t held = 0;
  if (held < size) {
    room.reset();
    room.reset(new float[size]);
    held = size;
  }
  return room.get();
}

}  // namespace

// likeliest may be null.
extern "C" void sb_linear_cross_entropy(int64_t rows, int64_t width, int64_t vocabSize, float logitScale,
                                        int32_t ignoreIndex, const float* hidden, const float* weight,
                                        const int32_t* targets, float* loss, float* logSumExp, float* likeliest) {
  const int64_t chunk = std::min(rows, chunk_rows(vocabSize));
  float* const logits = logits_room(chunk * vocabSize);
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t length = std::min(chunk, rows - begin);
    gemm(false, true, length, vocabSize, width, hidden + begin * width, width, weight, width, logits, vocabSize,
         false);
    parallel_for(length, [&](int64_t i) {
      const float* row = logits + i * vocabSize;
      float rowMax = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : rowMax)
      for (int64_t t = 0; t < vocabSize; t++) rowMax = std::max(rowMax, row[t] * logitScale);
      double rowSum = 0;
      for (int64_t from = 0; from < vocabSize; from += 4096) {
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t t = from; t < std::min(vocabSize, from + 4096); t++) part += fast_exp(row[t] * logitScale - rowMax);
        rowSum += part;
      }
      const int32_t target = targets[begin + i];
      const float lse = rowMax + static_cast<float>(std::log(rowSum));
      logSumExp[begin + i] = lse;
      loss[begin + i] = target == ignoreIndex ? 0.0f : lse - row[target] * logitScale;
      if (likeliest) likeliest[begin + i] = target != ignoreIndex && row[target] * logitScale >= rowMax ? 1.0f : 0.0f;
    });
  }
}

extern "C" void sb_linear_cross_entropy_grad(int64_t rows, int64_t width, int64_t vocabSize, float logitScale,
                                             int32_t ignoreIndex, const float* hidden, const float* weight,
                                             const int32_t* targets, const float* logSumExp, const float* dLoss,
                                             float* dHidden, float* dWeight) {
  const int64_t chunk = std::min(rows, chunk_rows(vocabSize));
  float* const logits = logits_room(chunk * vocabSize);
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t length = std::min(chunk, rows - begin);
    gemm(false, true, length, vocabSize, width, hidden + begin * width, width, weight, width, logits, vocabSize,
         false);
    parallel_for(length, [&](int64_t i) {
      float* row = logits + i * vocabSize;
      const int32_t target = targets[begin + i];
      if (target == ignoreIndex) {
        std::fill(row, row + vocabSize, 0.0f);
        return;
      }
      const float factor = dLoss[begin + i] * logitScale, lse = logSumExp[begin + i];
#pragma omp simd
      for (int64_t t = 0; t < vocabSize; t++) row[t] = fast_exp(row[t] * logitScale - lse) * factor;
      row[target] -= factor;
    });
    gemm(false, false, length, width, vocabSize, logits, vocabSize, weight, width, dHidden + begin * width, width,
         false);
    gemm(true, false, vocabSize, width, length, logits, vocabSize, hidden + begin * width, width, dWeight, width,
         begin > 0);
  }
}

extern "C" void sb_adamw(int64_t count, float decay, float learningRate, float beta1, float beta2, float epsilon,
                         float unbias1, float unbias2, float gradientScale, const float* gradient, float* parameter,
                         float* m, float* v) {
  const int64_t piece = 16384;
  parallel_for((count + piece - 1) / piece, [&](int64_t item) {
    const int64_t end = std::min(count, (item + 1) * piece);
#pragma omp simd
    for (int64_t i = item * piece; i < end; i++) {
      const float g = gradient[i] * gradientScale;
      m[i] = beta1 * m[i] + (1.0f - beta1) * g;
      v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
      parameter[i] = parameter[i] * decay - learningRate * (m[i] * unbias1) / (std::sqrt(v[i] * unbias2) + epsilon);
    }
  });
}

// partial [ceil(count / 16384)]: the sums of squares of the pieces.
extern "C" void sb_sums_of_squares(int64_t count, const float* x, double* partial) {
  const int64_t piece = 16384;
  parallel_for((count + piece - 1) / piece, [&](int64_t item) {
    double sum = 0;
    const int64_t end = std::min(count, (item + 1) * piece);
#pragma omp simd reduction(+ : sum)
    for (int64_t i = item * piece; i < end; i++) sum += static_cast<double>(x[i]) * x[i];
    partial[item] = sum;
  });
}
