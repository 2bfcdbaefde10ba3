// SPDX-License-Identifier: Apache-2.0
//
// Attention, one block for 128 queries of a head and up to 128 columns of the output (wider ones make the scores once
// more). Two key tiles of the written order at a time: their scores in registers, the 16 threads of a row find maximum
// and sum by shuffles.
#include "fast/attention.hpp"

#include "fast/attention_tiles.cuh"

namespace ng::cuda::fast {

namespace {

/// One piece of work: a tile of queries of a head, and columns of the output.
struct Piece {
  int tile, col;
  std::int64_t head, sequence;
};

/// Numbers a row in shared memory.
struct RowState {
  float* maximum;
  float* sum;
  float* carry;  ///< [2][kTile], of the two key tiles
};

/// Scores s of a tile become operands in shared memory; the row states move on.
template <bool kRound>
__device__ void softmax_tile(float (&s)[8][8], float c, bool diagonal, const RowState& state, float* scores) {
  constexpr unsigned kAll = 0xffffffffu;
  const bool second = thread_x() >= 8;
  const auto seen = [&](int i, int j) { return !diagonal || column_of(j) <= row_of(i); };
  float maximum[8];  // of this thread's key tile
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    maximum[i] = kAttentionStart;
#pragma unroll
    for (int j = 0; j < 8; ++j)
      if (seen(i, j)) maximum[i] = larger_of(maximum[i], s[i][j]);
  }
#pragma unroll
  for (int distance = 1; distance < 8; distance *= 2)
#pragma unroll
    for (int i = 0; i < 8; ++i) maximum[i] = larger_of(maximum[i], __shfl_xor_sync(kAll, maximum[i], distance));
  float carry[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float other = __shfl_xor_sync(kAll, maximum[i], 8);
    const float before = state.maximum[row_of(i)];
    const float first = larger_of(before, second ? other : maximum[i]);
    maximum[i] = second ? larger_of(first, maximum[i]) : first;
    carry[i] = softmax_term(second ? first : before, maximum[i], c);
  }
  float sum[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    sum[i] = 0.0f;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      // The +0 of a masked key changes no sum of numbers that are not negative.
      const float p = seen(i, j) ? softmax_term(s[i][j], maximum[i], c) : 0.0f;
      sum[i] = add_rn(sum[i], p);
      scores[row_of(i) * kScoreStride + place_of(column_of(j))] = attention_operand(p, kRound);
    }
  }
#pragma unroll
  for (int distance = 1; distance < 8; distance *= 2)
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] = add_rn(sum[i], __shfl_xor_sync(kAll, sum[i], distance));
  __syncwarp();  // all have read the old maximum
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float second_sum = __shfl_xor_sync(kAll, sum[i], 8);
    const float second_carry = __shfl_xor_sync(kAll, carry[i], 8);
    const float second_maximum = __shfl_xor_sync(kAll, maximum[i], 8);
    if (thread_x() != 0) continue;
    const int row = row_of(i);
    state.sum[row] = fma_rn(fma_rn(state.sum[row], carry[i], sum[i]), second_carry, second_sum);
    state.maximum[row] = second_maximum;
    state.carry[row] = carry[i];
    state.carry[kTile + row] = second_carry;
  }
  __syncwarp();
}

template <class T, int kCols>
__device__ void attend(const AttentionJob& job, const Piece& piece, float* shared) {
  AttentionStream<T> stream{shared};
  float* const scores = shared + 4 * kStageFloats;
  float* const numbers = scores + kScoreFloats;
  const RowState state{numbers, numbers + kTile, numbers + 2 * kTile};
  const std::int64_t first = piece.sequence * job.length;
  const std::int64_t kv = piece.head / job.group();
  const int width = static_cast<int>(job.head_dim);
  const int cols = static_cast<int>(job.value_dim);
  const std::int64_t query = static_cast<std::int64_t>(piece.tile) * kTile;
  const HeadRows<T> q(job.qkv, first + query, job.query_col(piece.head), job.length - query);
  const auto keys_from = [&](std::int64_t key) {
    return HeadRows<T>(job.qkv, first + key, job.key_col(kv), job.length - key);
  };

  stream.fetch_scores(q, keys_from(0), 0, width);
  if (thread_x() == 0)
    for (int i = 0; i < 8; ++i) {
      state.maximum[row_of(i)] = kAttentionStart;
      state.sum[row_of(i)] = 0.0f;
    }
  __syncwarp();
  float out[8][kCols / 16];
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int c = 0; c < kCols / 16; ++c) out[i][c] = 0.0f;

#pragma unroll 1
  for (std::int64_t key = 0; key <= query; key += kTile) {
    const bool diagonal = key == query;
    const HeadRows<T> values(job.qkv, first + key, job.value_col(kv), job.length - key);
    float s[8][8];
    score_product(stream, q, keys_from(key), width, s,
                  [&] { stream.template fetch_terms<kCols>(values, 0, piece.col, cols); });
    softmax_tile<sizeof(T) == 2>(s, job.scales.exponent, diagonal, state, scores);
    output_product<kCols>(
        stream, scores, values, values.rows, piece.col, cols, out, diagonal,
        [&](int term) {
          if (term % kAttentionKeys != 0) return;
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            const float carry = state.carry[term / kAttentionKeys * kTile + row_of(i)];
#pragma unroll
            for (int c = 0; c < kCols / 16; ++c) out[i][c] = mul_rn(out[i][c], carry);
          }
        },
        [](int row, int term) { return term <= row; },
        [&] {
          if (!diagonal) stream.fetch_scores(q, keys_from(key + kTile), 0, width);
        });
  }

#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = row_of(i);
    const float sum = state.sum[row];
#pragma unroll
    for (int c = 0; c < kCols / 16; ++c) out[i][c] = div_rn(out[i][c], sum);
    if (piece.col == 0 && thread_x() == 0 && row < q.rows)
      static_cast<float*>(job.log_sum_exp.data)[(first + query + row) * job.log_sum_exp.stride + piece.head] =
          attention_log_sum_exp(state.maximum[row], sum, job.scales.exponent);
  }
  store_rows<kCols>(job.out, first + query, q.rows, piece.head * job.value_dim, piece.col, cols, out,
                    [](int i) { return row_of(i); });
}

template <class T, int kCols>
__global__ void __launch_bounds__(kThreadsPerBlock, 1)
    attention_kernel(const __grid_constant__ AttentionJob job, int tiles, int slices) {
  extern __shared__ float4 dynamic[];
  const std::int64_t heads = job.sequences * job.heads;
  const std::int64_t of_tile = blockIdx.x % (heads * slices);
  const int tile = tiles - 1 - static_cast<int>(blockIdx.x / (heads * slices));  // the longest first
  attend<T, kCols>(
      job, {tile, static_cast<int>(of_tile / heads) * kCols, of_tile % heads % job.heads, of_tile % heads / job.heads},
      reinterpret_cast<float*>(dynamic));
}

template <class T, int kCols>
void launch_attention(const AttentionJob& job, Stream stream) {
  const int tiles = static_cast<int>((job.length + kTile - 1) / kTile);
  const int slices = static_cast<int>((job.value_dim + kCols - 1) / kCols);
  launch_blocks("attention", attention_kernel<T, kCols>, job.sequences * job.heads * tiles * slices,
                kAttentionSharedBytes, stream, job, tiles, slices);
}

template <class T>
void launch_for_width(const AttentionJob& job, Stream stream) {
  if (job.value_dim <= 64)
    launch_attention<T, 64>(job, stream);
  else
    launch_attention<T, 128>(job, stream);
}

}  // namespace

bool attention_serves(const AttentionJob& job) {
  return job.head_dim % 4 == 0 && job.value_dim % 4 == 0 && reads_by_four(job.qkv) && reads_by_four(job.out);
}

void attention(const AttentionJob& job, Stream stream) {
  if (job.qkv.dtype == Dtype::bf16)
    launch_for_width<std::uint16_t>(job, stream);
  else
    launch_for_width<float>(job, stream);
}

}  // namespace ng::cuda::fast
