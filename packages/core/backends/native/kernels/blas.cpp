// Matmul by the system's BLAS, where one was found, or by our own kernel. The BLAS runs on one thread: c is cut into pieces
// by a rule that depends on the shapes alone, and the pool's threads take the pieces. So here, too, results do not depend on
// the number of threads, and no second pool of threads competes with ours for the cores.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "gemm.h"
#include "parallel.h"

namespace {

// The C interface's own numbers for row-major order, as it stands, transposed.
constexpr int kRowMajor = 101, kAsIs = 111, kTransposed = 112;
using Sgemm = void (*)(int order, int transposeA, int transposeB, int m, int n, int k, float alpha, const float* a,
                       int lda, const float* b, int ldb, float beta, float* c, int ldc);
Sgemm blas = nullptr;

template <typename Function>
Function symbol(void* library, const char* name) {
  void* found = dlsym(library, name);
  Function function = nullptr;
  static_assert(sizeof(found) == sizeof(function), "a function's address is a pointer");
  std::memcpy(&function, &found, sizeof(found));
  return function;
}

// Pieces small enough to occupy several threads, large enough that copying operands into panels costs little.
struct Cut {
  int64_t rows, columns;
  Cut(int64_t m, int64_t n) : rows(std::min<int64_t>(m, 512)), columns(std::min<int64_t>(n, 1024)) {
    while (((m + rows - 1) / rows) * ((n + columns - 1) / columns) < 8 && (rows > 96 || columns > 192)) {
      if (rows * 2 > columns) rows = (rows + 1) / 2;
      else columns = (columns + 1) / 2;
    }
  }
};

void blas_gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
               const float* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  const Cut cut(m, n);
  const int64_t down = (m + cut.rows - 1) / cut.rows, across = (n + cut.columns - 1) / cut.columns;
  parallel_for(down * across, [&](int64_t item) {
    const int64_t i = item % down * cut.rows, j = item / down * cut.columns;
    blas(kRowMajor, transposeA ? kTransposed : kAsIs, transposeB ? kTransposed : kAsIs,
         static_cast<int>(std::min(cut.rows, m - i)), static_cast<int>(std::min(cut.columns, n - j)),
         static_cast<int>(k), 1.0f, a + (transposeA ? i : i * lda), static_cast<int>(lda),
         b + (transposeB ? j * ldb : j), static_cast<int>(ldb), accumulate ? 1.0f : 0.0f, c + i * ldc + j,
         static_cast<int>(ldc));
  });
}

}  // namespace

void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
          const float* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (int64_t i = 0; i < m && !accumulate; i++) std::fill(c + i * ldc, c + i * ldc + n, 0.0f);
    return;
  }
  const bool fits = std::max({m, n, k, lda, ldb, ldc}) <= INT32_MAX;
  (blas && fits ? blas_gemm : own_gemm)(transposeA, transposeB, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
}

extern "C" void sb_gemm(int32_t transposeA, int32_t transposeB, int64_t m, int64_t n, int64_t k, const float* a,
                        int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int32_t accumulate) {
  gemm(transposeA != 0, transposeB != 0, m, n, k, a, lda, b, ldb, c, ldc, accumulate != 0);
}

// Chooses the BLAS at this path or of this name, or with null our own kernel. `description` [size] receives what the library
// says of itself, perhaps nothing. Returns 1 on success, 0 if it does not load or has no cblas_sgemm.
extern "C" int32_t sb_use_blas(const char* path, char* description, int64_t size) {
  blas = nullptr;
  description[0] = 0;
  if (!path) return 1;
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) return 0;
  const auto sgemm = symbol<Sgemm>(library, "cblas_sgemm");
  if (!sgemm) {
    dlclose(library);
    return 0;
  }
  // OpenBLAS, MKL and BLIS, each by its own names.
  using SetThreads = void (*)(int);
  for (const char* name : {"openblas_set_num_threads", "MKL_Set_Num_Threads"}) {
    if (const auto setThreads = symbol<SetThreads>(library, name)) setThreads(1);
  }
  if (const auto setThreads = symbol<void (*)(int64_t)>(library, "bli_thread_set_num_threads")) setThreads(1);
  if (const auto config = symbol<const char* (*)()>(library, "openblas_get_config"))
    std::snprintf(description, size, "%s", config());
  else if (const auto version = symbol<void (*)(char*, int)>(library, "MKL_Get_Version_String"))
    version(description, static_cast<int>(size));
  else if (const auto version = symbol<const char* (*)()>(library, "bli_info_get_version_str"))
    std::snprintf(description, size, "BLIS %s", version());
  blas = sgemm;
  return 1;
}
