// The left operand of a grouped matmul where its rows are those of tokens, brought from where these lie by cp.async.
#pragma once
#include "grouped.cuh"

constexpr int GATHERING = 128;  // threads
__device__ __forceinline__ void gather16(unsigned to, const bf16* from, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void gather16(unsigned to, const char* from) {
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
// Arrives once what this thread has asked for is there.
__device__ __forceinline__ void arrive_when_copied(unsigned barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

// Eight pieces of 16 bytes for each thread of the producing warpgroup. Of a row, PIECES threads have one each; a thread's rows are
// 128 / PIECES apart. LENGTH: of the tile, not along the inner dimension.
template <int KIND, int LENGTH>
struct Gather {
  static constexpr bool ROWS_A = Form<KIND>::ROWS_A;
  static constexpr int PIECES = ROWS_A ? LENGTH / 8 : STEP / 8, APART = GATHERING / PIECES, COUNT = 8;
  static constexpr int OF_WARP = 32 / PIECES;  // rows of a warp at a time
  const Grouped& p;
  const int warp, lane, row, piece;
  const unsigned place;  // of the first piece in a stage
  unsigned tokens[COUNT];
  const unsigned apart;  // bytes between rows
  bool whole = false;    // whether all of the warp's rows are there

  __device__ Gather(const Grouped& p, int thread)
      : p(p), warp(thread / 32), lane(thread % 32), row(thread / PIECES), piece(thread % PIECES),
        place(Tile<ROWS_A ? LENGTH : STEP, ROWS_A ? STEP : LENGTH>::chunk(row, piece)), apart((unsigned)p.stride * 2) {}

  // One of the warp's rows for each lane: the choice that it is. Rows from `first` on, up to `end`.
  __device__ __forceinline__ int ask(int first, int end) const {
    const int at = first + warp * OF_WARP + lane % OF_WARP + lane / OF_WARP % COUNT * APART;
    return at < end ? p.order[at] : -1;
  }
  __device__ __forceinline__ void take(int choice) {
    const int token = choice < 0 ? -1 : choice / p.active;
    whole = __all_sync(0xffffffffu, choice >= 0);
#pragma unroll
    for (int i = 0; i < COUNT; i++) tokens[i] = __shfl_sync(0xffffffffu, token, lane / PIECES + OF_WARP * i);
  }
  // `column`: the first of the tile, of which there are `columns` in all.
  __device__ __forceinline__ void copy(unsigned stage, int column, int columns) const {
    const int own = column + 8 * piece;
    const bf16* from = p.a + own;
    if (whole && column + (ROWS_A ? LENGTH : STEP) <= columns) {
      const char* first = reinterpret_cast<const char*>(from);
#pragma unroll
      for (int i = 0; i < COUNT; i++) gather16(stage + place + i * APART * 128, first + (unsigned long long)tokens[i] * apart);
      return;
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      const bool valid = tokens[i] != 0xffffffffu && own < columns;
      gather16(stage + place + i * APART * 128, valid ? from + (i64)tokens[i] * p.stride : p.a, valid);
    }
  }
};
