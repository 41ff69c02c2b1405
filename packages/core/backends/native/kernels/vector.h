// This machine's vectors, through the compiler's extensions: 16 floats with AVX-512, 8 with AVX2, 4 elsewhere.
#pragma once
#include <cstdint>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef float LooseFloats __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Floats load(const float* from) { return *reinterpret_cast<const LooseFloats*>(from); }
inline void store(float* to, Floats x) { *reinterpret_cast<LooseFloats*>(to) = x; }
inline Floats splat(float x) { return x - Floats{}; }
inline Ints splat(int32_t x) { return x - Ints{}; }

// 0, 1, 2, …
inline Ints lane_numbers() {
  Ints numbers{};
  for (int i = 0; i < kLanes; i++) numbers[i] = i;
  return numbers;
}

// Compared this way round so that a NaN in x stays NaN.
inline Floats at_least(Floats x, float low) { return x < low ? splat(low) : x; }
inline Floats at_most(Floats x, float high) { return x > high ? splat(high) : x; }
inline Floats maximum(Floats a, Floats b) { return a > b ? a : b; }

inline float largest(Floats x) {
  float most = x[0];
  for (int i = 1; i < kLanes; i++) most = x[i] > most ? x[i] : most;
  return most;
}

inline double sum_of(Floats x) {
  double total = 0;
  for (int i = 0; i < kLanes; i++) total += x[i];
  return total;
}

// Lanes of two vectors in another order, counted through both.
#if defined(__clang__) || __GNUC__ >= 12
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (Ints){__VA_ARGS__})
#endif

// The sum of each vector's lanes: its halves are added until one lane is left, those of all four side by side.
inline void sum_lanes(Floats a, Floats b, Floats c, Floats d, float* sums) {
#if defined(__AVX512F__)
  const Floats ab = PICK(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                    PICK(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const Floats cd = PICK(c, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                    PICK(c, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  Floats all = PICK(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
               PICK(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  all += PICK(all, all, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  all += PICK(all, all, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif defined(__AVX2__)
  const Floats ab = PICK(a, b, 0, 1, 2, 3, 8, 9, 10, 11) + PICK(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  const Floats cd = PICK(c, d, 0, 1, 2, 3, 8, 9, 10, 11) + PICK(c, d, 4, 5, 6, 7, 12, 13, 14, 15);
  Floats all = PICK(ab, cd, 0, 1, 4, 5, 8, 9, 12, 13) + PICK(ab, cd, 2, 3, 6, 7, 10, 11, 14, 15);
  all += PICK(all, all, 1, 0, 3, 2, 5, 4, 7, 6);
#else
  const Floats ab = PICK(a, b, 0, 1, 4, 5) + PICK(a, b, 2, 3, 6, 7);
  const Floats cd = PICK(c, d, 0, 1, 4, 5) + PICK(c, d, 2, 3, 6, 7);
  const Floats all = PICK(ab, cd, 0, 2, 4, 6) + PICK(ab, cd, 1, 3, 5, 7);
#endif
  for (int o = 0; o < 4; o++) sums[o] = all[o * kLanes / 4];
}

inline Floats absolute(Floats x) { return (Floats)((Ints)x & 0x7fffffff); }

// 2^x within 2 ulp for x in [−125, 126]; outside, the value at that end.
inline Floats exp2_of(Floats x) {
  const Floats clamped = at_most(at_least(x, -125.0f), 126.0f);
  const Floats shifted = clamped + 12582912.0f;  // rounds to the nearest integer, which its low bits now hold
  const Floats f = clamped - (shifted - 12582912.0f);
  Floats p = splat(1.5403530393381608e-4f);
  p = p * f + 1.3333558146428443e-3f;
  p = p * f + 9.6181291076284772e-3f;
  p = p * f + 5.5504108664821580e-2f;
  p = p * f + 2.4022650695910072e-1f;
  p = p * f + 6.9314718055994531e-1f;
  p = p * f + 1.0f;
  return (Floats)((Ints)p + ((Ints)shifted << 23));
}

// The same, but 0 below −125, which a masked key's weight must be.
inline Floats exp2_or_zero(Floats x) { return x < -125.0f ? Floats{} : exp2_of(x); }

constexpr float kLog2E = 1.44269504088896341f;

// While one exists, this thread treats denormal numbers as 0: arithmetic on them is many times slower, and the last 1e-38 of
// a stick does not matter. JavaScript runs on one of these threads, so the destructor restores the old state.
class FlushTinyToZero {
 public:
#if defined(__SSE__)
  FlushTinyToZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushTinyToZero() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  FlushTinyToZero() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | (uint64_t{1} << 24)));
  }
  ~FlushTinyToZero() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#else
  FlushTinyToZero() {}
#endif
};
