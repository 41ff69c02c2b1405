// Block skipping in levels, forward. Most sticks end within a few tiles, a few rows look far, and 64 neighbouring queries walk as far as
// the farthest of them. So the NEAR level ends after `walk` tiles, with whoever has something left of a stick; a FAR level packs
// those rows, from all over a stretch of a document, densely into groups of 64, which walk on from where each row stopped. What is left
// after a FAR level's `walk` tiles goes to the next one; the last goes to the document's first key.
//
// A stretch is 16 neighbouring 64-row blocks of a document. Rows of a group lie in order, the stretch's last block first, so that the first of a group has the farthest to go; a key is
// masked for a row that has seen it, which is why groups do not reach across stretches. Who is in which group follows from the sticks
// alone: results are the same in every run. A row's bits do not depend on who is in its group, but for the parts.
//
// A FAR block works on a unit of up to as many groups as it has warpgroups: neighbours in a stretch's order, which share the tiles. A
// pair is a stretch and a head. The backward gathers in another way, flash_far.cuh, with the same slots and state.
#pragma once

constexpr int UNIT_GROUPS = BLOCK_WARPGROUPS, UNIT_ROWS = UNIT_GROUPS * TILE_ROWS;

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

// Where a level has few units, each would hold up everybody for as long as its walk is, most of the GPU idle: their keys are dealt out in
// parts that are worked on side by side, each but the nearest as if its sticks were whole. Whoever of a group comes last puts its parts
// together: o = o₀ + left₀ · o₁ + left₀ · left₁ · o₂ + …, as far as sticks go.
struct Parts {
  static constexpr int FLOATS = TILE_ROWS * (D + 3);
  float* at;
  // `part`: among all that the level's units have; `wg`: which of the unit's groups.
  __device__ __forceinline__ Parts(const Attention& p, int part, int wg) : at(p.parts + (i64)(part * UNIT_GROUPS + wg) * FLOATS) {}
  // Outputs as the accumulators lie.
  __device__ __forceinline__ float4* output(int j, int thread) const { return (float4*)at + j * 128 + thread; }
  // Of each row what the part leaves, the last tile that its stick reached, and what was left before it.
  __device__ __forceinline__ float* of_row(int row) const { return at + TILE_ROWS * D + row * 3; }
};

// Shared memory of a FAR block.
struct FarShared {
  Slot slots[UNIT_ROWS];
  Slot marks[UNIT_ROWS];  // where the rows of a source begin: its number, and the slot of its first row, which may lie before
  unsigned marked[UNIT_ROWS / 32];
  int sums[32];
  int pair, unit;         // which of the pair's units; a pair of -1: none
  QueryItem item;         // the unit's rows, as a stretch's: the first number is its first slot's
  int number, part;       // of the unit among all of the level; of its keys
  int parts;              // in which this level's units are worked on
  int last[UNIT_GROUPS];  // whether this is the last part of the group to be done
};

// The tiles of a unit and of its part: from the one before `nearest` down to `lowest`; the unit's parts end at `end`.
struct FarWalk {
  int end, parts, nearest, lowest;
  __device__ __forceinline__ FarWalk(const Attention& p, const FarShared& far) {
    const int tiles = far.slots[0].upper, each = (p.walk + far.parts - 1) / far.parts;  // that of the first row has the farthest to go
    end = p.nextCount ? max(0, tiles - p.walk) : 0;
    parts = far.parts > 1 ? (tiles - end + each - 1) / each : 1;
    nearest = tiles - far.part * each, lowest = parts > 1 ? max(end, nearest - each) : end;
  }
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
    const int known = row < count ? row : 0;
    copy16(to + T::chunk(row, chunk), from + (i64)slots[known].row * stride + chunk * 8, row < count);
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

__device__ __forceinline__ int units_of(int rows) { return (rows + UNIT_ROWS - 1) / UNIT_ROWS; }

// In how many parts a level's units are worked on: so many that all blocks have two of them, as far as parts do not become too short or
// too many to be put together. All of a warp together.
__device__ __forceinline__ int parts_of_level(const Attention& p, int lane) {
  int sum = 0;
  for (int i = lane; i < p.stretchCount * p.heads; i += 32) sum += units_of(p.count[i]);
  const int units = max(1, (int)__reduce_add_sync(0xffffffffu, sum));
  return max(1, min(min((int)(2 * gridDim.x) / units, p.walk / p.partTiles), p.mostParts));
}

// Which stretch and head (`pair`), and which of its units, is number `number` of a level: the first unit of every pair, whose rows are
// the last, then the second of every pair that has one, and so on. All of a warp together; false where there is no such unit.
__device__ __forceinline__ bool find_unit(const Attention& p, int number, int lane, int& pair, int& unit, int& rows) {
  const int pairs = p.stretchCount * p.heads;
  const auto of_pair = [&](int i) { return i < pairs ? units_of(p.count[i]) : 0; };
  // Units before number `unit` of their pairs.
  const auto before = [&](int unit) {
    int sum = 0;
    for (int i = lane; i < pairs; i += 32) sum += min(of_pair(i), unit);
    return (int)__reduce_add_sync(0xffffffffu, sum);
  };
  int low = 0, high = p.stretchBlocks;  // before(low) ≤ number < before(high)
  if (number >= before(high)) return false;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (before(middle) <= number) low = middle;
    else high = middle;
  }
  int rest = number - before(low);
  for (int base = 0; base < pairs; base += 32) {
    const unsigned there = __ballot_sync(0xffffffffu, of_pair(base + lane) > low);
    if (rest < __popc(there)) {
      pair = base + nth_bit(there, 0, rest);
      break;
    }
    rest -= __popc(there);
  }
  unit = low;
  rows = min(UNIT_ROWS, p.count[pair] - low * UNIT_ROWS);
  return true;
}

// Fills the slots of a unit from the level before, whose rows that go on are counted from the stretch's end. By all THREADS of the
// block.
template <int THREADS>
__device__ __forceinline__ void gather(const Attention& p, const QueryItem& stretch, int head, int unit, int rows, FarShared& far) {
  const LevelState from(p, p.nearer);
  const bool rowBlocks = p.level == 1;  // the level before is NEAR
  // Sources: all 64-row blocks, or the groups that the level before had; its counts lie before this one's.
  const int* before = p.count - p.stretchCount * p.heads + stretch.stretch * p.heads + head;
  const int blocks = tiles_of(rowBlocks ? stretch.rows : *before), thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const i64 base = (i64)head * p.rowBlocks + stretch.rowBlock;
  const auto block = [&](int i) { return base + (rowBlocks ? blocks - 1 - i : i); };
  const auto kept = [&](int i) { return *(const uint2*)(from.mask + 2 * block(i)); };
  const int each = (blocks + THREADS - 1) / THREADS, begin = thread * each, end = min(begin + each, blocks);
  if (thread < UNIT_ROWS / 32) far.marked[thread] = 0;
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
  int at = sum - own - unit * UNIT_ROWS;
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
  if (thread < UNIT_ROWS) {
    const int slot = min(thread, rows - 1);
    // The source of the slot is the last that begins there or before.
    int word = slot / 32;
    unsigned marked = far.marked[word] & (0xffffffffu >> (31 - slot % 32));
    while (!marked) marked = far.marked[--word];
    const Slot mark = far.marks[32 * word + 31 - __clz(marked)];
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
