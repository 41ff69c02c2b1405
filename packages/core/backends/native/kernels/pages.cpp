// Cached keys and values in pages [P, kvHeads, pageTokens, headDim]: rows [N, kvHeads, headDim] to places in them and back.
#include <algorithm>
#include <cstdint>

namespace {

// Where a slot's row of one head begins.
inline int64_t place(int64_t slot, int64_t head, int64_t kvHeads, int64_t pageTokens, int64_t headDim) {
  return ((slot / pageTokens * kvHeads + head) * pageTokens + slot % pageTokens) * headDim;
}

}  // namespace

extern "C" void sb_write_pages(int64_t rows, int64_t kvHeads, int64_t pageTokens, int64_t headDim, const int32_t* slots,
                               const float* from, float* pages) {
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t head = 0; head < kvHeads; head++) {
      const float* source = from + (row * kvHeads + head) * headDim;
      std::copy(source, source + headDim, pages + place(slots[row], head, kvHeads, pageTokens, headDim));
    }
  }
}

extern "C" void sb_read_pages(int64_t rows, int64_t kvHeads, int64_t pageTokens, int64_t headDim, const int32_t* slots,
                              const float* pages, float* to) {
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t head = 0; head < kvHeads; head++) {
      const float* source = pages + place(slots[row], head, kvHeads, pageTokens, headDim);
      std::copy(source, source + headDim, to + (row * kvHeads + head) * headDim);
    }
  }
}
