// The residual stream and its gradients in 24 bits: a bfloat16 tensor, which every other kernel reads as it is, and beside it
// eight bits more of each number's fraction (a signed distance in units of 2^-8 of the bfloat16's last place). Norms are those
// of the number as it is stored, in all of its bits.
#include "norm_rows.cuh"

typedef signed char rest8;

// Eight numbers as they lie in memory.
struct Packed24 {
  uint4 high;
  uint2 rest;
};

__device__ __forceinline__ void unpack24(const Packed24& p, float (&v)[8]) {
  unpack8(p.high, v);
  const unsigned w[2] = {p.rest.x, p.rest.y};
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const int rest = (int)(w[j / 4] << (24 - 8 * (j % 4))) >> 24;
    v[j] = __uint_as_float(__float_as_uint(v[j]) + ((unsigned)rest << 8));
  }
}
// To the nearest in 24 bits, but for the one in 512 whose rest is 128 and becomes 127. What is no number stays none, and infinity itself: both are there in the upper 16 bits.
__device__ __forceinline__ Packed24 pack24(const float (&v)[8]) {
  Packed24 p{pack8(v), make_uint2(0, 0)};
  float high[8];
  unpack8(p.high, high);
  unsigned w[2] = {};
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const int away = (int)((__float_as_uint(v[j]) + 0x80u) >> 8) - (int)(__float_as_uint(high[j]) >> 8);
    w[j / 4] |= ((unsigned)max(-128, min(127, away)) & 0xffu) << (8 * (j % 4));
  }
  p.rest = make_uint2(w[0], w[1]);
  return p;
}

// Eight numbers of a row at column c; zero beyond its end. `rest` may be null: then there are no further bits.
template <bool ALIGNED>
__device__ __forceinline__ Packed24 load24(const bf16* high, const rest8* rest, i64 at, i64 c, i64 columns) {
  Packed24 p{load_packed<ALIGNED>(high + at, c, columns), make_uint2(0, 0)};
  if (!rest) return p;
  if constexpr (ALIGNED) {
    p.rest = *reinterpret_cast<const uint2*>(rest + at + c);
  } else {
    unsigned w[2] = {};
#pragma unroll
    for (int j = 0; j < 8; j++)
      if (c + j < columns) w[j / 4] |= (unsigned)(unsigned char)rest[at + c + j] << (8 * (j % 4));
    p.rest = make_uint2(w[0], w[1]);
  }
  return p;
}
template <bool ALIGNED>
__device__ __forceinline__ void store24(bf16* high, rest8* rest, i64 at, i64 c, i64 columns, const Packed24& p) {
  float v[8];
  unpack8(p.high, v);
  store_row<ALIGNED>(high + at, c, columns, v);
  if constexpr (ALIGNED) {
    *reinterpret_cast<uint2*>(rest + at + c) = p.rest;
  } else {
    const unsigned w[2] = {p.rest.x, p.rest.y};
#pragma unroll
    for (int j = 0; j < 8; j++)
      if (c + j < columns) rest[at + c + j] = (rest8)(w[j / 4] >> (8 * (j % 4)));
  }
}

struct Bits24 {
  typedef Packed24 Packed;
  static __device__ __forceinline__ void unpack(const Packed& p, float (&v)[8]) { unpack24(p, v); }

  struct Source {
    const bf16* numbers;
    const rest8* rest;
    __device__ __forceinline__ explicit operator bool() const { return numbers; }
    template <bool ALIGNED>
    __device__ __forceinline__ Packed load(i64 at, i64 c, i64 columns) const {
      return load24<ALIGNED>(numbers, rest, at, c, columns);
    }
  };
  struct Target {
    bf16* numbers;
    rest8* rest;
    template <bool ALIGNED>
    __device__ __forceinline__ Packed store(i64 at, i64 c, i64 columns, const float (&v)[8]) const {
      const Packed p = pack24(v);
      store24<ALIGNED>(numbers, rest, at, c, columns, p);
      return p;
    }
  };
};

#define RMS_NORM(GROUPS)                                                                                               \
  extern "C" __global__ void NORM_BOUNDS(GROUPS)                                                                       \
      rms_norm##GROUPS(bf16* y, bf16* sum, rest8* sumRest, float* inverseRms, const bf16* x, const rest8* xRest,       \
                       const bf16* branch, const float* weight, float multiplier, int columns, float epsilon,          \
                       e4m3* y8, float* scales, int width) {                                                           \
    if (columns % 8 == 0)                                                                                              \
      rms_norm_row<Bits24, GROUPS, true>(y, {sum, sumRest}, inverseRms, {x, xRest}, branch, weight, multiplier, columns,\
                                         epsilon, y8, scales, width);                                                  \
    else                                                                                                               \
      rms_norm_row<Bits24, GROUPS, false>(y, {sum, sumRest}, inverseRms, {x, xRest}, branch, weight, multiplier,       \
                                          columns, epsilon, nullptr, nullptr, 0);                                      \
  }                                                                                                                    \
  extern "C" __global__ void NORM_BOUNDS(GROUPS)                                                                       \
      rms_norm_grad##GROUPS(bf16* dx, rest8* dxRest, bf16* dBranch, float* partial, const bf16* x, const float* weight,\
                            const float* inverseRms, const bf16* dy, const bf16* dSum, const rest8* dSumRest,          \
                            float multiplier, int rows, int columns) {                                                 \
    if (columns % 8 == 0)                                                                                              \
      rms_norm_grad_rows<Bits24, GROUPS, true, false>({dx, dxRest}, dBranch, partial, x, weight, inverseRms, dy,       \
                                                      {dSum, dSumRest}, multiplier, rows, columns);                    \
    else                                                                                                               \
      rms_norm_grad_rows<Bits24, GROUPS, false, false>({dx, dxRest}, dBranch, partial, x, weight, inverseRms, dy,      \
                                                       {dSum, dSumRest}, multiplier, rows, columns);                   \
  }                                                                                                                    \
  extern "C" __global__ void NORM_BOUNDS(GROUPS)                                                                       \
      rms_norm_grad_fp8_##GROUPS(bf16* dx, rest8* dxRest, bf16* dBranch, float* partial, const bf16* x,                \
                                 const float* weight, const float* inverseRms, const bf16* dy, const bf16* dSum,       \
                                 const rest8* dSumRest, float multiplier, int rows, int columns, e4m3* d8,             \
                                 float* scales, int width) {                                                           \
    rms_norm_grad_rows<Bits24, GROUPS, true, true>({dx, dxRest}, dBranch, partial, x, weight, inverseRms, dy,          \
                                                   {dSum, dSumRest}, multiplier, rows, columns, d8, scales, width);    \
  }
RMS_NORM(1)
RMS_NORM(4)

template <bool ALIGNED>
__device__ __forceinline__ void add_eight(bf16* y, rest8* yRest, const bf16* x, const rest8* xRest, const bf16* branch,
                                          const rest8* branchRest, float multiplier, i64 c, i64 n) {
  float u[8], v[8];
  unpack24(load24<ALIGNED>(x, xRest, 0, c, n), u);
  unpack24(load24<ALIGNED>(branch, branchRest, 0, c, n), v);
#pragma unroll
  for (int j = 0; j < 8; j++) u[j] = fmaf(multiplier, v[j], u[j]);
  store24<ALIGNED>(y, yRest, 0, c, n, pack24(u));
}
// y = x + multiplier·branch; either may lack the further bits.
extern "C" __global__ void residual(bf16* y, rest8* yRest, const bf16* x, const rest8* xRest, const bf16* branch,
                                    const rest8* branchRest, float multiplier, i64 n) {
  const i64 c = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (c + 8 <= n) add_eight<true>(y, yRest, x, xRest, branch, branchRest, multiplier, c, n);
  else if (c < n) add_eight<false>(y, yRest, x, xRest, branch, branchRest, multiplier, c, n);
}

// A block has a token, a thread eight columns at a time. Weights are rounded to bfloat16, as matmuls read them: several GPUs that
// share them have no others, and the loss must not depend on how many there are.
template <bool ALIGNED>
__device__ __forceinline__ void look_up(bf16* y, rest8* rest, const void* weight, int type, i64 from, int columns) {
  for (int c = threadIdx.x * 8; c < columns; c += blockDim.x * 8) {
    float v[8];
    if (type == F32) {
      load_row<ALIGNED>((const float*)weight + from, c, columns, v);
#pragma unroll
      for (int j = 0; j < 8; j++) v[j] = bf16_to_float(float_to_bf16(v[j]));
    } else load_row<ALIGNED>((const bf16*)weight + from, c, columns, v);
    store24<ALIGNED>(y, rest, (i64)blockIdx.x * columns, c, columns, pack24(v));
  }
}
extern "C" __global__ void embedding(bf16* y, rest8* rest, const int* tokens, const void* weight, int type, i64 stride,
                                     int columns) {
  const i64 from = (i64)tokens[blockIdx.x] * stride;
  if (columns % 8 == 0) look_up<true>(y, rest, weight, type, from, columns);
  else look_up<false>(y, rest, weight, type, from, columns);
}
// transformer.cu's embedding_grad of a gradient in 24 bits.
extern "C" __global__ void embedding_grad(float* dWeight, const bf16* dy, const rest8* dyRest, const int* token,
                                          const int* start, const int* order, int columns) {
  const int from = start[blockIdx.x], to = start[blockIdx.x + 1];
  float* out = dWeight + (i64)token[blockIdx.x] * columns;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) {
    float s = 0.f;
#pragma unroll 4
    for (int i = from; i < to; i++) {
      const i64 at = (i64)order[i] * columns + c;
      s += __uint_as_float(((unsigned)dy[at] << 16) + ((unsigned)(int)dyRest[at] << 8));
    }
    out[c] += s;
  }
}
extern "C" __global__ void widen(float* y, const bf16* x, const rest8* rest, i64 n) {
  const i64 c = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8;
  float v[8];
  if (c + 8 <= n) {
    unpack24(load24<true>(x, rest, 0, c, n), v);
    store8(y + c, v);
  } else {
    for (i64 j = c; j < n; j++) y[j] = __uint_as_float(((unsigned)x[j] << 16) + ((unsigned)(int)rest[j] << 8));
  }
}
