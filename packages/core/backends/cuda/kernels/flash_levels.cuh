// Block skipping in levels, forward. Most sticks end within a few tiles, a few rows look far, and 64 neighbouring queries walk as far as
// the farthest of them. So the NEAR level ends after `walk` tiles, with whoever has something left of a stick; a FAR level packs
// those rows, from all over a stretch of a document, densely into groups of 64, which walk on from where each row stopped. What is left
// after a FAR level's `walk` tiles goes to the next one; the last goes to the document's first key.
//
// Rows of a group lie in order, the stretch's last block first, so that the first of a group has the farthest to go; a key is
// masked for a row that has seen it, which is why groups do not reach across stretches. Who is in which group follows from the sticks
// alone: results are the same in every run. A row's bits do not depend on who is in its group, but for the last level's parts.
#pragma once

// A row of a group: its number among the tokens, and the tile before which it stands.
struct Slot {
  int row, upper;
};

// What a level leaves for the next one, by 64-row blocks, NEAR, or by groups, FAR: those of a stretch are numbered as its blocks are.
struct LevelState {
  int* stop;       // NEAR: [H, rowBlocks] the last tile of the walk
  unsigned* mask;  // [H, rowBlocks, 2] which rows go on
  Slot* slots;     // FAR: [H, N] the groups' rows, and where those that go on stand
  __device__ LevelState(const Attention& p, int* at) {
    const i64 blocks = (i64)p.heads * p.rowBlocks;
    stop = at, mask = (unsigned*)(at + blocks + (blocks & 1)), slots = (Slot*)(mask + 2 * blocks);
  }
};

// Where a level has few groups of rows, which walk on to the document's first key, the longest of them would hold up everybody: their
// keys are dealt out in parts that are worked on side by side, each but the nearest as if its sticks were whole. Whoever comes last
// puts them together: o = o₀ + left₀ · o₁ + left₀ · left₁ · o₂ + …, as far as sticks go.
struct Parts {
  static constexpr int FLOATS = TILE_ROWS * (D + 3);
  float* at;
  __device__ __forceinline__ Parts(const Attention& p, int number, int part)
      : at(p.parts + (i64)(number * p.partCount + part) * FLOATS) {}
  // Outputs as the accumulators lie.
  __device__ __forceinline__ float4* output(int j, int thread) const { return (float4*)at + j * 128 + thread; }
  // Of each row what the part leaves, the last tile that its stick reached, and what was left before it.
  __device__ __forceinline__ float* of_row(int row) const { return at + TILE_ROWS * D + row * 3; }
};

// Shared memory of a FAR block.
struct FarShared {
  Slot slots[TILE_ROWS];
  Slot marks[TILE_ROWS];  // where the rows of a source begin: its number, and the slot of its first row, which may lie before
  unsigned marked[2];
  int sums[32];
  int pair, group, rows;
  int number, part;  // of the group among all of the level; of its keys, or -1: all
  bool last;         // whether this is the last part to be done
  bool inParts;      // whether this level's groups are worked on in parts
};

// What a thread has of a row's output so far.
__device__ __forceinline__ void load_state(const Attention& p, float (&o)[D / 2], int h, int head, i64 row, int c) {
  const float* from = p.state + (head * p.tokens + row) * D + 2 * c;
#pragma unroll
  for (int j = 0; j < D / 8; j++) {
    const float2 x = *(const float2*)(from + 8 * j);
    o[4 * j + 2 * h] = x.x, o[4 * j + 2 * h + 1] = x.y;
  }
}
__device__ __forceinline__ void store_state(const Attention& p, const float (&o)[D / 2], int h, int head, i64 row, int c) {
  float* to = p.state + (head * p.tokens + row) * D + 2 * c;
#pragma unroll
  for (int j = 0; j < D / 8; j++) *(float2*)(to + 8 * j) = make_float2(o[4 * j + 2 * h], o[4 * j + 2 * h + 1]);
}

// A group's rows of one head to a tile in shared memory by 128 threads.
__device__ __forceinline__ void load_rows(unsigned to, const bf16* from, int stride, int count, int thread, const Slot* slots) {
  using T = Tile<D, TILE_ROWS>;
#pragma unroll
  for (int i = 0; i < TILE_ROWS * T::CHUNKS / 128; i++) {
    const int at = thread + i * 128, row = at / T::CHUNKS, chunk = at % T::CHUNKS;
    copy16(to + T::chunk(row, chunk), from + (i64)slots[row].row * stride + chunk * 8, row < count);
  }
}

#if LEVEL == FAR_ROWS
// Number of the n-th set bit.
__device__ __forceinline__ int nth_bit(unsigned low, unsigned high, int n) {
  int at = 0;
  unsigned bits = low;
  if (n >= __popc(low)) n -= __popc(low), bits = high, at = 32;
#pragma unroll
  for (int width = 16; width; width /= 2) {
    const int count = __popc(bits & ((1u << width) - 1));
    if (n >= count) n -= count, bits >>= width, at += width;
  }
  return at;
}

// Whether a level's groups are so few that their keys are worked on in parts. All of a warp together.
__device__ __forceinline__ bool in_parts(const Attention& p, int lane) {
  if (p.partCount <= 1) return false;
  int sum = 0;
  for (int i = lane; i < p.stretchCount * p.heads; i += 32) sum += tiles_of(p.count[i]);
  return (int)__reduce_add_sync(0xffffffffu, sum) <= p.partGroups;
}

// Which stretch and head (`pair`), and which of its groups, is number `unit` of a level: the first group of every pair, whose rows are
// the last, then the second of every pair that has one, and so on. All of a warp together; false where there is no such group.
__device__ __forceinline__ bool find_unit(const Attention& p, int unit, int lane, int& pair, int& group, int& rows) {
  const int pairs = p.stretchCount * p.heads;
  const auto groups_of = [&](int i) { return i < pairs ? tiles_of(p.count[i]) : 0; };
  // Groups before number `group` of their pairs.
  const auto before = [&](int group) {
    int sum = 0;
    for (int i = lane; i < pairs; i += 32) sum += min(groups_of(i), group);
    return (int)__reduce_add_sync(0xffffffffu, sum);
  };
  int low = 0, high = p.stretchBlocks;  // before(low) ≤ unit < before(high)
  if (unit >= before(high)) return false;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (before(middle) <= unit) low = middle;
    else high = middle;
  }
  int rest = unit - before(low);
  for (int base = 0; base < pairs; base += 32) {
    const unsigned there = __ballot_sync(0xffffffffu, groups_of(base + lane) > low);
    if (rest < __popc(there)) {
      pair = base + nth_bit(there, 0, rest);
      break;
    }
    rest -= __popc(there);
  }
  group = low;
  rows = min(TILE_ROWS, p.count[pair] - low * TILE_ROWS);
  return true;
}

// Fills the slots of a group from the level before, whose rows that go on are counted from the stretch's end. By all THREADS of the
// block.
template <int THREADS>
__device__ __forceinline__ void gather(const Attention& p, const QueryItem& stretch, int head, int group, int rows, FarShared& far) {
  const LevelState from(p, p.nearer);
  const bool rowBlocks = p.level == 1;  // the level before is NEAR
  // Sources: all 64-row blocks, or the groups that the level before had; its counts lie before this one's.
  const int* before = p.count - p.stretchCount * p.heads + stretch.stretch * p.heads + head;
  const int blocks = tiles_of(rowBlocks ? stretch.rows : *before), thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const i64 base = (i64)head * p.rowBlocks + stretch.rowBlock;
  const auto block = [&](int i) { return base + (rowBlocks ? blocks - 1 - i : i); };
  const auto kept = [&](int i) { return *(const uint2*)(from.mask + 2 * block(i)); };
  const int each = (blocks + THREADS - 1) / THREADS, begin = thread * each, end = min(begin + each, blocks);
  if (thread < 2) far.marked[thread] = 0;
  int own = 0;
  for (int i = begin; i < end; i++) {
    const uint2 mask = kept(i);
    own += __popc(mask.x) + __popc(mask.y);
  }
  int sum = own;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) far.sums[warp] = sum;
  __syncthreads();
  int at = sum - own - group * TILE_ROWS;
  for (int w = 0; w < warp; w++) at += far.sums[w];
  for (int i = begin; i < end && at < rows; i++) {
    const uint2 mask = kept(i);
    const int count = __popc(mask.x) + __popc(mask.y);
    if (count > 0 && at + count > 0) {
      const int mark = max(at, 0);
      far.marks[mark] = {i, at};
      atomicOr(far.marked + mark / 32, 1u << mark % 32);
    }
    at += count;
  }
  __syncthreads();
  if (thread < TILE_ROWS) {
    const int slot = min(thread, rows - 1);
    // The source of the slot is the last that begins there or before.
    unsigned marked = far.marked[slot / 32] & (0xffffffffu >> (31 - slot % 32));
    const int half = marked ? slot / 32 : 0;
    if (!marked) marked = far.marked[0];
    const Slot mark = far.marks[32 * half + 31 - __clz(marked)];
    const uint2 mask = kept(mark.row);
    const int number = (int)(block(mark.row) - base) * TILE_ROWS + nth_bit(mask.x, mask.y, slot - mark.upper);
    Slot found = {stretch.q0 + number, 0};
    if (!rowBlocks) found = from.slots[head * p.tokens + found.row];
    else found.upper = from.stop[block(mark.row)];
    if (thread >= rows) found.upper = 0;
    far.slots[thread] = found;
  }
  __syncthreads();
}
#endif
