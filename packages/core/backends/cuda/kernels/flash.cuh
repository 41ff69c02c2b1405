// What the fused attention kernels share: their arguments, which block works on what, how tiles come to shared
// memory, and the two mechanisms' arithmetic on a tile of logits.
//
// A warpgroup works on 64 queries and 64 keys at a time. In the matrix units' accumulators a thread of a quad holds, of each row,
// columns 8j + 2c and 8j + 2c + 1 (c its number in the quad, j = 0 … 7). Keys are put into shared memory so that those
// columns are the 16 neighbouring keys 16c … 16c + 15: key 16c + 2j + e lies in row 8j + 2c + e of the tile. The scan
// along keys is then serial in registers, with two exchanges within the quad, and products do not mind the order.
#pragma once
#include "shared_memory.cuh"
#if HOPPER
#include "products_hopper.cuh"
#else
#include "products_portable.cuh"
#endif

// Given by the host: HEAD_DIM, MECHANISM, whether softmax has FIRE's, ALiBi's or the keys' own bias (FIRE, ALIBI, KEY_BIAS), and a
// block's working warpgroups, stages of its pipeline and bytes of shared memory (BLOCK_WARPGROUPS, BLOCK_STAGES, BLOCK_BYTES).
enum { STICK_BREAKING, SOFTMAX };
// Whether all keys are farther than those that the queries have attended to before, as on a ring of GPUs (stick-breaking alone):
// every query comes behind all of its keys, with what is left of its stick. Not to be taken for the far rows of block skipping.
#ifndef FARTHER
#define FARTHER 0
#endif
static_assert(!FARTHER || MECHANISM == STICK_BREAKING, "only sticks compose");
// Which rows a kernel is for, where rows that look far are gathered: see flash_levels.cuh and, in the backward, flash_far.cuh.
#define ALL_ROWS 0
#define NEAR_ROWS 1
#define FAR_ROWS 2
#ifndef LEVEL
#define LEVEL ALL_ROWS
#endif
static_assert(LEVEL == ALL_ROWS || MECHANISM == STICK_BREAKING && !FARTHER, "only sticks end");

constexpr int D = HEAD_DIM;
constexpr float LOG2E = 1.4426950408889634f;
// A group of four keys that leaves less than this of a stick has a weight 2^z beyond float32's comfort: weights are then
// held below MOST_WEIGHT. 2^-23 is what a stick loses there anyway: the next float32 below one is 1 - 2^-24.
[[maybe_unused]] constexpr float LEAST_LEFT = 0x1p-92f, MOST_WEIGHT = 0x1p23f;

// A block of queries: packed row of the first, how many, packed row of the document's first key, number of its keys,
// position of the first query among them, number of the first 64-row block, number of the stretch that it lies in (16 such blocks of a
// document, from whose rows groups are made: flash_levels.cuh, flash_far.cuh).
struct QueryItem {
  int q0, rows, k0, keys, first, rowBlock, stretch, unused;
};

struct Attention {
  const bf16 *q, *k, *v, *output, *dOutput;
  bf16 *out, *dq, *dk, *dv;
  // [N, H] remainder, or logSumExp. FARTHER, backward: written, the sum of dÃ over these keys and what is farther.
  float* rowOutput;
  // [N, H]. FARTHER, forward: the sticks before these keys; backward: the sum of dÃ over what is farther than these keys.
  const float* dRemainder;
  float* saved;              // stick-breaking: see Saved
  float2* carries;           // stick-breaking: [tile of a row block][head][TILE_ROWS]; softmax: [head][N]; far rows: [pair][TILE_ROWS]
  const int* items;          // what each block works on
  const int* carryBase;      // [row blocks] number of (row block, key tile) pairs before
  const float* slopes;       // [H] with ALIBI, or null: all zero
  i64 tokens;                // N
  int heads, kvHeads;
  int itemCount, sectionHeads, firstHead, headCount;
  int rowBlocks;             // of TILE_ROWS rows, in all
  int attendCurrent, window, skip;
  float scale;               // of the logits
  float exhausted;           // a stick below this is exhausted
  float* fireTable;          // see fire_table.cuh
  float* fireSums;           // [items, H, 2W + 1, 4]
  int fireUnits;             // W
  // Elements between tokens, of q, of k and v, of dq, of dk and dv; other tensors have [N, H, D] as it stands.
  int qStride, kvStride, dqStride, dkvStride;
  i64 keyTokens;             // M
  // Cosines, then sines, of the rotary embedding that q and k come from, [2, N or M, D / 2]: dq and dk are turned back. Or null.
  const float *turnQ, *turnK;
  const float* keyBias;  // see KeyBias
  float* dKeyBias;       // [M, key heads]
  // Of a level of block skipping, forward: see flash_levels.cuh.
  int *nearer, *kept;          // what the level before kept, and this one's
  const QueryItem* stretches;  // [stretches], each as one item; also of the backward
  const int* count;            // FAR: [stretches, H] rows
  int *nextCount, *unit;       // the same of the next level, if there is one; FAR: counts work handed out
  float* state;                // [H, N, D] output so far of rows that go on; backward: dQ of rows' far tiles
  float* parts;                // of a level's units: see Parts
  int* partsDone;              // FAR: [units in parts, groups of a unit] zeros
  int stretchCount, stretchBlocks;  // stretches, 64-row blocks of one
  int level, walk;                  // level: 0 is NEAR; tiles that a group of rows goes over
  int mostParts, partTiles;         // FAR: parts of a unit's keys at most; tiles of one at least
  // Of the backward with far rows gathered: see flash_far.cuh. There `walk` has the near tiles of a 64-row block.
  float* nearStop;              // [H, rowBlocks] the last near tile that any row of a block reached
  struct FarGroup* farGroups;   // [H, rowBlocks] those of a stretch are numbered as its blocks are
  struct Slot* farSlots;        // [H, N] the groups' rows, and before which tile the far ones of each end
  struct FarCounts* farCounts;  // zeros
  int* farGroupLists;           // [FAR_CLASSES, H · rowBlocks]
  int* farTileLists;            // [FAR_CLASSES, key heads · rowBlocks]
  int* farTiles;                // [key heads, rowBlocks] zeros: how many groups see the tile
  float2* farEnds;              // [H, N] at the near side of a row's far tiles: what is left of its stick, the sum of dÃ
  i64 farRoom;                  // pairs of a group and a tile that `carries` has room for
  float farCost;                // of such a pair, in pairs of a 64-row block and a tile
};

// A block of keys: packed row of the first, how many, its position in the document; the document's first query, number
// of queries, position of the first of them among the keys (FARTHER: the number of these), number of its first 64-row block.
struct KeyItem {
  int k0, keys, position, q0, queries, offset, rowBlock, unused;
};

// What the stick-breaking forward keeps for its backward: per row the last key tile that the stick reached and what was
// left of the stick before it, and per 64-row block the last tile that any row reached.
struct Saved {
  float *left, *tile, *stop;  // [H, N], [H, N], [H, rowBlocks]
  __device__ explicit Saved(const Attention& p)
      : left(p.saved), tile(p.saved + p.tokens * p.heads), stop(p.saved + 2 * p.tokens * p.heads) {}
};

// Blocks are ordered by sections of a few heads (whose keys and values stay in the cache), the longest first in each.
__device__ __forceinline__ void locate(const Attention& p, int block, int& item, int& head) {
  const int per = p.itemCount * p.sectionHeads, section = block / per, rest = block - section * per;
  const int width = min(p.sectionHeads, p.headCount - section * p.sectionHeads);
  item = rest / width;
  head = p.firstHead + section * p.sectionHeads + rest % width;
}
__device__ __forceinline__ void locate(const Attention& p, int& item, int& head) { locate(p, blockIdx.x, item, head); }

// Row of the tile in which its key number `key` lies, and back.
__device__ __forceinline__ constexpr int row_of_key(int key) { return (key >> 1 & 7) * 8 + (key >> 4) * 2 + (key & 1); }
__device__ __forceinline__ int key_of_row(int row) { return (row >> 1 & 3) * 16 + (row >> 3) * 2 + (row & 1); }

// The rows of a tile of one head to shared memory by THREADS threads; rows from `count` on are zero. `stride`: elements between rows.
template <bool KEYS, int THREADS = 128>
__device__ __forceinline__ void load_tile(unsigned to, const bf16* from, int stride, int count, int thread) {
  using T = Tile<D, TILE_ROWS>;
#pragma unroll 1
  for (int i = 0; i < TILE_ROWS * T::CHUNKS / THREADS; i++) {
    const int at = thread + i * THREADS, row = at / T::CHUNKS, chunk = at % T::CHUNKS;
    const bool valid = row < count;
    copy16(to + T::chunk(KEYS ? row_of_key(row) : row, chunk), from + (valid ? (i64)row * stride + chunk * 8 : 0), valid);
  }
}

// The same for tile after tile of one head: addresses are made once, so that a whole tile costs a thread few instructions.
template <bool KEYS, int THREADS = 128>
struct TileLoader {
  using T = Tile<D, TILE_ROWS>;
  static constexpr int ROWS = THREADS / T::CHUNKS;  // rows at a time
  int stride, thread;
  unsigned to;  // this thread's first chunk in the tile
  int from;     // and in the tensor
  __device__ __forceinline__ TileLoader(int stride, int thread) : stride(stride), thread(thread) {
    const int row = thread / T::CHUNKS, chunk = thread % T::CHUNKS;
    to = T::chunk(KEYS ? row_of_key(row) : row, chunk);
    from = row * stride + chunk * 8;
  }
  __device__ __forceinline__ void load(unsigned tile, const bf16* rows, int count) const {
    if (count < TILE_ROWS) return load_tile<KEYS, THREADS>(tile, rows, stride, count, thread);
    const bf16* at = rows + from;
#pragma unroll
    for (int i = 0; i < TILE_ROWS / ROWS; i++, at += ROWS * stride) {
      // The bits of a key's number that i adds are not among those of the thread's first row: they add up.
      constexpr auto further = [](int i) { return KEYS ? row_of_key(ROWS * i) : ROWS * i; };
      copy16(tile + ((to ^ T::turn(further(i)) << 4) + further(i) * T::ROW_BYTES), at);
    }
  }
};

// Where key `key` (0 … 15) of the thread's run stands in the accumulators of its upper (0) or lower (1) row.
__device__ __forceinline__ constexpr int at(int half, int key) { return 4 * (key >> 1) + 2 * half + (key & 1); }

// Product, within the quad, of what the lanes with nearer keys hold, and of all four.
__device__ __forceinline__ float nearer_product(float x, int c, float& all) {
  const float one = __shfl_xor_sync(0xffffffffu, x, 1), pair = x * one;
  const float other = __shfl_xor_sync(0xffffffffu, pair, 2);
  all = pair * other;
  return (c & 1 ? 1.f : one) * (c & 2 ? 1.f : other);
}
// Sum of what the lanes with farther keys hold, and of all four.
__device__ __forceinline__ float farther_sum(float x, int c, float& all) {
  const float one = __shfl_xor_sync(0xffffffffu, x, 1), pair = x + one;
  const float other = __shfl_xor_sync(0xffffffffu, pair, 2);
  all = pair + other;
  return (c & 1 ? one : 0.f) + (c & 2 ? other : 0.f);
}

// What four keys leave of a stick, 1/Π(1 + t), the nearest key last in the array: one reciprocal for four keys.
__device__ __forceinline__ float left_by(const float (&s)[32], int half, int group) {
  float product = 1.f + s[at(half, 4 * group + 3)];
#pragma unroll
  for (int key = 4 * group + 2; key >= 4 * group; key--) product = fmaf(product, s[at(half, key)], product);
  return reciprocal(product);
}

__device__ __forceinline__ float least_or_nan(float a, float b) {
  float least;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(least) : "f"(a), "f"(b));
  return least;
}

// Breaks at the 16 keys of each of a thread's two rows: s becomes t = 2^z (0 from key `visible` on), `leave` the share of
// the stick that each group of four keys leaves, `own` the share that all 16 leave.
template <bool MASKED>
__device__ __forceinline__ void break_rows(float (&s)[32], float scale, const int (&visible)[2], float (&leave)[2][4],
                                           float (&own)[2]) {
  float least = 1.f;
#pragma unroll
  for (int half = 0; half < 2; half++)
#pragma unroll
    for (int group = 3; group >= 0; group--) {
#pragma unroll
      for (int key = 4 * group; key < 4 * group + 4; key++) {
        const float t = exp2_fast(s[at(half, key)] * scale);
        s[at(half, key)] = MASKED && key >= visible[half] ? 0.f : t;
      }
      leave[half][group] = left_by(s, half, group);
      least = least_or_nan(least, leave[half][group]);
    }
  // Not a number where 2^z ran over beside a key whose 2^z is 0: ∞ · 0 in the product.
  if (__any_sync(0xffffffffu, !(least >= LEAST_LEFT))) {
#pragma unroll
    for (int i = 0; i < 32; i++) s[i] = least_or_nan(s[i], MOST_WEIGHT);
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int group = 0; group < 4; group++) leave[half][group] = left_by(s, half, group);
  }
#pragma unroll
  for (int half = 0; half < 2; half++)
    own[half] = (leave[half][3] * leave[half][2]) * (leave[half][1] * leave[half][0]);
}

// The same value in every lane, so that the compiler keeps what depends on it in uniform registers.
__device__ __forceinline__ int uniform(int x) { return __shfl_sync(0xffffffffu, x, 0); }
__device__ __forceinline__ KeyItem uniform(const KeyItem& i) {
  return {uniform(i.k0), uniform(i.keys), uniform(i.position), uniform(i.q0), uniform(i.queries), uniform(i.offset), uniform(i.rowBlock), 0};
}

// A thread's part of a row of dQ, dK or dV, [rows, D]. Where the rows were turned by a rotary embedding (`turn` has the cosines and
// then the sines of `tokens` rows, [2, tokens, D / 2]), the gradient is turned back: of each pair (d, d + D / 2) the thread has both.
__device__ __forceinline__ void store_gradient(bf16* to, const float (&d)[D / 2], int half, int c, float scale, const float* turn,
                                               i64 row, i64 tokens) {
#pragma unroll
  for (int j = 0; j < D / 16; j++) {
    constexpr int FAR = D / 4;  // in the accumulators, from a pair's first to its second
    const int at = 4 * j + 2 * half, column = 8 * j + 2 * c;
    float a[2] = {d[at] * scale, d[at + 1] * scale}, b[2] = {d[at + FAR] * scale, d[at + FAR + 1] * scale};
    if (turn) {
      const float2 cosine = *(const float2*)(turn + row * (D / 2) + column);
      const float2 sine = *(const float2*)(turn + (tokens + row) * (D / 2) + column);
      const float x[2] = {a[0], a[1]};
      a[0] = fmaf(b[0], sine.x, x[0] * cosine.x), a[1] = fmaf(b[1], sine.y, x[1] * cosine.y);
      b[0] = fmaf(-x[0], sine.x, b[0] * cosine.x), b[1] = fmaf(-x[1], sine.y, b[1] * cosine.y);
    }
    *(unsigned*)(to + column) = pack_bf16(a[0], a[1]);
    *(unsigned*)(to + column + D / 2) = pack_bf16(b[0], b[1]);
  }
}
#include "flash_fire.cuh"
#include "flash_key_bias.cuh"
#include "flash_levels.cuh"
