// Fused attention, forward: each warpgroup of a block goes over the keys of its 64 queries from the nearest tile to the
// farthest; one more warpgroup brings keys and values. Stick-breaking keeps, per row, what is left of the stick; softmax
// the running maximum and sum (https://arxiv.org/abs/2205.14135). Stick-breaking is bound by the special-function units at
// small head dimensions; they are spared twice: 1/(1+2^z) is needed only in products, so four keys share one reciprocal,
// and the weight A = t·(what is left after the key) needs no sigmoid.
#include "flash.cuh"

constexpr int WGS = BLOCK_WARPGROUPS, STAGES = BLOCK_STAGES, THREADS = (WGS + 1) * 128;
// On Hopper, blocks of two working warpgroups share a multiprocessor: one begins or ends while the other works.
// Blocks of NEAR rows work on 64 each, and three of them share one: none waits for a neighbour's rows.
constexpr int BLOCKS = !HOPPER ? 1 : LEVEL == NEAR_ROWS ? 3 : WGS == 2 ? 2 : 1;
static_assert(LEVEL != NEAR_ROWS || WGS == 1, "rows of a level");
constexpr int CONSUMER_REGISTERS = WGS == 4 ? 112 : WGS == 3 ? 152 : WGS == 2 ? 104 : 112;
constexpr int PRODUCER_REGISTERS = WGS == 3 ? 40 : WGS == 1 ? 48 : 32;
// Whether the next tile's logits are requested before the product with a tile's values, which then runs while they are weighed. It
// takes registers.
constexpr bool AHEAD = D == 128 && !FIRE;
// Registers that a thread has to begin with.
[[maybe_unused]] constexpr int EVEN_REGISTERS = (WGS * CONSUMER_REGISTERS + PRODUCER_REGISTERS) / (WGS + 1);
using T = Tile<D, TILE_ROWS>;
using Ring = Pipeline<STAGES, WGS * 4>;
// WARPGROUP + its number: the threads of a consumer; PRODUCER: those that bring tiles.
enum NamedBarrier { WARPGROUP = 1, PRODUCER = WARPGROUP + WGS };
__device__ __forceinline__ int barrier_of(int wg) { return WGS == 1 ? WARPGROUP : WARPGROUP + wg; }

struct Shared {
  unsigned q, k, v;
  Ring ring;
  volatile int *stopped, *exhaustedGroups;
  unsigned* goOn;  // [2 WGS] which rows go on to the next level
  FarShared* far;
  __device__ explicit Shared(char* base)
      : q((shared_address(base) + 1023) & ~1023u), k(q + WGS * T::BYTES), v(k + STAGES * T::BYTES), ring(v + STAGES * T::BYTES) {
    stopped = (volatile int*)(base + (ring.full + Ring::BYTES - shared_address(base)));
    exhaustedGroups = stopped + 1;
    goOn = (unsigned*)stopped + 2;
    far = (FarShared*)(goOn + 2 * WGS);
  }
  static constexpr int LEVEL_BYTES = (LEVEL == ALL_ROWS ? 0 : 8 * WGS) + (LEVEL == FAR_ROWS ? sizeof(FarShared) : 0);
  static constexpr int BYTES = (WGS + 2 * STAGES) * T::BYTES + Ring::BYTES + 2 * sizeof(int) + LEVEL_BYTES;
  __device__ __forceinline__ void begin() const {
    *stopped = 0x7fffffff;
    *exhaustedGroups = 0;
    for (int i = 0; LEVEL != ALL_ROWS && i < 2 * WGS; i++) goOn[i] = 0;
  }
};
static_assert(1023 + Shared::BYTES <= BLOCK_BYTES, "more shared memory than the host gives");

__device__ __forceinline__ void produce(const Attention& p, const QueryItem& item, const Shared& sh, int head, int tiles,
                                        int lowest, int thread) {
  const int kv = head / (p.heads / p.kvHeads), stride = p.kvStride;
  const bf16* keys = p.k + (i64)item.k0 * stride + kv * D;
  const bf16* values = p.v + (i64)item.k0 * stride + kv * D;
  const TileLoader<true> loader(stride, thread);
  int step = 0;
  for (int n = tiles - 1; n >= lowest; n--, step++) {
    const int stage = sh.ring.acquire(step);
    // Every stick is exhausted: whoever still waits for a tile is told that none comes.
    if (p.skip && warpgroup_all(PRODUCER, *sh.exhaustedGroups == WGS)) {
      if (thread == 0) *sh.stopped = step;
      sh.ring.finish(step);
      sh.ring.signal(step);
      return;
    }
    loader.load(sh.k + stage * T::BYTES, keys + (i64)n * TILE_ROWS * stride, item.keys - n * TILE_ROWS);
    loader.load(sh.v + stage * T::BYTES, values + (i64)n * TILE_ROWS * stride, item.keys - n * TILE_ROWS);
    sh.ring.publish(step);
  }
  sh.ring.finish(step);
}

// Two rows of one thread: limit is the number of the document's keys that they see.
struct Rows {
  int limit[2];
  bool valid[2];
};

struct Stick {
  float run[2], left[2], tile[2];
  __device__ __forceinline__ void begin(const Rows& rows) {
#pragma unroll
    for (int h = 0; h < 2; h++) run[h] = rows.valid[h] ? 1.f : 0.f, left[h] = 1.f, tile[h] = 0.f;
  }
  // With what nearer keys have left of the sticks of rows `row` and `row` + 8. A row that is exhausted comes to no tile.
  __device__ __forceinline__ void go_on(const Attention& p, const Rows& rows, i64 row, int head) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      run[h] = rows.valid[h] ? p.dRemainder[(row + 8 * h) * p.heads + head] : 0.f;
      const bool active = run[h] >= p.exhausted;
      left[h] = active ? run[h] : 0.f, tile[h] = active ? 0.f : 0x1p30f;
    }
  }
  template <bool MASKED>
  __device__ __forceinline__ void weigh(float (&s)[32], const Attention& p, const Rows& rows, int n, int c, float scale) {
    const int visible[2] = {rows.limit[0] - TILE_ROWS * n - 16 * c, rows.limit[1] - TILE_ROWS * n - 16 * c};
    float leave[2][4], own[2], before[2];
    break_rows<MASKED>(s, scale, visible, leave, own);
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float all;
      const float nearer = nearer_product(own[h], c, all);
      const bool active = run[h] >= p.exhausted;
      before[h] = active ? run[h] * nearer : 0.f;
      left[h] = active ? run[h] : left[h];
      tile[h] = active ? (float)n : tile[h];
      run[h] = active ? run[h] * all : run[h];
    }
#pragma unroll
    for (int group = 3; group >= 0; group--)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        float after = before[h] *= leave[h][group];
#pragma unroll
        for (int key = 4 * group; key < 4 * group + 4; key++) {
          const float t = s[at(h, key)];
          s[at(h, key)] = t * after;
          after = fmaf(after, t, after);
        }
      }
  }
};

constexpr float MOST_GROWTH = 8.f;
struct Softmax {
  float row_max[2], row_sum[2], slope;
  FireBias fire;
  KeyBias bias;
  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int h = 0; h < 2; h++) row_max[h] = -INFINITY, row_sum[h] = 0.f;
  }
  template <bool MASKED>
  __device__ __forceinline__ void add_bias(float (&s)[32], int upperVisible, float scale) {
    float u[24];
    const FireSpan span = fire.prepare<MASKED>(u, upperVisible);
    const float base[2] = {0.f, 0.f};
    fire.add(s, u, scale, base, span);
  }
  // Weights relative to the running maximum; `o` is brought to it, once `settle` has waited for it. While no row of the warp
  // passes it by more than MOST_GROWTH it stays as it is: weights then reach 2^MOST_GROWTH, and in most tiles `o` is not
  // touched (the conditional rescaling of FlashAttention-4).
  template <bool MASKED, class Settle>
  __device__ __forceinline__ void weigh(float (&s)[32], float (&o)[D / 2], const Attention& p, const Rows& rows, int n, int c,
                                        float scale, const Settle& settle) {
    if (FIRE) add_bias<MASKED>(s, rows.limit[0] - TILE_ROWS * n - 16 * c, scale);
    // Where nothing was added to the logits they are scaled as the maximum is taken off: one multiply-add a pair.
    const float factor = FIRE || ALIBI || KEY_BIAS ? 1.f : scale;
    float top[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int visible = rows.limit[h] - TILE_ROWS * n - 16 * c, from = p.window ? visible - p.window : -TILE_ROWS;
      top[h] = -INFINITY;
#pragma unroll
      for (int key = 0; key < 16; key++) {
        float x = s[at(h, key)];
        if (ALIBI) x = fmaf(slope, (float)(key + 1 - visible), x * scale);
        if (KEY_BIAS) x = fmaf(x, scale, bias.now[KEY_BIAS ? key : 0]);
        if (MASKED && (key >= visible || key < from)) x = -INFINITY;
        s[at(h, key)] = x;
        top[h] = fmaxf(top[h], x);
      }
      top[h] = fmaxf(top[h], __shfl_xor_sync(0xffffffffu, top[h], 1));
      top[h] = fmaxf(top[h], __shfl_xor_sync(0xffffffffu, top[h], 2));
      top[h] = fmaxf(row_max[h], top[h] * factor);
    }
    const bool grown = __any_sync(0xffffffffu, top[0] > row_max[0] + MOST_GROWTH || top[1] > row_max[1] + MOST_GROWTH);
    float rescale[2];
    if (grown) {
#pragma unroll
      for (int h = 0; h < 2; h++) {
        rescale[h] = top[h] == -INFINITY ? 1.f : exp2_fast(row_max[h] - top[h]);
        row_max[h] = top[h];
        row_sum[h] *= rescale[h];
      }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const float base = row_max[h] == -INFINITY ? 0.f : row_max[h];
      float sums[4];  // short chains of additions
#pragma unroll
      for (int key = 0; key < 16; key++) {
        const float weight = s[at(h, key)] = exp2_fast(fmaf(s[at(h, key)], factor, -base));
        sums[key & 3] = key < 4 ? weight : sums[key & 3] + weight;
      }
      row_sum[h] += (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }
    settle();
    if (grown) {
#pragma unroll
      for (int i = 0; i < D / 2; i++) o[i] *= rescale[i >> 1 & 1];
    }
  }
};

// From logits to weights; `settle` waits until `o` may be touched.
template <bool MASKED, class Settle>
__device__ __forceinline__ void weigh(float (&s)[32], float (&o)[D / 2], Stick& stick, Softmax& soft, const Attention& p,
                                      const Rows& rows, int n, int c, float scale, const Settle& settle) {
  if (MECHANISM == STICK_BREAKING) stick.weigh<MASKED>(s, p, rows, n, c, scale), settle();
  else soft.weigh<MASKED>(s, o, p, rows, n, c, scale, settle);
}

#if LEVEL == FAR_ROWS
// What a part of the keys gives to a group, to memory; its last part to be done takes them all. Whether this is the last.
__device__ __forceinline__ bool put_together(const Attention& p, float (&o)[D / 2], Stick& stick, const Rows& rows, FarShared& far,
                                             int parts, int wg, int thread) {
  const int c = thread & 3, row = (thread >> 5) * 16 + (thread >> 2 & 7), first = far.number * far.parts;
  const Parts own(p, first + far.part, wg);
#pragma unroll
  for (int j = 0; j < D / 8; j++) *own.output(j, thread) = make_float4(o[4 * j], o[4 * j + 1], o[4 * j + 2], o[4 * j + 3]);
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float* to = own.of_row(row + 8 * h);
    if (c == 0) to[0] = stick.run[h], to[1] = stick.tile[h], to[2] = stick.left[h];
  }
  __threadfence();
  warpgroup_barrier(barrier_of(wg));
  if (thread == 0) far.last[wg] = atomicAdd(p.partsDone + far.number * UNIT_GROUPS + wg, 1) == parts - 1;
  warpgroup_barrier(barrier_of(wg));
  if (!far.last[wg]) return false;
  __threadfence();
#pragma unroll
  for (int h = 0; h < 2; h++) stick.run[h] = rows.valid[h] ? 1.f : 0.f;
#pragma unroll
  for (int i = 0; i < D / 2; i++) o[i] = 0.f;
#pragma unroll 1
  for (int i = 0; i < parts; i++) {
    const bool reached[2] = {stick.run[0] >= p.exhausted, stick.run[1] >= p.exhausted};
    if (!__any_sync(0xffffffffu, reached[0] || reached[1])) break;
    const Parts from(p, first + i, wg);
    float factor[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const float* of = from.of_row(row + 8 * h);
      factor[h] = reached[h] ? stick.run[h] : 0.f;
      if (reached[h]) stick.run[h] *= __ldcg(of), stick.tile[h] = __ldcg(of + 1), stick.left[h] = factor[h] * __ldcg(of + 2);
    }
#pragma unroll
    for (int j = 0; j < D / 8; j++) {
      const float4 x = __ldcg(from.output(j, thread));
      o[4 * j] = fmaf(factor[0], x.x, o[4 * j]), o[4 * j + 1] = fmaf(factor[0], x.y, o[4 * j + 1]);
      o[4 * j + 2] = fmaf(factor[1], x.z, o[4 * j + 2]), o[4 * j + 3] = fmaf(factor[1], x.w, o[4 * j + 3]);
    }
  }
  return true;
}
#endif

__device__ __forceinline__ void consume(const Attention& p, const QueryItem& item, const Shared& sh, int head, int tiles,
                                        int lowest, int wg, int thread) {
  const int lane = thread & 31, warp = thread >> 5, c = lane & 3, r0 = wg * TILE_ROWS + warp * 16 + (lane >> 2);
  const int sees = MECHANISM == SOFTMAX ? 1 : p.attendCurrent;
  Rows rows;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    rows.limit[h] = FARTHER ? item.keys : LEVEL == FAR_ROWS ? TILE_ROWS * sh.far->slots[r0 + 8 * h].upper : item.first + r0 + 8 * h + sees;
    rows.valid[h] = r0 + 8 * h < item.rows;
  }
  const int have = uniform(min(TILE_ROWS, item.rows - wg * TILE_ROWS));  // rows of this warpgroup
  const int first = uniform(item.first);
  const int upper = LEVEL == NEAR_ROWS  ? tiles
                    : LEVEL == FAR_ROWS ? (have > 0 ? min(tiles, uniform(sh.far->slots[wg * TILE_ROWS].upper)) : 0)
                    : have > 0          ? tiles_of(FARTHER ? uniform(item.keys) : first + wg * TILE_ROWS + have - 1 + sees)
                                   : 0;
  const int lower = LEVEL != ALL_ROWS ? lowest : p.window ? max(0, first + wg * TILE_ROWS + 1 - p.window) / TILE_ROWS : 0;
  const int unmasked = LEVEL == FAR_ROWS ? uniform(sh.far->slots[wg * TILE_ROWS + max(have, 1) - 1].upper)  // tiles below see no diagonal …
                                    : (FARTHER ? uniform(item.keys) : first + wg * TILE_ROWS + sees) / TILE_ROWS;
  const int windowed = p.window ? tiles_of(first + wg * TILE_ROWS + TILE_ROWS - p.window) : 0;  // … from here on no window's edge
  const float scale = p.scale * LOG2E;

  const unsigned q = sh.q + wg * T::BYTES;
  if (LEVEL == FAR_ROWS) load_rows(q, p.q + head * D, p.qStride, have, thread, sh.far->slots + wg * TILE_ROWS);
  else load_tile<false>(q, p.q + (i64)(item.q0 + (have > 0 ? wg * TILE_ROWS : 0)) * p.qStride + head * D, p.qStride, have, thread);
  copy_commit();
  copy_wait<0>();
  async_proxy_fence();
  warpgroup_barrier(barrier_of(wg));

  float o[D / 2];
#pragma unroll
  for (int i = 0; i < D / 2; i++) o[i] = 0.f;
  Stick stick;
  Softmax soft;
  if (FIRE) soft.fire.begin(p, head), soft.fire.rows(item.first + r0);
  if (KEY_BIAS) soft.bias.begin(p, head / (p.heads / p.kvHeads), item.k0);
  if (LEVEL == FAR_ROWS) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const i64 row = sh.far->slots[r0 + 8 * h].row;
      const bool goesOn = sh.far->part == 0;  // rather than begin with a whole stick
      stick.run[h] = !rows.valid[h] ? 0.f : goesOn ? p.rowOutput[row * p.heads + head] : 1.f;
      stick.left[h] = stick.run[h], stick.tile[h] = 0.f;
      if (rows.valid[h] && goesOn) load_state(p, o, h, head, row, c);
    }
  } else if (FARTHER) stick.go_on(p, rows, item.q0 + r0, head);
  else if (MECHANISM == STICK_BREAKING) stick.begin(rows);
  else soft.begin(), soft.slope = ALIBI && p.slopes ? p.slopes[head] * LOG2E : 0.f;

  const bool skip = MECHANISM == STICK_BREAKING && p.skip;
  int step = 0, n = tiles - 1;
  // A step that this warpgroup has no part in; false where no further tile comes.
  const auto idle = [&](int step) {
    sh.ring.wait(step);
    if (skip && uniform(step >= *sh.stopped)) return false;
    sh.ring.release(step, lane);
    return true;
  };
  bool more = true;
  int exhausted = have <= 0;
  if (FARTHER && skip && !exhausted)
    exhausted = uniform(warpgroup_all(barrier_of(wg), stick.run[0] < p.exhausted && stick.run[1] < p.exhausted));
  if (exhausted && skip && thread == 0) atomicAdd((int*)sh.exhaustedGroups, 1);
  for (; n >= max(upper, lowest) && more; n--, step++) more = idle(step);
  float s[32];
  unsigned a[4][4];
  const auto request_logits = [&](int stage) {
    products_begin();
    compare_tiles<D>(s, q, sh.k + stage * T::BYTES, warp, lane);
    products_commit();
  };
  const auto request_values = [&](int stage) {
    products_begin();
    accumulate<D>(o, a, sh.v + stage * T::BYTES, lane);
    products_commit();
  };
  const auto wait_for_values = [&](int step) {
    products_wait<0>();
    hold(o);
    sh.ring.release(step, lane);
  };
  const auto pack = [&] {
#pragma unroll
    for (int i = 0; i < 16; i++) a[i / 4][i % 4] = pack_bf16(s[2 * i], s[2 * i + 1]);
    if (skip) {
      exhausted = uniform(warpgroup_all(barrier_of(wg), stick.run[0] < p.exhausted && stick.run[1] < p.exhausted));
      if (exhausted && thread == 0) atomicAdd((int*)sh.exhaustedGroups, 1);
    }
  };
  const auto nothing = [&] {};
  const auto masked = [&](int n) { return n >= unmasked || n < windowed; };
  if (AHEAD && n >= lower && !exhausted) {
    request_logits(sh.ring.wait(step));
    if (KEY_BIAS) soft.bias.fetch(n, c);
    products_wait<0>();
    hold(s);
    weigh<true>(s, o, stick, soft, p, rows, n, c, scale, nothing);
    pack();
    while (n > lower && !exhausted) {
      hold(o);
      request_logits(sh.ring.wait(step + 1));
      request_values(step % STAGES);
      n--, step++;
      if (KEY_BIAS) soft.bias.fetch(n, c);
      products_wait<1>();
      hold(s);
      const auto settle = [&] { wait_for_values(step - 1); };
      if (masked(n)) weigh<true>(s, o, stick, soft, p, rows, n, c, scale, settle);
      else weigh<false>(s, o, stick, soft, p, rows, n, c, scale, settle);
      pack();
    }
    hold(o);
    request_values(step % STAGES);
    wait_for_values(step);
    n--, step++;
  }
  for (; !AHEAD && n >= lower && !exhausted; n--, step++) {
    const int stage = sh.ring.wait(step);
    request_logits(stage);
    if (KEY_BIAS) soft.bias.fetch(n, c);
    products_wait<0>();
    hold(s);
    hold(o);
    if (masked(n)) weigh<true>(s, o, stick, soft, p, rows, n, c, scale, nothing);
    else weigh<false>(s, o, stick, soft, p, rows, n, c, scale, nothing);
    pack();
    hold(o);
    request_values(stage);
    wait_for_values(step);
  }
  int last = n + 1;
  // Where no other warpgroup goes on, the producer, which is told before this step's tiles are given back, waits for nothing more.
  for (; (LEVEL == ALL_ROWS || WGS > 1) && n >= lowest && more; n--, step++) more = idle(step);
  if (have <= 0) return;
#if LEVEL == FAR_ROWS
  if (const FarWalk walk(p, *sh.far); walk.parts > 1) {
    if (!put_together(p, o, stick, rows, *sh.far, walk.parts, wg, thread)) return;
    last = walk.end;
  }
  head = sh.far->pair % p.heads;  // not kept in a register meanwhile
#endif

#pragma unroll
  for (int h = 0; h < 2; h++) {
    float total = 1.f, share = 1.f;
    if (MECHANISM == SOFTMAX) {
      total = soft.row_sum[h];
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      share = 1.f / total;
    }
    if (!rows.valid[h]) continue;
    const i64 slot = item.q0 + r0 + 8 * h, row = LEVEL == FAR_ROWS ? sh.far->slots[r0 + 8 * h].row : slot;
    // A row that stood behind all of the group's tiles stands there still.
    if (LEVEL == FAR_ROWS && c == 0)
      LevelState(p, p.kept).slots[head * p.tokens + slot] = {(int)row, min(last, rows.limit[h] / TILE_ROWS)};
    const bool goes = LEVEL != ALL_ROWS && last > 0 && stick.run[h] >= p.exhausted;
    if (goes) store_state(p, o, h, head, row, c);
    if (goes && c == 0) atomicOr(sh.goOn + 2 * wg + warp / 2, 1u << (r0 + 8 * h) % 32);
    bf16* out = p.out + (row * p.heads + head) * D + 2 * c;
#pragma unroll
    for (int j = 0; j < (goes ? 0 : D / 8); j++)
      *(unsigned*)(out + 8 * j) = pack_bf16(o[4 * j + 2 * h] * share, o[4 * j + 2 * h + 1] * share);
    if (c != 0) continue;
    if (MECHANISM == STICK_BREAKING) {
      const Saved saved(p);
      p.rowOutput[row * p.heads + head] = stick.run[h];
      saved.left[head * p.tokens + row] = stick.left[h];
      saved.tile[head * p.tokens + row] = stick.tile[h];
      if (LEVEL == FAR_ROWS && !goes) {
        const int unit = sh.far->unit, stretch = item.q0 - unit * UNIT_ROWS;
        const int block = item.rowBlock - unit * UNIT_GROUPS + (int)(row - stretch) / TILE_ROWS;
        // Tiles are not negative: as floats they are in the order of their bits.
        atomicMin((int*)saved.stop + (i64)head * p.rowBlocks + block, __float_as_int(stick.tile[h]));
      }
    } else {
      p.rowOutput[row * p.heads + head] = (soft.row_max[h] + __log2f(total)) / LOG2E;
    }
  }
  if (MECHANISM == STICK_BREAKING && LEVEL != FAR_ROWS && thread == 0)
    Saved(p).stop[(i64)head * p.rowBlocks + item.rowBlock + wg] = (float)last;
  if (LEVEL == ALL_ROWS) return;
  warpgroup_barrier(barrier_of(wg));
  if (thread != 0) return;
  const LevelState kept(p, p.kept);
  const i64 group = (i64)head * p.rowBlocks + item.rowBlock + wg;
  const uint2 goOn = {sh.goOn[2 * wg], sh.goOn[2 * wg + 1]};
  *(uint2*)(kept.mask + 2 * group) = goOn;
  if (LEVEL == NEAR_ROWS) kept.stop[group] = last;
  const int count = __popc(goOn.x) + __popc(goOn.y);
  if (p.nextCount && count > 0) atomicAdd(p.nextCount + item.stretch * p.heads + head, count);
}

#if LEVEL == FAR_ROWS
// Of the unit that the block takes next what `far` says of it, and the first or next pipeline. By the first warp.
__device__ __forceinline__ void take_unit(const Attention& p, const Shared& sh, bool first, int lane) {
  FarShared& far = *sh.far;
  int taken = blockIdx.x, parts;
  if (first) parts = parts_of_level(p, lane);
  else {
    if (lane == 0) taken = gridDim.x + atomicAdd(p.unit, 1);
    taken = uniform(taken), parts = far.parts;
  }
  int pair, unit, rows;
  const int number = taken / parts;
  const bool found = find_unit(p, number, lane, pair, unit, rows);
  if (lane == 0) {
    far.pair = found ? pair : -1, far.unit = unit;
    if (found) {
      far.item = p.stretches[pair / p.heads];
      far.item.q0 += unit * UNIT_ROWS, far.item.rowBlock += unit * UNIT_GROUPS, far.item.rows = rows;
    }
    far.number = number, far.part = taken % parts;
    if (first) far.parts = parts;  // the other lanes read it where it is not the first
    if (!first) sh.ring.destroy();
    sh.ring.init(), sh.begin();
  }
}

// A block takes one unit or part of one after another: most calls have far fewer than their rows could make.
__device__ __forceinline__ void go_through_units(const Attention& p, const Shared& sh, int wg, int thread) {
  const FarShared& far = *sh.far;
  for (bool first = true;; first = false) {
    if (threadIdx.x < 32) take_unit(p, sh, first, threadIdx.x);
    __syncthreads();
    const int pair = uniform(far.pair);
    if (pair < 0) return;
    const int head = pair % p.heads;
    gather<THREADS>(p, p.stretches[pair / p.heads], head, uniform(far.unit), uniform(far.item.rows), *sh.far);
    const FarWalk walk(p, far);
    const int nearest = uniform(walk.nearest), lowest = uniform(walk.lowest);
    if (nearest > uniform(walk.end)) {
      if (wg == WGS) {
        registers_give<PRODUCER_REGISTERS>();
        produce(p, far.item, sh, head, nearest, lowest, thread);
        warpgroup_barrier(PRODUCER);
        registers_take<EVEN_REGISTERS>();
      } else {
        registers_take<CONSUMER_REGISTERS>();
        consume(p, far.item, sh, head, nearest, lowest, wg, thread);
        warpgroup_barrier(barrier_of(wg));
        registers_give<EVEN_REGISTERS>();
      }
    }
    __syncthreads();
  }
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) flash_forward(const __grid_constant__ Attention p) {
  extern __shared__ char memory[];
  const Shared sh(memory);
  const int wg = uniform(threadIdx.x / 128), thread = threadIdx.x % 128;
#if LEVEL == FAR_ROWS
  go_through_units(p, sh, wg, thread);
#else
  int number, head;
  locate(p, number, head);
  const QueryItem item = ((const QueryItem*)p.items)[number];
  if (threadIdx.x == 0) sh.ring.init(), sh.begin();
  __syncthreads();
  const int sees = MECHANISM == SOFTMAX ? 1 : p.attendCurrent;
  const int tiles = uniform(tiles_of(FARTHER ? item.keys : item.first + item.rows - 1 + sees));
  const int lowest = uniform(LEVEL == NEAR_ROWS ? max(0, tiles - p.walk) : p.window ? max(0, item.first + 1 - p.window) / TILE_ROWS : 0);
  if (wg == WGS) {
    registers_give<PRODUCER_REGISTERS>();
    produce(p, item, sh, head, tiles, lowest, thread);
  } else {
    registers_take<CONSUMER_REGISTERS>();
    consume(p, item, sh, head, tiles, lowest, wg, thread);
  }
#endif
}
