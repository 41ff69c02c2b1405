// x·weightᵀ for few rows, each by itself (rowwise.cpp).
#pragma once
#include <cstdint>

// x [rows, width], weight [outs, width], y [rows, outs].
extern "C" void sb_rowwise(int64_t rows, int64_t outs, int64_t width, const float* x, const float* weight, float* y);
