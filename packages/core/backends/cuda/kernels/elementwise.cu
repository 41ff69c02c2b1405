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

// Rows of another width: cut off, or filled up with zeros.
extern "C" __global__ void copy_columns(bf16* y, i64 yColumns, const bf16* x, i64 xColumns, i64 rows) {
  const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= rows * yColumns) return;
  const i64 row = i / yColumns, column = i - row * yColumns;
  y[i] = column < xColumns ? x[row * xColumns + column] : 0;
}

enum { ADD, SUB, MUL, DIV, MAXIMUM, MINIMUM, GREATER, GREATER_EQUAL, LESS, LESS_EQUAL, EQUAL, NOT_EQUAL, SQUARED_DIFFERENCE, POW };

__device__ __forceinline__ float apply_binary(int op, float a, float b) {
  switch (op) {
    case ADD: return a + b;
    case SUB: return a - b;
    case MUL: return a * b;
    case DIV: return a / b;
    case MAXIMUM: return fmaxf(a, b);
    case MINIMUM: return fminf(a, b);
    case GREATER: return a > b;
    case GREATER_EQUAL: return a >= b;
    case LESS: return a < b;
    case LESS_EQUAL: return a <= b;
    case EQUAL: return a == b;
    case NOT_EQUAL: return a != b;
    case SQUARED_DIFFERENCE: return (a - b) * (a - b);
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

enum { NEG, EXP, LOG, SQRT, RSQRT, SQUARE, ABS, RELU, SIGMOID, TANH, SOFTPLUS, RECIPROCAL, LOG1P };

extern "C" __global__ void unary(void* y, int yType, const void* x, int xType, int op, i64 n) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) {
    const float a = load_any(x, xType, i);
    float r;
    switch (op) {
      case NEG: r = -a; break;
      case EXP: r = expf(a); break;
      case LOG: r = logf(a); break;
      case SQRT: r = sqrtf(a); break;
      case RSQRT: r = rsqrtf(a); break;
      case SQUARE: r = a * a; break;
      case ABS: r = fabsf(a); break;
      case RELU: r = fmaxf(a, 0.f); break;
      case SIGMOID: r = 1.f / (1.f + expf(-a)); break;
      case TANH: r = tanhf(a); break;
      case SOFTPLUS: r = fmaxf(a, 0.f) + log1pf(expf(-fabsf(a))); break;
      case RECIPROCAL: r = 1.f / a; break;
      default: r = log1pf(a);
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
