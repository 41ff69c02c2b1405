// AdamW over every parameter of the model in one launch. The float32 master weights, both moments and, where the
// backend keeps one, the bfloat16 copy that the matrix products read are updated in the same pass.
#include "common.cuh"

struct Parameter {
  float* weight;
  const void* gradient;
  float *first, *second;
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

extern "C" __global__ void adamw(const Parameter* table, int tensors, float lr, float beta1, float beta2, float epsilon,
                                 float correction1, float correction2, float scale) {
  int t = 0, high = tensors;
  while (t + 1 < high) {
    const int mid = (t + high) / 2;
    if (table[mid].firstBlock <= (i64)blockIdx.x) t = mid;
    else high = mid;
  }
  const Parameter p = table[t];
  const i64 from = ((i64)blockIdx.x - p.firstBlock) * ADAMW_ELEMENTS, to = min(from + ADAMW_ELEMENTS, p.size);
  for (i64 i = from + threadIdx.x * 4; i < to; i += blockDim.x * 4) {
    if (i + 4 <= to) {
      float4 w = *(float4*)(p.weight + i), m = *(float4*)(p.first + i), v = *(float4*)(p.second + i), g;
      if (p.gradientType == F32) g = *(const float4*)((const float*)p.gradient + i);
      else {
        const uint2 b = *(const uint2*)((const bf16*)p.gradient + i);
        g = make_float4(__uint_as_float(b.x << 16), __uint_as_float(b.x & 0xffff0000u), __uint_as_float(b.y << 16),
                        __uint_as_float(b.y & 0xffff0000u));
      }
      w.x = adamw_one(w.x, g.x * scale, m.x, v.x, lr, p.decay, beta1, beta2, epsilon, correction1, correction2);
      w.y = adamw_one(w.y, g.y * scale, m.y, v.y, lr, p.decay, beta1, beta2, epsilon, correction1, correction2);
      w.z = adamw_one(w.z, g.z * scale, m.z, v.z, lr, p.decay, beta1, beta2, epsilon, correction1, correction2);
      w.w = adamw_one(w.w, g.w * scale, m.w, v.w, lr, p.decay, beta1, beta2, epsilon, correction1, correction2);
      *(float4*)(p.weight + i) = w;
      *(float4*)(p.first + i) = m;
      *(float4*)(p.second + i) = v;
      if (p.copy) *(uint2*)(p.copy + i) = make_uint2(pack_bf16(w.x, w.y), pack_bf16(w.z, w.w));
    } else {
      for (i64 j = i; j < to; j++) {
        const float g = load_any(p.gradient, p.gradientType, j) * scale;
        p.weight[j] = adamw_one(p.weight[j], g, p.first[j], p.second[j], lr, p.decay, beta1, beta2, epsilon, correction1, correction2);
        if (p.copy) p.copy[j] = float_to_bf16(p.weight[j]);
      }
    }
  }
}
