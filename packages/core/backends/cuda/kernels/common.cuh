// What every kernel of the backend shares: bfloat16 kept as 16 raw bits (so that no toolkit header is needed where only
// the run-time compiler is installed), 16-byte loads and stores of eight of them, and reductions in a fixed order,
// which keep two runs bit-identical.
#pragma once

typedef unsigned short bf16;
typedef long long i64;
static_assert(VECTOR == 8, "load8 and store8 move eight elements, as the host counts threads");

__device__ __forceinline__ float bf16_to_float(bf16 x) { return __uint_as_float((unsigned)x << 16); }

// lo goes to the lower 16 bits; round to nearest even.
__device__ __forceinline__ unsigned pack_bf16(float lo, float hi) {
  unsigned r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
__device__ __forceinline__ bf16 float_to_bf16(float x) { return (bf16)(pack_bf16(x, 0.f) & 0xffffu); }

__device__ __forceinline__ void unpack8(uint4 v, float (&x)[8]) {
  const unsigned w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    x[2 * i] = __uint_as_float(w[i] << 16);
    x[2 * i + 1] = __uint_as_float(w[i] & 0xffff0000u);
  }
}
__device__ __forceinline__ uint4 pack8(const float (&x)[8]) {
  return make_uint4(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7]));
}
__device__ __forceinline__ void load8(const bf16* p, float (&x)[8]) { unpack8(*reinterpret_cast<const uint4*>(p), x); }
__device__ __forceinline__ void store8(bf16* p, const float (&x)[8]) { *reinterpret_cast<uint4*>(p) = pack8(x); }

__device__ __forceinline__ void load8(const float* p, float (&x)[8]) {
  const float4 a = *reinterpret_cast<const float4*>(p), b = *reinterpret_cast<const float4*>(p + 4);
  x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w, x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}
__device__ __forceinline__ void store8(float* p, const float (&x)[8]) {
  *reinterpret_cast<float4*>(p) = make_float4(x[0], x[1], x[2], x[3]);
  *reinterpret_cast<float4*>(p + 4) = make_float4(x[4], x[5], x[6], x[7]);
}

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return bf16_to_float(x); }

// Eight elements of a row at column c. Rows whose length is no multiple of eight are not aligned: one by one, zero beyond.
// ALIGNED says it beforehand, for loads that must not wait for each other at the end of a branch.
template <bool ALIGNED, typename T>
__device__ __forceinline__ void load_row(const T* row, i64 c, i64 columns, float (&x)[8]) {
  if constexpr (ALIGNED) {
    load8(row + c, x);
  } else {
#pragma unroll
    for (int j = 0; j < 8; j++) x[j] = c + j < columns ? to_float(row[c + j]) : 0.f;
  }
}
template <typename T>
__device__ __forceinline__ void load_row(const T* row, i64 c, i64 columns, float (&x)[8]) {
  if (columns % 8 == 0) load_row<true>(row, c, columns, x);
  else load_row<false>(row, c, columns, x);
}
// The same, left as they lie: half the registers for what is loaded well before it is needed.
template <bool ALIGNED>
__device__ __forceinline__ uint4 load_packed(const bf16* row, i64 c, i64 columns) {
  if constexpr (ALIGNED) {
    return *reinterpret_cast<const uint4*>(row + c);
  } else {
    unsigned w[4] = {};
#pragma unroll
    for (int j = 0; j < 8; j++)
      if (c + j < columns) w[j / 2] |= (unsigned)row[c + j] << (j % 2 * 16);
    return make_uint4(w[0], w[1], w[2], w[3]);
  }
}
template <bool ALIGNED>
__device__ __forceinline__ void store_row(bf16* row, i64 c, i64 columns, const float (&x)[8]) {
  if constexpr (ALIGNED) {
    store8(row + c, x);
  } else {
#pragma unroll
    for (int j = 0; j < 8; j++)
      if (c + j < columns) row[c + j] = float_to_bf16(x[j]);
  }
}
__device__ __forceinline__ void store_row(bf16* row, i64 c, i64 columns, const float (&x)[8]) {
  if (columns % 8 == 0) store_row<true>(row, c, columns, x);
  else store_row<false>(row, c, columns, x);
}

// NVRTC has no header that defines it.
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

// A kernel of a step of generation may be launched `early`: it begins while the one before it still runs (programmatic
// dependent launch, from compute capability 9.0 on). Before `await_previous` it must read nothing that the kernels of the step
// make, and write nothing; at least one block calls it, or the kernel behind would not wait for the one before.
// Of a kernel that was launched otherwise both do nothing.
__device__ __forceinline__ void await_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// From here on the next kernel may begin, as soon as every block has come so far.
__device__ __forceinline__ void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// How a tensor is stored; the host names the same numbers in storage.ts.
enum StorageType { F32, BF16, I32, U8 };

__device__ __forceinline__ float load_any(const void* p, int type, i64 i) {
  if (type == BF16) return bf16_to_float(((const bf16*)p)[i]);
  if (type == F32) return ((const float*)p)[i];
  if (type == I32) return (float)((const int*)p)[i];
  return (float)((const unsigned char*)p)[i];
}
__device__ __forceinline__ void store_any(void* p, int type, i64 i, float x) {
  if (type == BF16) ((bf16*)p)[i] = float_to_bf16(x);
  else if (type == F32) ((float*)p)[i] = x;
  else if (type == I32) ((int*)p)[i] = (int)x;
  else ((unsigned char*)p)[i] = x != 0.f;
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + __expf(-x)); }
// Turns gate and up into their gradients, dy being that of silu(gate)·up.
__device__ __forceinline__ void swiglu_gradient(float& gate, float& up, float dy) {
  const float s = sigmoid(gate), silu = gate * s;
  gate = dy * up * (s + silu * (1.f - s));
  up = dy * silu;
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int o = 16; o; o >>= 1) x += __shfl_xor_sync(0xffffffffu, x, o);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int o = 16; o; o >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, o));
  return x;
}
// Sum over the block, the same in every thread. The block is a whole number of warps.
__device__ __forceinline__ float block_sum(float x) {
  __shared__ float part[32];
  x = warp_sum(x);
  __syncthreads();
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = x;
  __syncthreads();
  float total = 0.f;
  for (int w = 0; w < (int)(blockDim.x >> 5); w++) total += part[w];
  return total;
}
__device__ __forceinline__ float block_max(float x) {
  __shared__ float part[32];
  x = warp_max(x);
  __syncthreads();
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = x;
  __syncthreads();
  float most = part[0];
  for (int w = 1; w < (int)(blockDim.x >> 5); w++) most = fmaxf(most, part[w]);
  return most;
}
