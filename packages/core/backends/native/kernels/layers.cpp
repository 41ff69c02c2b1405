// The layers between matmuls and attention: RMSNorm, SwiGLU, rotary embedding, embedding lookup. The threads share the rows;
// for gradients of weights they share the columns, and each column is summed over the rows in order.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "exp.h"
#include "pieces.h"

namespace {

constexpr int64_t kRowsPerItem = 16;
constexpr int64_t kColumnsPerItem = 64;

void add_scaled(int64_t begin, int64_t end, float multiplier, const float* x, const float* branch, float* y) {
#pragma omp simd
  for (int64_t i = begin; i < end; i++) y[i] = x[i] + multiplier * branch[i];
}

}  // namespace

// x + multiplier·branch.
extern "C" void sb_residual(int64_t count, float multiplier, const float* x, const float* branch, float* y) {
  in_pieces(count, 16384, [&](int64_t begin, int64_t end) { add_scaled(begin, end, multiplier, x, branch, y); });
}

// The norm of x; or, with a branch, of x + multiplier·branch, which is written to `sum`.
extern "C" void sb_rms_norm(int64_t rows, int64_t width, float epsilon, const float* x, const float* branch,
                            float multiplier, const float* weight, float* sum, float* y, float* inverseRms) {
  in_pieces(rows, kRowsPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      if (branch) add_scaled(r * width, (r + 1) * width, multiplier, x, branch, sum);
      const float* from = (branch ? sum : x) + r * width;
      float squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < width; i++) squares += from[i] * from[i];
      const float inverse = 1.0f / std::sqrt(squares / static_cast<float>(width) + epsilon);
      inverseRms[r] = inverse;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) y[r * width + i] = from[i] * inverse * weight[i];
    }
  });
}

// dSum, if given, is the gradient that x gets from elsewhere, and is added to dx. dBranch, if given, becomes multiplier·dx.
extern "C" void sb_rms_norm_grad(int64_t rows, int64_t width, const float* x, const float* weight,
                                 const float* inverseRms, const float* dy, const float* dSum, float multiplier,
                                 float* dx, float* dBranch, float* dWeight) {
  in_pieces(rows, kRowsPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float *from = x + r * width, *grad = dy + r * width;
      const float inverse = inverseRms[r];
      float along = 0;
#pragma omp simd reduction(+ : along)
      for (int64_t i = 0; i < width; i++) along += grad[i] * weight[i] * from[i];
      const float back = along * inverse * inverse / static_cast<float>(width);
#pragma omp simd
      for (int64_t i = 0; i < width; i++) dx[r * width + i] = (grad[i] * weight[i] - from[i] * back) * inverse;
      // Separate loops, so that the sum is rounded exactly as if the two gradients had been computed separately.
      for (int64_t i = r * width; dSum && i < (r + 1) * width; i++) dx[i] += dSum[i];
      for (int64_t i = r * width; dBranch && i < (r + 1) * width; i++) dBranch[i] = multiplier * dx[i];
    }
  });
  in_pieces(width, kColumnsPerItem, [&](int64_t begin, int64_t end) {
    float sum[kColumnsPerItem] = {};
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t i = begin; i < end; i++) sum[i - begin] += dy[r * width + i] * x[r * width + i] * inverseRms[r];
    }
    std::copy(sum, sum + (end - begin), dWeight + begin);
  });
}

extern "C" void sb_swiglu(int64_t count, const float* gate, const float* up, float* y) {
  in_pieces(count, 16384, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) y[i] = gate[i] * fast_sigmoid(gate[i]) * up[i];
  });
}

extern "C" void sb_swiglu_grad(int64_t count, const float* gate, const float* up, const float* dy, float* dGate,
                               float* dUp) {
  in_pieces(count, 16384, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
      const float open = fast_sigmoid(gate[i]), silu = gate[i] * open;
      dUp[i] = dy[i] * silu;
      dGate[i] = dy[i] * up[i] * (open + silu * (1.0f - open));
    }
  });
}

// cosines and sines [rows, half] of position · inverse frequency, half = headDim/2. positions [rows]; tables [rows]: where a
// row's inverse frequencies begin.
extern "C" void sb_rotary_tables(int64_t rows, int64_t half, const int32_t* positions, const int32_t* tables,
                                 const double* inverseFrequencies, float* cosines, float* sines) {
  in_pieces(rows, kRowsPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      for (int64_t i = 0; i < half; i++) {
        const double angle = positions[r] * inverseFrequencies[tables[r] + i];
        cosines[r * half + i] = static_cast<float>(std::cos(angle));
        sines[r * half + i] = static_cast<float>(std::sin(angle));
      }
    }
  });
}

// direction: 1 rotates, −1 rotates back.
extern "C" void sb_rotary(int64_t rows, int64_t heads, int64_t headDim, const float* cosines, const float* sines,
                          float direction, const float* x, float* y) {
  const int64_t half = headDim / 2;
  in_pieces(rows, kRowsPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float *c = cosines + r * half, *s = sines + r * half;
      for (int64_t h = 0; h < heads; h++) {
        const float* from = x + (r * heads + h) * headDim;
        float* to = y + (r * heads + h) * headDim;
#pragma omp simd
        for (int64_t i = 0; i < half; i++) {
          to[i] = from[i] * c[i] - from[i + half] * s[i] * direction;
          to[i + half] = from[i + half] * c[i] + from[i] * s[i] * direction;
        }
      }
    }
  });
}

extern "C" void sb_embedding(int64_t rows, int64_t width, const int32_t* tokens, const float* weight, float* y) {
  in_pieces(rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) std::memcpy(y + r * width, weight + tokens[r] * width, width * sizeof(float));
  });
}

// dWeight must hold zeros.
extern "C" void sb_embedding_grad(int64_t rows, int64_t width, const int32_t* tokens, const float* dy, float* dWeight) {
  in_pieces(width, kColumnsPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; r++) {
      float* to = dWeight + tokens[r] * width;
      for (int64_t i = begin; i < end; i++) to[i] += dy[r * width + i];
    }
  });
}
