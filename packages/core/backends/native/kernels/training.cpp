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

// likeliest may be null. kept may be: [rows, vocabSize], which gets the gradients of the scaled logits for losses whose own gradient
// is one.
extern "C" void sb_linear_cross_entropy(int64_t rows, int64_t width, int64_t vocabSize, float logitScale,
                                        int32_t ignoreIndex, const float* hidden, const float* weight,
                                        const int32_t* targets, float* loss, float* logSumExp, float* likeliest, float* kept) {
  const int64_t chunk = std::min(rows, chunk_rows(vocabSize));
  float* const room = kept ? nullptr : logits_room(chunk * vocabSize);
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t length = std::min(chunk, rows - begin);
    float* const logits = kept ? kept + begin * vocabSize : room;
    gemm(false, true, length, vocabSize, width, hidden + begin * width, width, weight, width, logits, vocabSize,
         false);
    parallel_for(length, [&](int64_t i) {
      float* row = logits + i * vocabSize;
      const int32_t target = targets[begin + i];
      const float targetLogit = target == ignoreIndex ? 0.0f : row[target] * logitScale;
      float rowMax = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : rowMax)
      for (int64_t t = 0; t < vocabSize; t++) rowMax = std::max(rowMax, row[t] * logitScale);
      double rowSum = 0;
      for (int64_t from = 0; from < vocabSize; from += 4096) {
        float part = 0;
        const int64_t to = std::min(vocabSize, from + 4096);
        if (kept) {
#pragma omp simd reduction(+ : part)
          for (int64_t t = from; t < to; t++) part += row[t] = fast_exp(row[t] * logitScale - rowMax);
        } else {
#pragma omp simd reduction(+ : part)
          for (int64_t t = from; t < to; t++) part += fast_exp(row[t] * logitScale - rowMax);
        }
        rowSum += part;
      }
      const float lse = rowMax + static_cast<float>(std::log(rowSum));
      logSumExp[begin + i] = lse;
      loss[begin + i] = target == ignoreIndex ? 0.0f : lse - targetLogit;
      if (likeliest) likeliest[begin + i] = target != ignoreIndex && targetLogit >= rowMax ? 1.0f : 0.0f;
      if (!kept) return;
      const float share = target == ignoreIndex ? 0.0f : static_cast<float>(1 / rowSum);
#pragma omp simd
      for (int64_t t = 0; t < vocabSize; t++) row[t] *= share;
      if (target != ignoreIndex) row[target] -= 1.0f;
    });
  }
}

// What sb_linear_cross_entropy_grad computes, from what the forward kept.
extern "C" void sb_linear_cross_entropy_kept_grad(int64_t rows, int64_t width, int64_t vocabSize, float logitScale,
                                                  const float* hidden, const float* weight, const float* kept,
                                                  const float* dLoss, float* dHidden, float* dWeight) {
  const auto scale_rows = [&](const float* from) {
    parallel_for(rows, [&](int64_t i) {
      const float factor = dLoss[i] * logitScale;
#pragma omp simd
      for (int64_t c = 0; c < width; c++) dHidden[i * width + c] = from[i * width + c] * factor;
    });
  };
  scale_rows(hidden);  // room for as long as dHidden is not there yet
  gemm(true, false, vocabSize, width, rows, kept, vocabSize, dHidden, width, dWeight, width, false);
  gemm(false, false, rows, width, vocabSize, kept, vocabSize, weight, width, dHidden, width, false);
  scale_rows(dHidden);
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
