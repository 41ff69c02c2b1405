// A bias of each key on its logits, by key-value head: the forget gate of the Forgetting Transformer
// (https://arxiv.org/abs/2503.02130), whose logits gain the sum of the log gates between key and query, which is a bias of the key
// alone (forgetting.ts). The biases come times log2(e), head by head with a tile of zeros behind each (key_bias.cu). Their
// gradient is the sum of the logits' gradients over the queries, which the keys' kernel has in its columns.
#pragma once

// The biases of the 16 keys of a thread.
struct KeyBias {
  const float* keys;  // of the document's first key
  float now[KEY_BIAS ? 16 : 1];
  __device__ __forceinline__ void begin(const Attention& p, int kv, int firstKey) {
    keys = p.keyBias + (i64)kv * (p.keyTokens + TILE_ROWS) + firstKey;
  }
  __device__ __forceinline__ void fetch(int n, int c) {
    const float* from = keys + n * TILE_ROWS + 16 * c;
#pragma unroll
    for (int key = 0; key < (KEY_BIAS ? 16 : 0); key++) now[key] = __ldg(from + key);
  }
};

// Sums over queries of the gradients of a warpgroup's 64 keys.
struct KeyBiasSums {
  float of[4];  // of each group of four keys the one that the lane's number in its row of eight quads says
  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int group = 0; group < 4; group++) of[group] = 0.f;
  }
  // The gradients of four keys, each added up over the thread's two rows: afterwards each lane has one key's sum over 16 rows.
  __device__ __forceinline__ void add(int group, const float (&dz)[4], int lane) {
    const bool second = lane & 16, odd = lane & 8;
    float pair[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float theirs = __shfl_xor_sync(0xffffffffu, second ? dz[i] : dz[2 + i], 16);
      pair[i] = (second ? dz[2 + i] : dz[i]) + theirs;
    }
    const float theirs = __shfl_xor_sync(0xffffffffu, odd ? pair[0] : pair[1], 8);
    const float one = (odd ? pair[1] : pair[0]) + theirs;
    of[group] += one + __shfl_xor_sync(0xffffffffu, one, 4);
  }
  // The four warps' sums to `slots` [4, 64] in shared memory, in the order of the keys.
  __device__ __forceinline__ void store(float* slots, int warp, int lane) const {
    if (lane & 4) return;
    const int key = 16 * (lane & 3) + (lane & 16 ? 2 : 0) + (lane & 8 ? 1 : 0);
#pragma unroll
    for (int group = 0; group < 4; group++) slots[warp * TILE_ROWS + key + 4 * group] = of[group];
  }
};
