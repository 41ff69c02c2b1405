// Cached keys and values in pages [P, kvHeads, pageTokens, dim]: rows [N, kvHeads, dim] to places in them and back.
#include "common.cuh"

// Where an element of a row lies in the pages; elements of the rows are numbered one after another.
struct PagePlace {
  i64 row, page;
  int rest;  // of the row: head · dim + d
  __device__ __forceinline__ PagePlace(i64 i, const int* slots, int kvHeads, int pageTokens, int dim) {
    const int width = kvHeads * dim;
    row = i / width;
    rest = (int)(i - row * width);
    const int slot = slots[row], head = rest / dim;
    page = (((i64)(slot / pageTokens) * kvHeads + head) * pageTokens + slot % pageTokens) * dim + rest % dim;
  }
};

// `Stride`s: elements between rows.
extern "C" __global__ void write_pages(bf16* keyPages, bf16* valuePages, const bf16* k, i64 kStride, const bf16* v, i64 vStride,
                                       const int* slots, i64 elements, int kvHeads, int pageTokens, int dim) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < elements; i += (i64)gridDim.x * blockDim.x) {
    const PagePlace at(i, slots, kvHeads, pageTokens, dim);
    keyPages[at.page] = k[at.row * kStride + at.rest];
    valuePages[at.page] = v[at.row * vStride + at.rest];
  }
}

extern "C" __global__ void read_pages(bf16* rows, const bf16* pages, const int* slots, i64 elements, int kvHeads, int pageTokens,
                                      int dim) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < elements; i += (i64)gridDim.x * blockDim.x)
    rows[i] = pages[PagePlace(i, slots, kvHeads, pageTokens, dim).page];
}
