// AdamW over every parameter of the model in one launch. The float32 master weights, both moments and, where the
// backend keeps one, the bfloat16 copy that the matrix products read are updated in the same pass. Moments in bfloat16 are
// rounded up or down at random, by a hash of step, parameter and place (stochastic_rounding.ts has the same).
#include "common.cuh"

struct Parameter {
  float* weight;
  const void* gradient;
  void *first, *second;  // float, or bf16
  bf16* copy;  // null where there is none
  i64 size;
  i64 firstBlock;
  float decay;
  int gradientType;
};

__device__ __forceinline__ float adamw_one(float w, float g, float& m, float& v, float lr, float decay, float beta1,
                                           float beta2, float epsilon, float correction1, float correction2) {
  m = beta1 * m + (1.f - beta1) * g;
  v = beta2 * v + (1.f - beta2) * g * g;
  return w - lr * (m * correction1 / (sqrtf(v * correction2) + epsilon) + decay * w);
}

__device__ __forceinline__ unsigned rounding_bits(unsigned seed, unsigned i) {
  unsigned h = i * 0x9e3779b1u ^ seed;
  h = (h ^ h >> 16) * 0x85ebca6bu;
  h = (h ^ h >> 13) * 0xc2b2ae35u;
  return h ^ h >> 16;
}
// The upper sixteen bits of x plus sixteen random ones; infinities and NaN stay what they are.
__device__ __forceinline__ unsigned stochastic(float x, unsigned random) {
  const unsigned bits = __float_as_uint(x);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits >> 16 : (bits + random) >> 16;
}

__device__ __forceinline__ float4 load4(const float* p) { return *(const float4*)p; }
__device__ __forceinline__ float4 load4(const bf16* p) {
  const uint2 b = *(const uint2*)p;
  return make_float4(__uint_as_float(b.x << 16), __uint_as_float(b.x & 0xffff0000u), __uint_as_float(b.y << 16),
                     __uint_as_float(b.y & 0xffff0000u));
}
// Four moments from place i on; SHIFT: where their random bits begin.
template <int SHIFT>
__device__ __forceinline__ void keep4(float* p, float4 x, unsigned, unsigned) { *(float4*)p = x; }
template <int SHIFT>
__device__ __forceinline__ void keep4(bf16* p, float4 x, unsigned seed, unsigned i) {
  const float values[4] = {x.x, x.y, x.z, x.w};
  unsigned kept[4];
#pragma unroll
  for (int j = 0; j < 4; j++) kept[j] = stochastic(values[j], rounding_bits(seed, i + j) >> SHIFT & 0xffffu);
  *(uint2*)p = make_uint2(kept[1] << 16 | kept[0], kept[3] << 16 | kept[2]);
}
template <int SHIFT>
__device__ __forceinline__ void keep1(float* p, float x, unsigned, unsigned) { *p = x; }
template <int SHIFT>
__device__ __forceinline__ void keep1(bf16* p, float x, unsigned seed, unsigned i) {
  *p = (bf16)stochastic(x, rounding_bits(seed, i) >> SHIFT & 0xffffu);
}

template <typename M>
__device__ __forceinline__ void adamw_block(const Parameter* table, int tensors, float lr, float beta1, float beta2, float epsilon,
                                            float correction1, float correction2, float scale, unsigned step,
                                            const float* further) {
  if (further) scale *= *further;
  if (scale != scale) return;  // the loss or a gradient is not finite
  int t = 0, high = tensors;
  while (t + 1 < high) {
    const int mid = (t + high) / 2;
    if (table[mid].firstBlock <= (i64)blockIdx.x) t = mid;
    else high = mid;
  }
  const Parameter p = table[t];
  M *first = (M*)p.first, *second = (M*)p.second;
  const unsigned seed = step * 0x85ebca6bu ^ (unsigned)(t + 1) * 0xc2b2ae35u;
  const i64 from = ((i64)blockIdx.x - p.firstBlock) * ADAMW_ELEMENTS, to = min(from + ADAMW_ELEMENTS, p.size);
  for (i64 i = from + threadIdx.x * 4; i < to; i += blockDim.x * 4) {
    if (i + 4 <= to) {
      float4 w = load4(p.weight + i), m = load4(first + i), v = load4(second + i), g;
      g = p.gradientType == F32 ? load4((const float*)p.gradient + i) : load4((const bf16*)p.gradient + i);
      w.x = adamw_one(w.x, g.x * scale, m.x, v.x, lr, p.decay, beta1, beta2, epsilon, correction1, correction2);
      w.y = adamw_one(w.y, g.y * scale, m.y, v.y, lr, p.decay, beta1, beta2, epsilon, correction1, correction2);
      w.z = adamw_one(w.z, g.z * scale, m.z, v.z, lr, p.decay, beta1, beta2, epsilon, correction1, correction2);
      w.w = adamw_one(w.w, g.w * scale, m.w, v.w, lr, p.decay, beta1, beta2, epsilon, correction1, correction2);
      *(float4*)(p.weight + i) = w;
      keep4<0>(first + i, m, seed, (unsigned)i);
      keep4<16>(second + i, v, seed, (unsigned)i);
      if (p.copy) *(uint2*)(p.copy + i) = make_uint2(pack_bf16(w.x, w.y), pack_bf16(w.z, w.w));
    } else {
      for (i64 j = i; j < to; j++) {
        const float g = load_any(p.gradient, p.gradientType, j) * scale;
        float m = to_float(first[j]), v = to_float(second[j]);
        p.weight[j] = adamw_one(p.weight[j], g, m, v, lr, p.decay, beta1, beta2, epsilon, correction1, correction2);
        keep1<0>(first + j, m, seed, (unsigned)j);
        keep1<16>(second + j, v, seed, (unsigned)j);
        if (p.copy) p.copy[j] = float_to_bf16(p.weight[j]);
      }
    }
  }
}

#define ADAMW(NAME, TYPE)                                                                                                    \
  extern "C" __global__ void NAME(const Parameter* table, int tensors, float lr, float beta1, float beta2, float epsilon,    \
                                  float correction1, float correction2, float scale, unsigned step, const float* further) {  \
    adamw_block<TYPE>(table, tensors, lr, beta1, beta2, epsilon, correction1, correction2, scale, step, further);            \
  }
ADAMW(adamw, float)
ADAMW(adamw_bf16, bf16)
