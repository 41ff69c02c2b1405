// The matmuls of a mixture's experts and what becomes of each tile while it is in registers: SwiGLU, its gradient, and the
// gradient of the gates. That needs no expert's output: it is ⟨dy, output·hidden⟩ = ⟨outputᵀ·dy, hidden⟩, and the second is at hand
// (as in https://arxiv.org/abs/2512.14080).
#include "grouped.cuh"
#if HOPPER
#include "grouped_hopper.cuh"
#else
#include "grouped_portable.cuh"
#endif

__device__ __forceinline__ float low_half(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_half(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

constexpr float LOG2E = 1.44269504f;
// By approximate exponential and reciprocal: the division of common.cuh's sigmoid costs as much as the rest of an epilogue.
__device__ __forceinline__ float fast_sigmoid(float x) { return reciprocal(1.f + exp2_fast(-LOG2E * x)); }

// What becomes of a tile's sums, of which a thread has two rows, in the order of their columns. `base`: the first of the tile's
// rows that the warpgroup has.
struct Epilogue {
  const Grouped& p;
  const GroupedTile& tile;
  Way& way;
  const int row, rows;  // the warpgroup's first row, and how many there are up to the expert's or the weight's end
  __device__ Epilogue(const Grouped& p, const GroupedTile& tile, Way& way, int base)
      : p(p), tile(tile), way(way), row(tile.row + base), rows(tile.end - tile.row - base) {}
  // Of the first of the thread's rows; the second is eight further on.
  __device__ __forceinline__ int own() const { return 16 * way.warp + way.lane / 4; }

  // Gate and up side by side, and the other.
  __device__ __forceinline__ void store(const unsigned (&gate)[16], const unsigned (&up)[16], const unsigned (&hidden)[16], int column) const {
    const int left = p.columns - column;
    bf16* wide = p.wide + (i64)row * 2 * p.columns + column;
    way.rows(gate, wide, 2 * p.columns, rows, left, 0, column, 0, row);
    way.rows(up, wide + p.columns, 2 * p.columns, rows, left, 0, column, 1, row);
    way.rows(hidden, p.hidden + (i64)row * p.columns + column, p.columns, rows, left, 1, column, 0, row);
  }
};

struct StoreRows : Epilogue {
  using Epilogue::Epilogue;
  __device__ void operator()(const float (&sums)[SUMS]) const {
#pragma unroll
    for (int g = 0; g < SUMS / 32; g++) {
      unsigned words[16];
#pragma unroll
      for (int i = 0; i < 16; i++) words[i] = pack_bf16(sums[32 * g + 2 * i], sums[32 * g + 2 * i + 1]);
      const int column = tile.column + 64 * g;
      way.rows(words, p.out + (i64)row * p.columns + column, p.columns, rows, p.columns - column, 0, column, 0, row);
    }
  }
};

struct StoreGated : Epilogue {
  using Epilogue::Epilogue;
  // The first half of the sums are gate's, the second up's of the same columns.
  __device__ void operator()(const float (&sums)[SUMS]) const {
#pragma unroll
    for (int g = 0; g < SUMS / 64; g++) {
      unsigned gate[16], up[16], hidden[16];
#pragma unroll
      for (int i = 0; i < 16; i++) {
        const float g0 = sums[32 * g + 2 * i], g1 = sums[32 * g + 2 * i + 1];
        const float u0 = sums[SUMS / 2 + 32 * g + 2 * i], u1 = sums[SUMS / 2 + 32 * g + 2 * i + 1];
        gate[i] = pack_bf16(g0, g1);
        up[i] = pack_bf16(u0, u1);
        hidden[i] = pack_bf16(g0 * fast_sigmoid(g0) * u0, g1 * fast_sigmoid(g1) * u1);
      }
      store(gate, up, hidden, tile.column + 64 * g);
    }
  }
};

struct StoreGradients : Epilogue {
  using Epilogue::Epilogue;
  float weight[2];  // the gates of the thread's rows, asked for before the matmuls

  __device__ StoreGradients(const Grouped& p, const GroupedTile& tile, Way& way, int base) : Epilogue(p, tile, way, base) {
#pragma unroll
    for (int h = 0; h < 2; h++) weight[h] = own() + 8 * h < rows ? p.gates[p.order[row + own() + 8 * h]] : 0.f;
  }

  template <class Opened>
  __device__ void operator()(const float (&sums)[SUMS], Opened& opened) const {
    float share[2] = {0.f, 0.f};
#pragma unroll
    for (int g = 0; g < SUMS / 32; g++) {
      unsigned gate[16], up[16], hidden[16];
      opened.take(way.warp, way.lane, gate, up);
#pragma unroll
      for (int i = 0; i < 16; i++) {
        // Word i is of the first row where it is even.
        const float w = weight[i % 2];
        float x[2] = {low_half(gate[i]), high_half(gate[i])}, y[2] = {low_half(up[i]), high_half(up[i])}, product[2];
#pragma unroll
        for (int j = 0; j < 2; j++) {
          const float back = sums[32 * g + 2 * i + j];
          const float s = fast_sigmoid(x[j]), silu = x[j] * s, scaled = w * back;
          product[j] = silu * y[j];
          share[i % 2] = fmaf(back, product[j], share[i % 2]);
          product[j] *= w;
          x[j] = scaled * y[j] * (s + silu * (1.f - s));
          y[j] = scaled * silu;
        }
        gate[i] = pack_bf16(x[0], x[1]);
        up[i] = pack_bf16(y[0], y[1]);
        hidden[i] = pack_bf16(product[0], product[1]);
      }
      opened.give(*this, gate, up, hidden, tile.column + 64 * g);
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
      share[h] += __shfl_xor_sync(0xffffffffu, share[h], 1);
      share[h] += __shfl_xor_sync(0xffffffffu, share[h], 2);
      if (way.lane % 4 == 0 && own() + 8 * h < rows) p.sums[tile.number * p.rows + row + own() + 8 * h] = share[h];
    }
  }
};

#if HOPPER
__device__ __forceinline__ void write_shared(unsigned to, float x) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(x) : "memory"); }
__device__ __forceinline__ void write_shared(unsigned to, float x, float y) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(x), "f"(y) : "memory");
}

// 16 rows of 32 columns at a time, swizzled by 128 bytes.
struct SendWeights : Epilogue {
  using Epilogue::Epilogue;
  __device__ void operator()(const float (&sums)[SUMS]) const {
    const int lane = way.lane;
#pragma unroll
    for (int b = 0; b < SUMS / 16; b++) {
      const unsigned at = way.acquire() + way.warp * Way::PIECE;
#pragma unroll
      for (int j = 0; j < 4; j++)
#pragma unroll
        for (int h = 0; h < 2; h++)
          write_shared(at + (lane / 4 + 8 * h) * 128 + ((2 * j + lane % 4 / 2) ^ lane / 4) * 16 + lane % 2 * 8, sums[16 * b + 4 * j + 2 * h],
                       sums[16 * b + 4 * j + 2 * h + 1]);
      way.send([&] {
        if (p.accumulate) add_box(*way.maps[0], at, tile.column + 32 * b, row + 16 * way.warp, tile.expert);
        else store_box(*way.maps[0], at, tile.column + 32 * b, row + 16 * way.warp, tile.expert);
      });
    }
  }
};

// 32 columns of 16 rows at a time, the rows side by side, swizzled by 64 bytes. Of two neighbouring columns, odd threads write the
// second first: those of a warp that write at the same time then have all banks.
struct SendUpWeights : Epilogue {
  using Epilogue::Epilogue;
  __device__ void operator()(const float (&sums)[SUMS]) const {
    const int lane = way.lane, odd = lane & 1;
#pragma unroll
    for (int b = 0; b < SUMS / 16; b++) {
      const unsigned at = way.acquire() + way.warp * Way::PIECE;
#pragma unroll
      for (int j = 0; j < 4; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const float one = sums[16 * b + 4 * j + 2 * h], other = sums[16 * b + 4 * j + 2 * h + 1];
          const unsigned to = at + (8 * j + 2 * (lane & 3)) * 64 + (((lane >> 4) + 2 * h) ^ (lane & 3)) * 16 + (lane >> 2 & 3) * 4;
          write_shared(to + odd * 64, odd ? other : one);
          write_shared(to + (1 - odd) * 64, odd ? one : other);
        }
      way.send([&] {
        if (p.accumulate) add_box(*way.maps[0], at, row + 16 * way.warp, tile.column + 32 * b, tile.expert);
        else store_box(*way.maps[0], at, row + 16 * way.warp, tile.column + 32 * b, tile.expert);
      });
    }
  }
};

using DownWeights = SendWeights;
using UpWeights = SendUpWeights;
#else
struct StoreWeights : Epilogue {
  using Epilogue::Epilogue;
  __device__ void operator()(const float (&sums)[SUMS]) const {
    constexpr int AT_ONCE = 8;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      if (own() + 8 * h >= rows) continue;
      const int first = tile.column + 2 * (way.lane % 4);
      float* to = p.sums + ((i64)tile.expert * p.height + row + own() + 8 * h) * p.columns + first;
#pragma unroll
      for (int j = 0; j < SUMS / 4; j += AT_ONCE) {
        float2 before[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
          before[i] = p.accumulate && first + 8 * (j + i) < p.columns ? *reinterpret_cast<const float2*>(to + 8 * (j + i))
                                                                     : make_float2(0.f, 0.f);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
          if (first + 8 * (j + i) < p.columns)
            *reinterpret_cast<float2*>(to + 8 * (j + i)) =
                make_float2(before[i].x + sums[4 * (j + i) + 2 * h], before[i].y + sums[4 * (j + i) + 2 * h + 1]);
      }
    }
  }
};

using DownWeights = StoreWeights;
using UpWeights = StoreWeights;
#endif

#if HOPPER
#define KERNEL(name, kind, epilogue)                                                                       \
  extern "C" __global__ void __launch_bounds__(THREADS, 1) __cluster_dims__(CLUSTER, 1, 1)                 \
      name(const __grid_constant__ Grouped p, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, \
           const __grid_constant__ TensorMap open, const __grid_constant__ TensorMap first,                \
           const __grid_constant__ TensorMap second) {                                                     \
    grouped<kind, epilogue>(p, a, b, open, first, second);                                                 \
  }
#else
#define KERNEL(name, kind, epilogue)                                                                      \
  extern "C" __global__ void __launch_bounds__(THREADS) name(const __grid_constant__ Grouped p) { grouped<kind, epilogue>(p); }
#endif
KERNEL(mixture_up, UP, StoreGated)
KERNEL(mixture_down, DOWN, StoreRows)
KERNEL(mixture_down_grad, DOWN_GRAD, StoreGradients)
KERNEL(mixture_up_grad, UP_GRAD, StoreRows)
KERNEL(mixture_down_weights, DOWN_WEIGHTS, DownWeights)
KERNEL(mixture_up_weights, UP_WEIGHTS, UpWeights)
