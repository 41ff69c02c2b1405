// Element-wise arithmetic with broadcasting of rows and columns, and sums over rows or columns.
#include <algorithm>

#include "pieces.h"

namespace {

constexpr int64_t kPiece = 16384;

// y[o, i] = f(a, b), each operand at o·outer + i·inner, inner 0 or 1.
struct Strides {
  int64_t outer, inner;
};

template <typename Function>
void combine_run(int64_t count, const float* a, int64_t aStep, const float* b, int64_t bStep, float* y,
                 const Function& f) {
  if (aStep && bStep) {
    for (int64_t i = 0; i < count; i++) y[i] = f(a[i], b[i]);
  } else if (aStep) {
    const float constant = *b;
    for (int64_t i = 0; i < count; i++) y[i] = f(a[i], constant);
  } else if (bStep) {
    const float constant = *a;
    for (int64_t i = 0; i < count; i++) y[i] = f(constant, b[i]);
  } else {
    std::fill(y, y + count, f(*a, *b));
  }
}

template <typename Function>
void combine(int64_t outer, int64_t inner, const float* a, Strides as, const float* b, Strides bs, float* y,
             const Function& f) {
  if (outer == 1) {
    in_pieces(inner, kPiece, [&](int64_t begin, int64_t end) {
      combine_run(end - begin, a + begin * as.inner, as.inner, b + begin * bs.inner, bs.inner, y + begin, f);
    });
    return;
  }
  in_pieces(outer, std::max<int64_t>(1, kPiece / std::max<int64_t>(1, inner)), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++)
      combine_run(inner, a + o * as.outer, as.inner, b + o * bs.outer, bs.inner, y + o * inner, f);
  });
}

}  // namespace

// operation: 0 a + b, 1 a − b, 2 a · b, 3 a / b.
extern "C" void sb_combine(int32_t operation, int64_t outer, int64_t inner, const float* a, int64_t aOuter,
                           int64_t aInner, const float* b, int64_t bOuter, int64_t bInner, float* y) {
  const Strides as{aOuter, aInner}, bs{bOuter, bInner};
  switch (operation) {
    case 0: return combine(outer, inner, a, as, b, bs, y, [](float p, float q) { return p + q; });
    case 1: return combine(outer, inner, a, as, b, bs, y, [](float p, float q) { return p - q; });
    case 2: return combine(outer, inner, a, as, b, bs, y, [](float p, float q) { return p * q; });
    default: return combine(outer, inner, a, as, b, bs, y, [](float p, float q) { return p / q; });
  }
}

// y += x
extern "C" void sb_accumulate(int64_t count, const float* x, float* y) {
  in_pieces(count, kPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) y[i] += x[i];
  });
}

// x [outer, inner]; y [outer]: the sums of its rows.
extern "C" void sb_sum_rows(int64_t outer, int64_t inner, const float* x, float* y) {
  in_pieces(outer, std::max<int64_t>(1, kPiece / std::max<int64_t>(1, inner)), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++) {
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < inner; i++) sum += x[o * inner + i];
      y[o] = static_cast<float>(sum);
    }
  });
}

// y [inner]: the sums of the columns.
extern "C" void sb_sum_columns(int64_t outer, int64_t inner, const float* x, float* y) {
  constexpr int64_t kColumns = 64;
  in_pieces(inner, kColumns, [&](int64_t begin, int64_t end) {
    double sum[kColumns] = {};
    for (int64_t o = 0; o < outer; o++) {
      for (int64_t i = begin; i < end; i++) sum[i - begin] += x[o * inner + i];
    }
    for (int64_t i = begin; i < end; i++) y[i] = static_cast<float>(sum[i - begin]);
  });
}
