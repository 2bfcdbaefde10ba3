// SPDX-License-Identifier: Apache-2.0
//
// The backward of attention in three kernels, for as many heads at a time as the scratch memory holds: the operands p
// and ds of every tile of 128 queries by 128 keys, made once; dq, which walks over the keys of its queries; dk and dv,
// which walk over the query heads of the group and the queries that see their keys. Ascending, so that every chain is
// the written one.
#include "fast/attention.hpp"
#include "fast/attention_tiles.cuh"

namespace ng::cuda::fast {

namespace {

constexpr std::int64_t kTileElements = std::int64_t{kTile} * kTile;
constexpr std::int64_t kMostScratchBytes = std::int64_t{1} << 30;

std::int64_t tiles_of(const AttentionJob& job) {
  return (job.length + kTile - 1) / kTile;
}

/// Tiles of scores of one head that are not all masked.
__host__ __device__ inline std::int64_t tile_pairs(std::int64_t tiles) {
  return tiles * (tiles + 1) / 2;
}

/// The heads that are worked on, and their operands: tiles one after the other, [query][key] in each.
struct Batch {
  std::int64_t first;  ///< key head, counted over all sequences
  std::int64_t count;  ///< of key heads
  std::int64_t tiles;  ///< of queries, and of keys
  void *p, *ds;        ///< [count * group][tile_pairs]

  /// Of a query head, counted from the first on.
  template <class T>
  __device__ T* operand(void* base, std::int64_t head, std::int64_t query_tile, std::int64_t key_tile) const {
    const std::int64_t tile = head * tile_pairs(tiles) + tile_pairs(query_tile) + key_tile;
    return static_cast<T*>(base) + tile * kTileElements;
  }
};

/// mean[token, head], eight neighbours each: one chain of the row sum apiece.
__global__ void __launch_bounds__(kThreadsPerBlock)
    mean_kernel(const __grid_constant__ AttentionGradientJob job, std::int64_t count) {
  const AttentionJob& f = job.forward;
  const std::int64_t number = thread_number() / kRowChains;
  const std::int64_t row = number < count ? number : count - 1;  // the last threads stay for the shuffles
  const std::int64_t token = row / f.heads;
  const std::int64_t col = row % f.heads * f.value_dim;
  float sum = 0.0f;
  for (std::int64_t c = threadIdx.x % kRowChains; c < f.value_dim; c += kRowChains)
    sum = fma_rn(load_real(job.d_out, token, col + c), load_real(f.out, token, col + c), sum);
#pragma unroll
  for (int distance = 1; distance < kRowChains; distance *= 2)
    sum = add_rn(sum, __shfl_xor_sync(0xffffffffu, sum, distance));
  if (number < count && threadIdx.x % kRowChains == 0) job.mean[row] = sum;
}

/// Copies this warp's rows of a tile of scores to memory, rounded to BF16 where T is.
template <class T>
__device__ void copy_out(const float* scores, T* to) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncwarp();
#pragma unroll 4
  for (int i = 0; i < 16; ++i) {
    const int row = static_cast<int>(threadIdx.x) / 32 * 2 + i % 2 + i / 2 * 16;
    store_four(to + row * kTile + 4 * lane, four_at(scores + row * kScoreStride + place_of(4 * lane)));
  }
  __syncwarp();
}

/// p and ds of one tile of a head; masked ones and those beyond the sequence are anything.
template <class T>
__global__ void __launch_bounds__(kThreadsPerBlock, 1)
    operands_kernel(const __grid_constant__ AttentionGradientJob job, const __grid_constant__ Batch batch) {
  extern __shared__ float4 dynamic[];
  const AttentionJob& f = job.forward;
  AttentionStream<T> stream{reinterpret_cast<float*>(dynamic)};
  float* const scores = stream.stages + 4 * kStageFloats;
  float* const log_sum_exp = scores + kScoreFloats;
  float* const mean = log_sum_exp + kTile;
  const std::int64_t local = blockIdx.x / tile_pairs(batch.tiles);
  const std::int64_t pair = blockIdx.x % tile_pairs(batch.tiles);
  std::int64_t query_tile = 0;
  while (tile_pairs(query_tile + 1) <= pair) ++query_tile;
  const std::int64_t key_tile = pair - tile_pairs(query_tile);
  const std::int64_t unit = batch.first + local / f.group();
  const std::int64_t kv = unit % f.kv_heads;
  const std::int64_t head = kv * f.group() + local % f.group();
  const std::int64_t token = unit / f.kv_heads * f.length + query_tile * kTile;
  const std::int64_t key = unit / f.kv_heads * f.length + key_tile * kTile;
  const std::int64_t queries = f.length - query_tile * kTile;
  const std::int64_t keys = f.length - key_tile * kTile;
  const HeadRows<T> q(f.qkv, token, f.query_col(head), queries);
  const HeadRows<T> k(f.qkv, key, f.key_col(kv), keys);
  const HeadRows<T> d_out(job.d_out, token, head * f.value_dim, queries);
  const HeadRows<T> v(f.qkv, key, f.value_col(kv), keys);
  const int width = static_cast<int>(f.head_dim);
  const int value_width = static_cast<int>(f.value_dim);

  stream.fetch_scores(q, k, 0, width);
  const int row = static_cast<int>(threadIdx.x);
  if (row < kTile) {
    log_sum_exp[row] = row < q.rows
                           ? static_cast<const float*>(f.log_sum_exp.data)[(token + row) * f.log_sum_exp.stride + head]
                           : 0.0f;
    mean[row] = row < q.rows ? job.mean[(token + row) * f.heads + head] : 0.0f;
  }
  float s[8][8];
  score_product(stream, q, k, width, s, [&] { stream.fetch_scores(d_out, v, 0, value_width); });
  float* const own = scores + row_of(0) * kScoreStride + place_of(column_of(0));
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j)
      own[16 * i * kScoreStride + 8 * j] = softmax_again(s[i][j], f.scales.exponent, log_sum_exp[row_of(i)]);
  copy_out(scores, batch.operand<T>(batch.p, local, query_tile, key_tile));
  score_product(stream, d_out, v, value_width, s, [] {});
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      float* const at = own + 16 * i * kScoreStride + 8 * j;
      *at = score_gradient(*at, s[i][j], mean[row_of(i)]);
    }
  copy_out(scores, batch.operand<T>(batch.ds, local, query_tile, key_tile));
}

/// Terms of a stage on their way: 32 of them.
template <class T, int kCols>
struct TermStream {
  float* stages;
  int turn = 0;
  Four<T> factors[4];
  Four<T> rows[kCols / 32];

  __device__ float* stage_factors() const { return stages + turn * 2 * kStageFloats; }
  __device__ float* stage_rows() const { return stage_factors() + kStageFloats; }
};

/// dq of 128 queries of a head, some columns.
template <class T, int kCols>
__global__ void __launch_bounds__(kThreadsPerBlock, 1)
    query_kernel(const __grid_constant__ AttentionGradientJob job, const __grid_constant__ Batch batch) {
  extern __shared__ float4 dynamic[];
  const AttentionJob& f = job.forward;
  TermStream<T, kCols> stream{reinterpret_cast<float*>(dynamic)};
  const std::int64_t heads = batch.count * f.group();
  const int slices = static_cast<int>((f.head_dim + kCols - 1) / kCols);
  const std::int64_t tile = batch.tiles - 1 - blockIdx.x / (heads * slices);  // the longest first
  const int col = static_cast<int>(blockIdx.x / heads % slices) * kCols;
  const std::int64_t local = blockIdx.x % heads;
  const std::int64_t unit = batch.first + local / f.group();
  const std::int64_t kv = unit % f.kv_heads;
  const std::int64_t first = unit / f.kv_heads * f.length;
  const int width = static_cast<int>(f.head_dim);

  const auto ask = [&](std::int64_t key_tile, int term) {
    const HeadRows<T> factors(batch.operand<T>(batch.ds, local, tile, key_tile), kTile, kTile);
    const HeadRows<T> keys(f.qkv, first + key_tile * kTile, f.key_col(kv), f.length - key_tile * kTile);
    fetch<kStep / 4>(stream.factors, factors, 0, term, kTile);
    fetch<kCols / 4>(stream.rows, keys, term, col, width);
  };
  float sum[8][kCols / 16] = {};
  ask(0, 0);
#pragma unroll 1
  for (std::int64_t key_tile = 0; key_tile <= tile; ++key_tile) {
    const bool diagonal = key_tile == tile;
    const std::int64_t left = f.length - key_tile * kTile;
    const int terms = left < kTile ? static_cast<int>(left) : kTile;
#pragma unroll 1
    for (int term = 0; term < terms; term += kStep) {
      put<kStep / 4>(stream.stage_factors(), stream.factors);
      put<kCols / 4>(stream.stage_rows(), stream.rows);
      __syncthreads();
      if (term + kStep < terms)
        ask(key_tile, term + kStep);
      else if (!diagonal)
        ask(key_tile + 1, 0);
      const float* const factors = stream.stage_factors() + row_of(0) * kStepStride;
      const float* const rows = stream.stage_rows() + 4 * thread_x();
      if (diagonal)
        add_terms<kCols, kStepStride>(sum, factors, rows, kStep, [&](int row, int k) { return term + k <= row; });
      else
        add_terms<kCols, kStepStride>(sum, factors, rows, kStep, AllVisible{});
      stream.turn ^= 1;
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int c = 0; c < kCols / 16; ++c) sum[i][c] = mul_rn(sum[i][c], f.scales.score);
  const std::int64_t rows = f.length - tile * kTile;
  store_rows<kCols>(job.d_qkv, first + tile * kTile, static_cast<int>(rows < kTile ? rows : kTile),
                    f.query_col(kv * f.group() + local % f.group()), col, width, sum, [](int i) { return row_of(i); });
}

/// Rows of a thread where factors lie term by term: two times four neighbours.
__device__ inline int quad_row_of(int i) {
  return static_cast<int>(threadIdx.x) / 16 * 4 + i % 4 + i / 4 * 64;
}

__device__ __forceinline__ void load_factors(float (&p)[8], const float* term) {
  const float4 low = four_at(term);
  const float4 high = four_at(term + 64);
  p[0] = low.x, p[1] = low.y, p[2] = low.z, p[3] = low.w;
  p[4] = high.x, p[5] = high.y, p[6] = high.z, p[7] = high.w;
}

/// The 32 terms of a stage: sum[i][c] += factors(term, row i) * rows(term, column c), where visible(row, term). Both
/// are read one term beyond.
template <int kCols, class Visible>
__device__ __forceinline__ void add_terms_of_keys(float (&sum)[8][kCols / 16], const float* factors, const float* rows,
                                                  const Visible& visible) {
  constexpr int kFactorStride = kTile + 4;
  float p[8];
  float x[kCols / 16];
  load_factors(p, factors);
  load_columns<kCols>(x, rows);
#pragma unroll 4
  for (int k = 0; k < kStep; ++k) {
    float p_next[8];
    float x_next[kCols / 16];
    load_factors(p_next, factors + (k + 1) * kFactorStride);
    load_columns<kCols>(x_next, rows + (k + 1) * (kCols + 4));
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (!visible(quad_row_of(i), k)) continue;
#pragma unroll
      for (int c = 0; c < kCols / 16; ++c) sum[i][c] = fma_rn(p[i], x[c], sum[i][c]);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) p[i] = p_next[i];
#pragma unroll
    for (int c = 0; c < kCols / 16; ++c) x[c] = x_next[c];
  }
}

/// dk or dv of 128 keys of a head, some columns.
template <class T, int kCols>
__global__ void __launch_bounds__(kThreadsPerBlock, 1)
    key_kernel(const __grid_constant__ AttentionGradientJob job, const __grid_constant__ Batch batch) {
  extern __shared__ float4 dynamic[];
  const AttentionJob& f = job.forward;
  TermStream<T, kCols> stream{reinterpret_cast<float*>(dynamic)};
  const int key_slices = static_cast<int>((f.head_dim + kCols - 1) / kCols);
  const int slices = key_slices + static_cast<int>((f.value_dim + kCols - 1) / kCols);
  const std::int64_t tile = blockIdx.x / (batch.count * slices);  // the longest first
  const int slice = static_cast<int>(blockIdx.x / batch.count % slices);
  const bool of_key = slice < key_slices;
  const int col = (of_key ? slice : slice - key_slices) * kCols;
  const int width = static_cast<int>(of_key ? f.head_dim : f.value_dim);
  const std::int64_t unit = batch.first + blockIdx.x % batch.count;
  const std::int64_t local = blockIdx.x % batch.count * f.group();  // its first query head
  const std::int64_t kv = unit % f.kv_heads;
  const std::int64_t first = unit / f.kv_heads * f.length;

  const auto ask = [&](std::int64_t of_group, std::int64_t query_tile, int term) {
    const std::int64_t head = kv * f.group() + of_group;
    const HeadRows<T> factors(batch.operand<T>(of_key ? batch.ds : batch.p, local + of_group, query_tile, tile), kTile,
                              kTile);
    const HeadRows<T> rows(of_key ? f.qkv : job.d_out, first + query_tile * kTile,
                           of_key ? f.query_col(head) : head * f.value_dim, f.length - query_tile * kTile);
    fetch<kTile / 4>(stream.factors, factors, term, 0, kTile);
    fetch<kCols / 4>(stream.rows, rows, term, col, width);
  };
  float sum[8][kCols / 16] = {};
  ask(0, tile, 0);
#pragma unroll 1
  for (std::int64_t of_group = 0; of_group < f.group(); ++of_group)
#pragma unroll 1
    for (std::int64_t query_tile = tile; query_tile < batch.tiles; ++query_tile) {
      const bool diagonal = query_tile == tile;
      const std::int64_t left = f.length - query_tile * kTile;
      const int terms = left < kTile ? static_cast<int>(left) : kTile;
#pragma unroll 1
      for (int term = 0; term < terms; term += kStep) {
        put<kTile / 4>(stream.stage_factors(), stream.factors);
        put<kCols / 4>(stream.stage_rows(), stream.rows);
        __syncthreads();
        if (term + kStep < terms)
          ask(of_group, query_tile, term + kStep);
        else if (query_tile + 1 < batch.tiles)
          ask(of_group, query_tile + 1, 0);
        else if (of_group + 1 < f.group())
          ask(of_group + 1, tile, 0);
        const float* const factors = stream.stage_factors() + quad_row_of(0);
        const float* const rows = stream.stage_rows() + 4 * thread_x();
        if (diagonal || terms - term < kStep)
          add_terms_of_keys<kCols>(sum, factors, rows,
                                   [&](int row, int k) { return term + k < terms && (!diagonal || term + k >= row); });
        else
          add_terms_of_keys<kCols>(sum, factors, rows, AllVisible{});
        stream.turn ^= 1;
      }
    }
  if (of_key)
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int c = 0; c < kCols / 16; ++c) sum[i][c] = mul_rn(sum[i][c], f.scales.score);
  const std::int64_t rows = f.length - tile * kTile;
  store_rows<kCols>(job.d_qkv, first + tile * kTile, static_cast<int>(rows < kTile ? rows : kTile),
                    of_key ? f.key_col(kv) : f.value_col(kv), col, width, sum, [](int i) { return quad_row_of(i); });
}

/// Bytes of the operands of one key head.
std::int64_t operand_bytes(const AttentionJob& job) {
  return 2 * job.group() * tile_pairs(tiles_of(job)) * kTileElements *
         static_cast<std::int64_t>(size_of(job.qkv.dtype));
}

template <class T, int kCols>
void launch_sums(const AttentionGradientJob& job, const Batch& batch, Stream stream) {
  const AttentionJob& f = job.forward;
  const std::int64_t key_slices = (f.head_dim + kCols - 1) / kCols;
  const std::int64_t value_slices = (f.value_dim + kCols - 1) / kCols;
  launch_blocks("attention dk dv", key_kernel<T, kCols>, batch.count * batch.tiles * (key_slices + value_slices),
                kAttentionSharedBytes, stream, job, batch);
  launch_blocks("attention dq", query_kernel<T, kCols>, batch.count * f.group() * batch.tiles * key_slices,
                kAttentionSharedBytes, stream, job, batch);
}

template <class T>
void launch_backward(const AttentionGradientJob& job, void* scratch, std::size_t bytes, Stream stream) {
  const AttentionJob& f = job.forward;
  const std::int64_t rows = f.tokens() * f.heads;
  launch("attention mean", mean_kernel, rows * kRowChains, stream, job, rows);
  const std::int64_t units = f.sequences * f.kv_heads;
  const std::int64_t at_once = static_cast<std::int64_t>(bytes) / operand_bytes(f);
  for (std::int64_t first = 0; first < units; first += at_once) {
    const std::int64_t count = units - first < at_once ? units - first : at_once;
    const std::int64_t half = count * operand_bytes(f) / 2;
    const Batch batch{first, count, tiles_of(f), scratch, static_cast<char*>(scratch) + half};
    launch_blocks("attention p ds", operands_kernel<T>, count * f.group() * tile_pairs(batch.tiles),
                  kAttentionSharedBytes, stream, job, batch);
    if (f.head_dim <= 64 && f.value_dim <= 64)
      launch_sums<T, 64>(job, batch, stream);
    else
      launch_sums<T, 128>(job, batch, stream);
  }
}

}  // namespace

bool attention_backward_serves(const AttentionGradientJob& job) {
  const AttentionJob& f = job.forward;
  return f.head_dim % 4 == 0 && f.value_dim % 4 == 0 && job.d_out.dtype == f.qkv.dtype && reads_by_four(f.qkv) &&
         reads_by_four(job.d_out) && reads_by_four(job.d_qkv);
}

std::size_t attention_backward_scratch(const AttentionJob& job) {
  const std::int64_t one = operand_bytes(job);
  const std::int64_t units = job.sequences * job.kv_heads;
  const std::int64_t fit = kMostScratchBytes / one;
  return static_cast<std::size_t>(one * (fit < 1 ? 1 : fit < units ? fit : units));
}

void attention_backward(const AttentionGradientJob& job, void* scratch, std::size_t bytes, Stream stream) {
  if (job.forward.tokens() == 0) return;
  if (job.forward.qkv.dtype == Dtype::bf16)
    launch_backward<std::uint16_t>(job, scratch, bytes, stream);
  else
    launch_backward<float>(job, scratch, bytes, stream);
}

}  // namespace ng::cuda::fast
