// SPDX-License-Identifier: Apache-2.0
//
// The backward of attention, scores made again: a kernel for each of dq, dk and dv, one block for 128 rows of a head
// and up to 128 columns. dq walks over the keys of its queries, dk and dv over the query heads of the group and the
// queries that see their keys, each ascending, so that every chain is the written one.
#include "fast/attention.hpp"
#include "fast/attention_tiles.cuh"

namespace ng::cuda::fast {

namespace {

enum class Gradient : std::uint8_t { query, key, value };

/// One piece of work: a tile of rows of a head (of queries or keys), and columns of the output.
struct Piece {
  int tile, col;
  std::int64_t head, sequence;
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

/// log_sum_exp and mean of up to 128 queries of a head.
struct QueryNumbers {
  float* log_sum_exp;
  float* mean;

  __device__ void load(const AttentionGradientJob& job, std::int64_t token, std::int64_t head, int rows) const {
    const int i = static_cast<int>(threadIdx.x);
    if (i >= kTile) return;
    const AttentionJob& f = job.forward;
    const TensorView& lse = f.log_sum_exp;
    log_sum_exp[i] = i < rows ? static_cast<const float*>(lse.data)[(token + i) * lse.stride + head] : 0.0f;
    mean[i] = i < rows ? job.mean[(token + i) * f.heads + head] : 0.0f;
  }
};

template <class T, int kCols, Gradient kOf>
__device__ void differentiate(const AttentionGradientJob& job, const Piece& piece, float* shared) {
  constexpr bool kRound = sizeof(T) == 2;
  constexpr bool kQueryRows = kOf == Gradient::query;
  const AttentionJob& f = job.forward;
  AttentionStream<T> stream{shared};
  float* const scores = shared + 4 * kStageFloats;
  float* const numbers = scores + kScoreFloats;
  const QueryNumbers of_query{numbers, numbers + kTile};
  const std::int64_t first = piece.sequence * f.length;
  const std::int64_t kv = kQueryRows ? piece.head / f.group() : piece.head;
  const int width = static_cast<int>(f.head_dim);
  const int value_width = static_cast<int>(f.value_dim);
  const int cols = kOf == Gradient::value ? value_width : width;
  const std::int64_t row0 = static_cast<std::int64_t>(piece.tile) * kTile;
  const auto queries = [&](std::int64_t head, std::int64_t at) {
    return HeadRows<T>(f.qkv, first + at, f.query_col(head), f.length - at);
  };
  const auto out_gradients = [&](std::int64_t head, std::int64_t at) {
    return HeadRows<T>(job.d_out, first + at, head * f.value_dim, f.length - at);
  };
  const auto keys = [&](std::int64_t at) { return HeadRows<T>(f.qkv, first + at, f.key_col(kv), f.length - at); };
  const auto values = [&](std::int64_t at) { return HeadRows<T>(f.qkv, first + at, f.value_col(kv), f.length - at); };

  const std::int64_t first_head = kQueryRows ? piece.head : kv * f.group();
  const std::int64_t last_head = kQueryRows ? piece.head : first_head + f.group() - 1;
  const std::int64_t first_col = kQueryRows ? 0 : row0;
  const std::int64_t last_col = kQueryRows ? row0 : (f.length - 1) / kTile * kTile;
  const auto ask_scores = [&](std::int64_t head, std::int64_t col) {
    stream.fetch_scores(kQueryRows ? queries(head, row0) : keys(row0), kQueryRows ? keys(col) : queries(head, col), 0,
                        width);
  };

  float sum[8][kCols / 16];
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int c = 0; c < kCols / 16; ++c) sum[i][c] = 0.0f;
  ask_scores(first_head, first_col);

#pragma unroll 1
  for (std::int64_t head = first_head; head <= last_head; ++head)
#pragma unroll 1
    for (std::int64_t col = first_col; col <= last_col; col += kTile) {
      const std::int64_t query = kQueryRows ? row0 : col;
      const HeadRows<T> terms = kQueryRows             ? keys(col)
                                : kOf == Gradient::key ? queries(head, col)
                                                       : out_gradients(head, col);
      const auto ask_terms = [&] { stream.template fetch_terms<kCols>(terms, 0, piece.col, cols); };
      of_query.load(job, first + query, head, queries(head, query).rows);
      float s[8][8];
      score_product(stream, kQueryRows ? queries(head, row0) : keys(row0), kQueryRows ? keys(col) : queries(head, col),
                    width, s, [&] {
                      if constexpr (kOf == Gradient::value)
                        ask_terms();
                      else
                        stream.fetch_scores(kQueryRows ? out_gradients(head, row0) : values(row0),
                                            kQueryRows ? values(col) : out_gradients(head, col), 0, value_width);
                    });
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const float p =
              softmax_again(s[i][j], f.scales.exponent, of_query.log_sum_exp[kQueryRows ? row_of(i) : column_of(j)]);
          scores[row_of(i) * kScoreStride + place_of(column_of(j))] =
              kOf == Gradient::value ? attention_operand(p, kRound) : p;
        }
      if constexpr (kOf != Gradient::value) {
        score_product(stream, kQueryRows ? out_gradients(head, row0) : values(row0),
                      kQueryRows ? values(col) : out_gradients(head, col), value_width, s, ask_terms);
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
          for (int j = 0; j < 8; ++j) {
            float* const p = scores + row_of(i) * kScoreStride + place_of(column_of(j));
            const float mean = of_query.mean[kQueryRows ? row_of(i) : column_of(j)];
            *p = attention_operand(score_gradient(*p, s[i][j], mean), kRound);
          }
      }
      __syncwarp();
      const bool diagonal = col == row0;
      output_product<kCols>(
          stream, scores, terms, terms.rows, piece.col, cols, sum, diagonal || terms.rows < kTile, [](int) {},
          [&](int row, int term) {
            return term < terms.rows && (!diagonal || (kQueryRows ? term <= row : term >= row));
          },
          [&] {
            if (col < last_col)
              ask_scores(head, col + kTile);
            else if (head < last_head)
              ask_scores(head + 1, first_col);
          });
    }

  if (kOf != Gradient::value)
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int c = 0; c < kCols / 16; ++c) sum[i][c] = mul_rn(sum[i][c], f.scales.score);
  store_rows<kCols>(job.d_qkv, first + row0, keys(row0).rows,
                    kOf == Gradient::query ? f.query_col(piece.head)
                    : kOf == Gradient::key ? f.key_col(kv)
                                           : f.value_col(kv),
                    piece.col, cols, sum);
}

template <class T, int kCols, Gradient kOf>
__global__ void __launch_bounds__(kThreadsPerBlock, 1)
    gradient_kernel(const __grid_constant__ AttentionGradientJob job, int tiles, int slices, std::int64_t pieces) {
  extern __shared__ float4 dynamic[];
  const std::int64_t heads = kOf == Gradient::query ? job.forward.heads : job.forward.kv_heads;
  const std::int64_t all_heads = job.forward.sequences * heads;
  for (std::int64_t number = blockIdx.x; number < pieces; number += gridDim.x) {
    const int tile = static_cast<int>(number / (all_heads * slices));  // the longest tiles first
    const std::int64_t of_tile = number % (all_heads * slices);
    differentiate<T, kCols, kOf>(
        job,
        {kOf == Gradient::query ? tiles - 1 - tile : tile, static_cast<int>(of_tile / all_heads) * kCols,
         of_tile % all_heads % heads, of_tile % all_heads / heads},
        reinterpret_cast<float*>(dynamic));
    __syncthreads();
  }
}

template <class T, int kCols, Gradient kOf>
void launch_columns(const char* name, const AttentionGradientJob& job, std::int64_t cols, Stream stream) {
  const AttentionJob& f = job.forward;
  const int tiles = static_cast<int>((f.length + kTile - 1) / kTile);
  const int slices = static_cast<int>((cols + kCols - 1) / kCols);
  const std::int64_t heads = f.sequences * (kOf == Gradient::query ? f.heads : f.kv_heads);
  const std::int64_t pieces = heads * tiles * slices;
  launch_resident(name, gradient_kernel<T, kCols, kOf>, pieces, kAttentionSharedBytes, stream, job, tiles, slices,
                  pieces);
}

template <class T, Gradient kOf>
void launch_gradient(const char* name, const AttentionGradientJob& job, Stream stream) {
  const std::int64_t cols = kOf == Gradient::value ? job.forward.value_dim : job.forward.head_dim;
  if (cols <= 64)
    launch_columns<T, 64, kOf>(name, job, cols, stream);
  else
    launch_columns<T, 128, kOf>(name, job, cols, stream);
}

template <class T>
void launch_backward(const AttentionGradientJob& job, Stream stream) {
  const std::int64_t rows = job.forward.tokens() * job.forward.heads;
  launch("attention mean", mean_kernel, rows * kRowChains, stream, job, rows);
  launch_gradient<T, Gradient::query>("attention dq", job, stream);
  launch_gradient<T, Gradient::key>("attention dk", job, stream);
  launch_gradient<T, Gradient::value>("attention dv", job, stream);
}

}  // namespace

bool attention_backward_serves(const AttentionGradientJob& job) {
  const AttentionJob& f = job.forward;
  return f.head_dim % 4 == 0 && f.value_dim % 4 == 0 && job.d_out.dtype == f.qkv.dtype && reads_by_four(f.qkv) &&
         reads_by_four(job.d_out) && reads_by_four(job.d_qkv);
}

void attention_backward(const AttentionGradientJob& job, Stream stream) {
  if (job.forward.qkv.dtype == Dtype::bf16)
    launch_backward<std::uint16_t>(job, stream);
  else
    launch_backward<float>(job, stream);
}

}  // namespace ng::cuda::fast
