// Casts, fills and the elementwise operations of TensorFlow.js. The hot forms (a cast, additions, the residual connection)
// move 16 bytes at a time; everything else goes through one kernel that looks up types and operation at run time, which
// costs little beside the memory it moves.
#include "common.cuh"

extern "C" __global__ void cast_to_bf16(bf16* y, const float* x, i64 n) {
  const i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (i + 8 <= n) {
    const float4 a = *(const float4*)(x + i), b = *(const float4*)(x + i + 4);
    const float v[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
    store8(y + i, v);
  } else {
    for (i64 j = i; j < n; j++) y[j] = float_to_bf16(x[j]);
  }
}

template <typename T>
__device__ __forceinline__ void add_eight(T* y, const T* a, const T* b, i64 n, int type) {
  const i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (i + 8 <= n) {
    float u[8], v[8];
    load8(a + i, u);
    load8(b + i, v);
#pragma unroll
    for (int j = 0; j < 8; j++) u[j] += v[j];
    store8(y + i, u);
  } else {
    for (i64 j = i; j < n; j++) store_any(y, type, j, load_any(a, type, j) + load_any(b, type, j));
  }
}
extern "C" __global__ void add_bf16(bf16* y, const bf16* a, const bf16* b, i64 n) { add_eight(y, a, b, n, BF16); }
// The gradients of the weights, summed over micro-batches.
extern "C" __global__ void add_f32(float* y, const float* a, const float* b, i64 n) { add_eight(y, a, b, n, F32); }

// x + multiplier·branch; the scaled branch alone where x is null.
extern "C" __global__ void residual(bf16* y, const bf16* x, const bf16* branch, float multiplier, i64 n) {
  const i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (i + 8 <= n) {
    float u[8] = {}, v[8];
    if (x) load8(x + i, u);
    load8(branch + i, v);
#pragma unroll
    for (int j = 0; j < 8; j++) u[j] = fmaf(multiplier, v[j], u[j]);
    store8(y + i, u);
  } else {
    for (i64 j = i; j < n; j++)
      y[j] = float_to_bf16(fmaf(multiplier, bf16_to_float(branch[j]), x ? bf16_to_float(x[j]) : 0.f));
  }
}

extern "C" __global__ void fill(void* y, int type, float value, i64 n) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x)
    store_any(y, type, i, value);
}

extern "C" __global__ void copy_cast(void* y, int yType, const void* x, int xType, i64 n) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) {
    if (xType == I32 && yType == I32) ((int*)y)[i] = ((const int*)x)[i];
    else store_any(y, yType, i, load_any(x, xType, i));
  }
}

// Rows of a matrix, `stride` elements apart, to rows of another length that follow one another; zeros where x has none.
extern "C" __global__ void copy_rows(void* y, i64 yColumns, i64 yRows, const void* x, i64 stride, i64 columns, i64 rows, int bytes) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < yRows * yColumns; i += (i64)gridDim.x * blockDim.x) {
    const i64 row = i / yColumns, column = i - row * yColumns, from = row * stride + column;
    const bool inside = row < rows && column < columns;
    if (bytes == 4) ((unsigned*)y)[i] = inside ? ((const unsigned*)x)[from] : 0;
    else ((bf16*)y)[i] = inside ? ((const bf16*)x)[from] : 0;
  }
}

// y[b, a, c] = x[a, b, c], in units of 16 bytes, of which there are less than 2^31.
extern "C" __global__ void swap_axes(uint4* y, const uint4* x, unsigned a, unsigned b, unsigned c) {
  const unsigned n = a * b * c;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const unsigned row = i / c, unit = i - row * c, second = row / a, first = row - second * a;
    y[i] = x[(first * b + second) * c + unit];
  }
}

namespace binary_op {
enum { Add, Sub, Multiply, RealDiv, Maximum, Minimum, Greater, GreaterEqual, Less, LessEqual, Equal, NotEqual, SquaredDifference, Pow };
}

// Like tfjs's, the larger and the smaller of a number and NaN are NaN.
__device__ __forceinline__ float apply_binary(int op, float a, float b) {
  switch (op) {
    case binary_op::Add: return a + b;
    case binary_op::Sub: return a - b;
    case binary_op::Multiply: return a * b;
    case binary_op::RealDiv: return a / b;
    case binary_op::Maximum: return a != a ? a : b != b ? b : fmaxf(a, b);
    case binary_op::Minimum: return a != a ? a : b != b ? b : fminf(a, b);
    case binary_op::Greater: return a > b;
    case binary_op::GreaterEqual: return a >= b;
    case binary_op::Less: return a < b;
    case binary_op::LessEqual: return a <= b;
    case binary_op::Equal: return a == b;
    case binary_op::NotEqual: return a != b;
    case binary_op::SquaredDifference: return (a - b) * (a - b);
    default: return powf(a, b);
  }
}

// An operand's element for output i is (i / divide) % period: the whole tensor, a scalar, a row repeated or a column
// repeated, the broadcasts that occur in practice.
extern "C" __global__ void binary(void* y, int yType, const void* a, int aType, i64 aDivide, i64 aPeriod, const void* b,
                                  int bType, i64 bDivide, i64 bPeriod, int op, i64 n) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) {
    const float u = load_any(a, aType, aPeriod == n ? i : aPeriod == 1 ? 0 : i / aDivide % aPeriod);
    const float v = load_any(b, bType, bPeriod == n ? i : bPeriod == 1 ? 0 : i / bDivide % bPeriod);
    store_any(y, yType, i, apply_binary(op, u, v));
  }
}

namespace unary_op {
enum { Neg, Exp, Log, Sqrt, Rsqrt, Square, Abs, Relu, Sigmoid, Tanh, Softplus, Reciprocal, Log1p, Sign };
}

extern "C" __global__ void unary(void* y, int yType, const void* x, int xType, int op, i64 n) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) {
    const float a = load_any(x, xType, i);
    float r;
    switch (op) {
      case unary_op::Neg: r = -a; break;
      case unary_op::Exp: r = expf(a); break;
      case unary_op::Log: r = logf(a); break;
      case unary_op::Sqrt: r = sqrtf(a); break;
      case unary_op::Rsqrt: r = rsqrtf(a); break;
      case unary_op::Square: r = a * a; break;
      case unary_op::Abs: r = fabsf(a); break;
      case unary_op::Relu: r = a < 0.f ? 0.f : a; break;
      case unary_op::Sigmoid: r = 1.f / (1.f + expf(-a)); break;
      case unary_op::Tanh: r = tanhf(a); break;
      case unary_op::Softplus: r = fmaxf(a, 0.f) + log1pf(expf(-fabsf(a))); break;
      case unary_op::Reciprocal: r = 1.f / a; break;
      case unary_op::Log1p: r = log1pf(a); break;
      default: r = (a > 0.f) - (a < 0.f); // 0 of NaN, as in tfjs
    }
    store_any(y, yType, i, r);
  }
}

// y[i0, i1, …] = x at offset + Σ i_d · stride_d: slices, transposes, tiles and expansions, up to rank 6.
struct Layout {
  i64 size[6], stride[6];
};
extern "C" __global__ void gather_strided(void* y, const void* x, int bytes, i64 offset, Layout layout, i64 n) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) {
    i64 rest = i, at = offset;
#pragma unroll
    for (int d = 5; d >= 0; d--) {
      at += rest % layout.size[d] * layout.stride[d];
      rest /= layout.size[d];
    }
    if (bytes == 4) ((unsigned*)y)[i] = ((const unsigned*)x)[at];
    else if (bytes == 2) ((bf16*)y)[i] = ((const bf16*)x)[at];
    else ((unsigned char*)y)[i] = ((const unsigned char*)x)[at];
  }
}

// y[o, j] = x[o, index[j]] for rows of `width` units along an axis of n; every `outer` of o have `count` indices of their own.
// An index outside of the axis gives zeros.
template <typename Unit>
__device__ __forceinline__ void gather_units(Unit* y, const Unit* x, const int* indices, i64 outer, i64 count, i64 n, i64 width, i64 total) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += (i64)gridDim.x * blockDim.x) {
    const i64 row = i / width, o = row / count, index = indices[o / outer * count + (row - o * count)];
    y[i] = index >= 0 && index < n ? x[(o * n + index) * width + (i - row * width)] : Unit{};
  }
}
extern "C" __global__ void gather_rows(void* y, const void* x, const int* indices, int bytes, i64 outer, i64 count, i64 n, i64 width, i64 total) {
  if (bytes == 16) gather_units((uint4*)y, (const uint4*)x, indices, outer, count, n, width, total);
  else if (bytes == 4) gather_units((unsigned*)y, (const unsigned*)x, indices, outer, count, n, width, total);
  else if (bytes == 2) gather_units((bf16*)y, (const bf16*)x, indices, outer, count, n, width, total);
  else gather_units((unsigned char*)y, (const unsigned char*)x, indices, outer, count, n, width, total);
}

// One part of a concatenation: `outer` runs of x, `run` elements each, to y, where runs begin `total` elements apart.
extern "C" __global__ void place_runs(void* y, int yType, const void* x, int xType, i64 outer, i64 run, i64 total) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < outer * run; i += (i64)gridDim.x * blockDim.x) {
    const i64 row = i / run, to = row * total + (i - row * run);
    if (xType != yType) store_any(y, yType, to, load_any(x, xType, i));
    else if (xType == U8) ((unsigned char*)y)[to] = ((const unsigned char*)x)[i];
    else if (xType == BF16) ((bf16*)y)[to] = ((const bf16*)x)[i];
    else ((unsigned*)y)[to] = ((const unsigned*)x)[i];
  }
}
