// Cross-entropy over one chunk of logits, float32 as the matmul accumulated them: rounded to bfloat16 first, logits around 10
// would already cost the gradient one per cent. The logits' gradient is bfloat16, ready for the next matmuls. One block a
// token; the row is read once from global memory.
#include "async_copy.cuh"

// A thread's running maximum of logits and sum of exponentials, in units of log2.
struct LogSumExp {
  float row_max = -INFINITY, row_sum = 0.f;
  template <int N>
  __device__ __forceinline__ void add(const float (&v)[N]) {
    float m = row_max;
#pragma unroll
    for (int j = 0; j < N; j++) m = fmaxf(m, v[j]);
    row_sum *= exp2_fast(row_max - m);
#pragma unroll
    for (int j = 0; j < N; j++) row_sum += exp2_fast(v[j] - m);
    row_max = m;
  }
  // Over the block, the same in every thread; m is to be the block's maximum.
  __device__ __forceinline__ float total() const { return total(block_max(row_max)); }
  __device__ __forceinline__ float total(float m) const {
    return m + log2f(block_sum(row_max == -INFINITY ? 0.f : row_sum * exp2_fast(row_max - m)));
  }
};
constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;

// likeliest may be null.
extern "C" __global__ void cross_entropy(float* loss, float* logSumExp, float* likeliest, const float* logits, const int* targets, int vocab,
                                         int stride, float scale, int ignore) {
  const float* row = logits + (i64)blockIdx.x * stride;
  LogSumExp sum;
  float v[8];
  for (int c = threadIdx.x * 8; c < vocab; c += blockDim.x * 8) {
    load8(row + c, v);
    const int valid = min(8, vocab - c);
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] = j < valid ? v[j] * (scale * LOG2E) : -INFINITY;
    sum.add(v);
  }
  const float highest = block_max(sum.row_max), total = sum.total(highest) * LN2;
  if (threadIdx.x) return;
  const int target = targets[blockIdx.x];
  logSumExp[blockIdx.x] = total;
  if (likeliest) likeliest[blockIdx.x] = target != ignore && row[target] * (scale * LOG2E) >= highest ? 1.f : 0.f;
  loss[blockIdx.x] = target == ignore ? 0.f : total - row[target] * scale;
}

// The same, and what the logits' gradient is where the loss's is one, in two passes over the row.
struct BothPasses {
  float *loss, *logSumExp;
  bf16* out;
  const float* row;
  int target, vocab, stride;
  float scale, factor;  // of the logits, of their gradient: none in an ignored row
  LogSumExp sum;

  __device__ __forceinline__ BothPasses(float* loss, float* logSumExp, bf16* dLogits, const float* logits, const int* targets,
                                        int vocab, int stride, float scale, int ignore)
      : loss(loss + blockIdx.x), logSumExp(logSumExp + blockIdx.x), out(dLogits + (i64)blockIdx.x * stride),
        row(logits + (i64)blockIdx.x * stride), target(targets[blockIdx.x]), vocab(vocab), stride(stride), scale(scale) {
    factor = target == ignore ? 0.f : scale;
  }
  // Columns c … c + 3.
  __device__ __forceinline__ void first(const float4& x, int c) {
    const float unit = scale * LOG2E;
    float v[4] = {x.x * unit, x.y * unit, x.z * unit, x.w * unit};
    if (c + 4 > vocab)
#pragma unroll
      for (int j = 0; j < 4; j++) v[j] = c + j < vocab ? v[j] : -INFINITY;
    sum.add(v);
  }
  __device__ __forceinline__ float between() const {
    const float total = sum.total();
    if (threadIdx.x == 0) {
      *logSumExp = total * LN2;
      *loss = factor == 0.f ? 0.f : total * LN2 - row[target] * scale;
    }
    return total;
  }
  __device__ __forceinline__ void second(const float4& x, int c, float total) const {
    const float v[4] = {x.x, x.y, x.z, x.w}, unit = scale * LOG2E;
    float d[4];
#pragma unroll
    for (int j = 0; j < 4; j++) d[j] = factor * exp2_fast(fmaf(v[j], unit, -total));
    if ((unsigned)(target - c) < 4u || c + 4 > vocab || factor == 0.f)
#pragma unroll
      for (int j = 0; j < 4; j++) d[j] = c + j < vocab && factor != 0.f ? d[j] - (c + j == target ? factor : 0.f) : 0.f;
    *(uint2*)(out + c) = make_uint2(pack_bf16(d[0], d[1]), pack_bf16(d[2], d[3]));
  }
};
constexpr int BOTH_THREADS = 1024, PARTS = 4;
// This thread's float4s of the k-th part of a row.
template <class Use>
__device__ __forceinline__ void each_of_part(int vocab, int k, Use use) {
  const int count = (vocab + 3) / 4, each = (count + PARTS * BOTH_THREADS - 1) / (PARTS * BOTH_THREADS) * BOTH_THREADS;
  const int end = min((k + 1) * each, count);
  for (int i = k * each + (int)threadIdx.x; i < end; i += BOTH_THREADS) use(i);
}

// The row is on its way to shared memory as a whole before the first of it is worked, and stays there for the second pass. A
// thread reads what it brought itself.
extern "C" __global__ void __launch_bounds__(BOTH_THREADS)
    cross_entropy_both(float* loss, float* logSumExp, bf16* dLogits, const float* logits, const int* targets, int vocab,
                       int stride, float scale, int ignore) {
  extern __shared__ float4 cache[];
  BothPasses work(loss, logSumExp, dLogits, logits, targets, vocab, stride, scale, ignore);
#pragma unroll
  for (int k = 0; k < PARTS; k++) {
    each_of_part(vocab, k, [&](int i) { copy16(shared_address(cache + i), work.row + 4 * i); });
    copy_commit();
  }
  const auto add = [&](int i) { work.first(cache[i], 4 * i); };
  copy_wait<3>(), each_of_part(vocab, 0, add);
  copy_wait<2>(), each_of_part(vocab, 1, add);
  copy_wait<1>(), each_of_part(vocab, 2, add);
  copy_wait<0>(), each_of_part(vocab, 3, add);
  const float total = work.between();
#pragma unroll 4
  for (int i = threadIdx.x; i < stride / 4; i += BOTH_THREADS) work.second(cache[i], 4 * i, total);
}
// For rows that shared memory does not hold.
extern "C" __global__ void __launch_bounds__(BOTH_THREADS)
    cross_entropy_both_long(float* loss, float* logSumExp, bf16* dLogits, const float* logits, const int* targets, int vocab,
                            int stride, float scale, int ignore) {
  BothPasses work(loss, logSumExp, dLogits, logits, targets, vocab, stride, scale, ignore);
  const float4* row = (const float4*)work.row;
  for (int i = threadIdx.x; i < (vocab + 3) / 4; i += BOTH_THREADS) work.first(row[i], 4 * i);
  const float total = work.between();
#pragma unroll 4
  for (int i = threadIdx.x; i < stride / 4; i += BOTH_THREADS) work.second(row[i], 4 * i, total);
}

// Where the gradient of the loss is not one: its factor common to all rows (that of the first row scored, which in training
// is every row's) and each row's share of it. One block.
extern "C" __global__ void loss_factors(float* common, float* share, const float* dLoss, const int* targets, int rows,
                                        int ignore) {
  const auto scored = [&](int i) { return targets[i] != ignore && dLoss[i] != 0.f; };
  int first = rows;
  for (int i = threadIdx.x; i < rows && first == rows; i += blockDim.x)
    if (scored(i)) first = i;
  first = (int)-block_max((float)-first);  // row numbers are exact in float32 up to 2^24
  const float factor = first < rows ? dLoss[first] : 0.f;
  if (threadIdx.x == 0) *common = factor;
  for (int i = threadIdx.x; i < rows; i += blockDim.x) share[i] = scored(i) ? dLoss[i] / factor : targets[i] == ignore ? 1.f : 0.f;
}
// y = share · x, row by row; in place where y is x, and then rows with a share of one are left alone.
extern "C" __global__ void share_rows(bf16* y, const bf16* x, const float* share, int columns) {
  const float factor = share[blockIdx.x];
  if (y == x && factor == 1.f) return;
  const i64 row = (i64)blockIdx.x * columns;
  for (int c = threadIdx.x * 8; c < columns; c += blockDim.x * 8) {
    float v[8];
    load_row(x + row, c, columns, v);
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] *= factor;
    store_row(y + row, c, columns, v);
  }
}

extern "C" __global__ void cross_entropy_grad(bf16* dLogits, const float* logits, const int* targets,
                                              const float* logSumExp, const float* dLoss, int vocab, int stride, float scale, int ignore) {
  const float* row = logits + (i64)blockIdx.x * stride;
  bf16* out = dLogits + (i64)blockIdx.x * stride;
  const int target = targets[blockIdx.x];
  const float factor = target == ignore ? 0.f : dLoss[blockIdx.x] * scale, total = logSumExp[blockIdx.x];
  float v[8];
  for (int c = threadIdx.x * 8; c < stride; c += blockDim.x * 8) {
    load8(row + c, v);
#pragma unroll
    for (int j = 0; j < 8; j++)
      v[j] = c + j >= vocab || factor == 0.f ? 0.f : factor * (__expf(v[j] * scale - total) - (c + j == target ? 1.f : 0.f));
    store8(out + c, v);
  }
}
