// SPDX-License-Identifier: Apache-2.0
//
// Sums down the tokens. The gradient of a gain: a block owns eight or sixteen columns, all its threads keep copies of
// coming rows under way into shared memory, one lane for each column adds them up. The gradient of the embedding: the
// block of the first token with an id finds the others with the same id, in order, and adds them up.
#include "fast/columns.hpp"

#include <cuda_pipeline_primitives.h>

#include "fast/eight_views.cuh"
#include "narrowgauge/numerics/rms_norm.hpp"

namespace ng::cuda::fast {

namespace {

// ---- gains

constexpr int kStageRows = 64;
constexpr int kStages = 6;
constexpr int kBlockCols = 16;
constexpr int kStageBytes = kStageRows * kBlockCols * 4;  // of one tensor
constexpr int kUnrolled = 16;                             // rows that a lane loads ahead of its chain

struct Gains {
  TensorView x, rstd, dy;
  float* d_gain;
  int cols;  // of a block: 8 or 16
  std::int64_t width;
  std::int64_t rows;  // parts of all tokens

  /// Starts the copy of rows [row0, row0 + kStageRows) of this block's columns of a tensor.
  __device__ void start_copy(const TensorView& from, std::int64_t row0, std::uint8_t* to) const {
    const int row_bytes = cols * static_cast<int>(from.dtype == Dtype::f32 ? sizeof(float) : sizeof(std::uint16_t));
    const int chunks = row_bytes / 16;
    const int width_bytes = row_bytes / cols;
    const int row = static_cast<int>(threadIdx.x) / chunks;
    const int chunk = static_cast<int>(threadIdx.x) % chunks;
    if (row >= kStageRows || row0 + row >= rows) return;
    const RowAndEight place = place_of(row0 + row, rstd.cols);
    const std::int64_t col = place.eight * width + static_cast<std::int64_t>(blockIdx.x) * cols;
    const std::uint8_t* const at =
        static_cast<const std::uint8_t*>(from.data) + (place.row * from.stride + col) * width_bytes + chunk * 16;
    __pipeline_memcpy_async(to + row * row_bytes + chunk * 16, at, 16);
  }
  __device__ void start_copy_of_rstd(std::int64_t row0, float* to) const {
    const int row = static_cast<int>(threadIdx.x);
    if (row >= kStageRows || row0 + row >= rows) return;
    const RowAndEight place = place_of(row0 + row, rstd.cols);
    __pipeline_memcpy_async(to + row, static_cast<const float*>(rstd.data) + place.row * rstd.stride + place.eight, 4);
  }
};

struct Stage {
  alignas(16) std::uint8_t x[kStageBytes];
  alignas(16) std::uint8_t dy[kStageBytes];
  alignas(16) float rstd[kStageRows];
};

template <bool kBf16>
__device__ float element_of(const std::uint8_t* stage, int at) {
  if constexpr (kBf16)
    return widen_bf16(reinterpret_cast<const std::uint16_t*>(stage)[at]);
  else
    return reinterpret_cast<const float*>(stage)[at];
}

/// Both loops do the same; whole batches of rows come with their loads first.
template <bool kXBf16, bool kDyBf16>
__device__ float add_rows(const Stage& stage, int rows, int cols, int lane, float sum) {
  int row = 0;
  for (; row + kUnrolled <= rows; row += kUnrolled) {
    float x[kUnrolled], dy[kUnrolled], rstd[kUnrolled];
#pragma unroll
    for (int i = 0; i < kUnrolled; ++i) {
      x[i] = element_of<kXBf16>(stage.x, (row + i) * cols + lane);
      dy[i] = element_of<kDyBf16>(stage.dy, (row + i) * cols + lane);
      rstd[i] = stage.rstd[row + i];
    }
#pragma unroll
    for (int i = 0; i < kUnrolled; ++i) sum = rms_norm_gain_step(sum, x[i], rstd[i], dy[i]);
  }
  for (; row < rows; ++row)
    sum = rms_norm_gain_step(sum, element_of<kXBf16>(stage.x, row * cols + lane), stage.rstd[row],
                             element_of<kDyBf16>(stage.dy, row * cols + lane));
  return sum;
}

template <bool kXBf16, bool kDyBf16>
__global__ void __launch_bounds__(kThreadsPerBlock) gains_kernel(const __grid_constant__ Gains work) {
  extern __shared__ uint4 sm_memory[];
  Stage* const stages = reinterpret_cast<Stage*>(sm_memory);
  const auto start = [&](std::int64_t number) {
    const std::int64_t row0 = number * kStageRows;
    Stage& stage = stages[number % kStages];
    if (row0 < work.rows) {
      work.start_copy(work.x, row0, stage.x);
      work.start_copy(work.dy, row0, stage.dy);
      work.start_copy_of_rstd(row0, stage.rstd);
    }
    __pipeline_commit();
  };
  const std::int64_t numbers = (work.rows + kStageRows - 1) / kStageRows;
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t col = static_cast<std::int64_t>(blockIdx.x) * work.cols + lane;
  const bool adds = lane < work.cols;
  float sum = adds ? work.d_gain[col] : 0.0f;
  for (int i = 0; i < kStages - 1; ++i) start(i);
  for (std::int64_t number = 0; number < numbers; ++number) {
    __pipeline_wait_prior(kStages - 2);
    __syncthreads();  // this stage has come, and the one before has been added up: it may be filled again
    start(number + kStages - 1);
    const std::int64_t left = work.rows - number * kStageRows;
    if (adds)
      sum = add_rows<kXBf16, kDyBf16>(stages[number % kStages], static_cast<int>(left < kStageRows ? left : kStageRows),
                                      work.cols, lane, sum);
  }
  if (adds) work.d_gain[col] = sum;
}

// ---- embedding

constexpr int kIdsPerThread = 4;
constexpr int kChunk = kThreadsPerBlock * kIdsPerThread;  // of tokens that are compared at a time
constexpr int kWarps = kThreadsPerBlock / 32;
constexpr int kColsPerThread = 8;
constexpr int kPieceCols = kThreadsPerBlock * kColsPerThread;
constexpr int kTokensAhead = 4;  // whose rows are loaded before they are added

struct EmbeddingGradient {
  const std::int32_t* ids;
  TensorView dy, d_table;
  std::int64_t pieces;  // of columns
};

__global__ void __launch_bounds__(kThreadsPerBlock) embedding_kernel(const __grid_constant__ EmbeddingGradient work) {
  __shared__ int sm_counts[kIdsPerThread * kWarps];
  __shared__ std::int32_t sm_tokens[kChunk];
  const std::int64_t tokens = work.dy.rows;
  const std::int64_t token = blockIdx.x / work.pieces;
  const std::int64_t col0 = blockIdx.x % work.pieces * kPieceCols + threadIdx.x;
  const std::int32_t id = work.ids[token];
  if (id < 0) return;
  for (std::int64_t base = 0; base < token; base += kChunk) {
    bool found = false;
#pragma unroll
    for (int j = 0; j < kIdsPerThread; ++j) {
      const std::int64_t t = base + j * kThreadsPerBlock + threadIdx.x;
      found = found || (t < token && work.ids[t] == id);
    }
    if (__syncthreads_or(found) != 0) return;  // another block's
  }

  float sum[kColsPerThread];
#pragma unroll
  for (int j = 0; j < kColsPerThread; ++j) {
    const std::int64_t col = col0 + j * kThreadsPerBlock;
    sum[j] = col < work.dy.cols ? load_real(work.d_table, id, col) : 0.0f;
  }
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (std::int64_t base = token; base < tokens; base += kChunk) {
    // 1. The tokens of this chunk with the id, in order.
    unsigned hits[kIdsPerThread];
    bool found = false;
#pragma unroll
    for (int j = 0; j < kIdsPerThread; ++j) {
      const std::int64_t t = base + j * kThreadsPerBlock + threadIdx.x;
      hits[j] = __ballot_sync(0xffffffffu, t < tokens && work.ids[t] == id);
      found = found || hits[j] != 0;
      if (lane == 0) sm_counts[j * kWarps + warp] = __popc(hits[j]);
    }
    if (__syncthreads_or(found) == 0) continue;
    int count = 0;
#pragma unroll
    for (int j = 0; j < kIdsPerThread; ++j) {
      for (int w = 0; w < kWarps; ++w) {
        if (w == warp && (hits[j] >> lane & 1u) != 0)
          sm_tokens[count + __popc(hits[j] & ((1u << lane) - 1u))] =
              static_cast<std::int32_t>(base - token + j * kThreadsPerBlock + threadIdx.x);
        count += sm_counts[j * kWarps + w];
      }
    }
    __syncthreads();
    // 2. Their rows, some at a time.
    for (int first = 0; first < count; first += kTokensAhead) {
      float dy[kTokensAhead][kColsPerThread];
#pragma unroll
      for (int i = 0; i < kTokensAhead; ++i) {
        if (first + i >= count) break;
        const std::int64_t t = token + sm_tokens[first + i];
#pragma unroll
        for (int j = 0; j < kColsPerThread; ++j) {
          const std::int64_t col = col0 + j * kThreadsPerBlock;
          dy[i][j] = col < work.dy.cols ? load_real(work.dy, t, col) : 0.0f;
        }
      }
#pragma unroll
      for (int i = 0; i < kTokensAhead; ++i) {
        if (first + i >= count) break;
#pragma unroll
        for (int j = 0; j < kColsPerThread; ++j) sum[j] = add_rn(sum[j], dy[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int j = 0; j < kColsPerThread; ++j) {
    const std::int64_t col = col0 + j * kThreadsPerBlock;
    if (col < work.dy.cols) store_real(work.d_table, id, col, sum[j]);
  }
}

}  // namespace

bool gain_gradient_serves(const TensorView& x, const TensorView& dy, std::int64_t parts) {
  return parts > 0 && x.cols > 0 && x.cols % (parts * kEight) == 0 && are_eight_views({&x, &dy});
}

void gain_gradient(const TensorView& x, const TensorView& rstd, const TensorView& dy, float* d_gain, Stream stream) {
  const std::int64_t width = x.cols / rstd.cols;
  const int cols = width % kBlockCols == 0 ? kBlockCols : kEight;
  const Gains work{x, rstd, dy, d_gain, cols, width, x.rows * rstd.cols};
  const bool x_bf16 = x.dtype == Dtype::bf16;
  const bool dy_bf16 = dy.dtype == Dtype::bf16;
  const auto kernel = x_bf16 ? (dy_bf16 ? gains_kernel<true, true> : gains_kernel<true, false>)
                             : (dy_bf16 ? gains_kernel<false, true> : gains_kernel<false, false>);
  launch_blocks("gain_gradient", kernel, width / cols, kStages * static_cast<int>(sizeof(Stage)), stream, work);
}

bool embedding_backward_serves(const TensorView& d_table) {
  return d_table.rows <= 0x7fffffff;
}

void embedding_backward(const std::int32_t* ids, const TensorView& dy, const TensorView& d_table, Stream stream) {
  const std::int64_t pieces = (dy.cols + kPieceCols - 1) / kPieceCols;
  launch_blocks("embedding_backward", embedding_kernel, dy.rows * pieces, 0, stream,
                EmbeddingGradient{ids, dy, d_table, pieces});
}

}  // namespace ng::cuda::fast
