// SPDX-License-Identifier: Apache-2.0
//
// Loss of a row: the largest logit; exponentials piece by piece in shared memory, where eight lanes add up the eight
// chains of one piece while the other warps make the next; the gradient, from the exponentials once more. The row is
// read three times, twice from the L2 cache.
#include "fast/cross_entropy.hpp"

#include "fast/eight_views.cuh"
#include "narrowgauge/numerics/softmax.hpp"

namespace ng::cuda::fast {

namespace {

constexpr int kPiece = 8192;  // elements, a multiple of the chains; two pieces let three blocks share a multiprocessor
constexpr int kWarps = kThreadsPerBlock / 32;

struct CrossEntropy {
  TensorView logits, targets, d_logits;
  float scale;
  float* token_loss;
  FaultWord* fault;
};

/// The largest of the threads' values, in every thread. `sm` is free after the next barrier.
__device__ float largest_of_block(float best, float* sm) {
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2)
    best = larger_of(best, __shfl_xor_sync(0xffffffffu, best, distance));
  if (threadIdx.x % 32 == 0) sm[threadIdx.x / 32] = best;
  __syncthreads();
  best = sm[0];
#pragma unroll
  for (int w = 1; w < kWarps; ++w) best = larger_of(best, sm[w]);
  return best;
}

/// Threads [first, 256) write the numerators of columns [col0, col0 + kPiece) that exist.
__device__ void fill_piece(const TensorView& logits, std::int64_t row, std::int64_t col0, float maximum, int first,
                           float* piece) {
  const std::int64_t left = logits.cols - col0;
  const int eights = static_cast<int>(left < kPiece ? left : kPiece) / kEight;
#pragma unroll 4
  for (int v = static_cast<int>(threadIdx.x) - first; v < eights; v += kThreadsPerBlock - first) {
    Eight e = load_eight(logits, row, col0 + v * kEight);
#pragma unroll
    for (int i = 0; i < kEight; ++i) e.value[i] = softmax_numerator(e.value[i], maximum);
    e.store(piece + v * kEight);
  }
}

/// The sum of all numerators; the right one in the first warp.
__device__ float sum_of_row(const TensorView& logits, std::int64_t row, float maximum, float* pieces) {
  float sum = 0.0f;
  fill_piece(logits, row, 0, maximum, 0, pieces);
  __syncthreads();
  int current = 0;
  for (std::int64_t col0 = 0; col0 < logits.cols; col0 += kPiece) {
    if (threadIdx.x >= 32) {
      if (col0 + kPiece < logits.cols)
        fill_piece(logits, row, col0 + kPiece, maximum, 32, pieces + (1 - current) * kPiece);
    } else if (threadIdx.x < kRowChains) {
      const std::int64_t left = logits.cols - col0;
      const float* const piece = pieces + current * kPiece;
      const int count = static_cast<int>(left < kPiece ? left : kPiece);
#pragma unroll 16
      for (int i = static_cast<int>(threadIdx.x); i < count; i += kRowChains) sum = add_rn(sum, piece[i]);
    }
    __syncthreads();
    current = 1 - current;
  }
  if (threadIdx.x < 32) {
#pragma unroll
    for (int distance = 1; distance < kRowChains; distance *= 2)
      sum = add_rn(sum, __shfl_xor_sync(0xffffffffu, sum, distance));
  }
  return sum;
}

__global__ void __launch_bounds__(kThreadsPerBlock, 3) cross_entropy_kernel(const __grid_constant__ CrossEntropy work) {
  extern __shared__ uint4 sm_memory[];
  __shared__ float sm_largest[kWarps];
  __shared__ float sm_sum;
  const std::int64_t eights = work.logits.cols / kEight;
  for (std::int64_t row = blockIdx.x; row < work.logits.rows; row += gridDim.x) {
    const std::int64_t target = load_integer(work.targets, row);
    if (target < 0 || target >= work.logits.cols) {
      if (threadIdx.x == 0) note_fault(work.fault, row, target);
      continue;
    }
    const float chosen = load_real(work.logits, row, target);  // before d_logits may take its place
    float best = load_real(work.logits, row, 0);
#pragma unroll 4
    for (std::int64_t v = threadIdx.x; v < eights; v += kThreadsPerBlock) {
      const Eight x = load_eight(work.logits, row, v * kEight);
#pragma unroll
      for (int i = 0; i < kEight; ++i) best = larger_of(best, x.value[i]);
    }
    const float maximum = largest_of_block(best, sm_largest);
    const float own_sum = sum_of_row(work.logits, row, maximum, reinterpret_cast<float*>(sm_memory));
    if (threadIdx.x == 0) {
      sm_sum = own_sum;
      work.token_loss[row] = softmax_loss({maximum, log_rn(own_sum)}, chosen);
    }
    __syncthreads();
    if (work.d_logits.data != nullptr) {
      const float sum = sm_sum;
#pragma unroll 2
      for (std::int64_t v = threadIdx.x; v < eights; v += kThreadsPerBlock) {
        Eight x = load_eight(work.logits, row, v * kEight);
#pragma unroll
        for (int i = 0; i < kEight; ++i)
          x.value[i] = softmax_loss_gradient(div_rn(softmax_numerator(x.value[i], maximum), sum),
                                             v * kEight + i == target, work.scale);
        store_eight(work.d_logits, row, v * kEight, x);
      }
    }
    __syncthreads();
  }
}

}  // namespace

bool cross_entropy_serves(const TensorView& logits, const TensorView& d_logits) {
  return logits.cols > 0 && is_eight_view(logits) && (d_logits.data == nullptr || is_eight_view(d_logits));
}

void cross_entropy(const TensorView& logits, const TensorView& targets, float scale, float* token_loss,
                   const TensorView& d_logits, FaultWord* fault, Stream stream) {
  launch_resident("cross_entropy", cross_entropy_kernel, logits.rows, 2 * kPiece * static_cast<int>(sizeof(float)),
                  stream, CrossEntropy{logits, targets, d_logits, scale, token_loss, fault});
}

}  // namespace ng::cuda::fast
