// Single-precision matmul, shared by the kernels of this library.
#pragma once
#include <cstdint>

// c[m,n] (+)= op(a)[m,k] · op(b)[k,n], rows of `ld` floats; op transposes where asked. With accumulate, c is added to.
void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
          const float* b, int64_t ldb, float* c, int64_t ldc, bool accumulate);

// The same by our own kernel, even where there is a BLAS. No size may be 0.
void own_gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
              const float* b, int64_t ldb, float* c, int64_t ldc, bool accumulate);
