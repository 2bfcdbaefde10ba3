// SPDX-License-Identifier: Apache-2.0
//
// Leaves: a warp owns 32 of them and brings 32 words of each at a time through shared memory, so that loads run along
// memory and each lane adds along its leaf. What lies behind the end is +0, which changes no sum that begins with +0.
#include "fast/long_sum.hpp"

#include "narrowgauge/numerics/summation_order.hpp"
#include "plain/elements.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

constexpr int kWarps = kThreadsPerBlock / 32;
constexpr int kLanes = 32;

/// Word `word` of the list: one f32, or two bf16, of which the second may lie behind the end.
template <bool kBf16>
__device__ std::uint32_t load_word(const void* list, std::int64_t count, std::int64_t word) {
  if constexpr (kBf16) {
    if (2 * word + 1 < count) return static_cast<const std::uint32_t*>(list)[word];
    return 2 * word < count ? static_cast<const std::uint16_t*>(list)[2 * word] : 0u;
  } else {
    return word < count ? static_cast<const std::uint32_t*>(list)[word] : 0u;
  }
}

template <bool kBf16>
__global__ void __launch_bounds__(kThreadsPerBlock)
    leaves_kernel(const void* list, std::int64_t count, std::int64_t leaves, bool square, double* partials) {
  __shared__ std::uint32_t sm_words[kWarps][kLanes][kLanes + 1];
  constexpr int kLeafWords = static_cast<int>(kSummationLeaf) / (kBf16 ? 2 : 1);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  auto& tile = sm_words[threadIdx.x / kLanes];
  const std::int64_t first_leaf = thread_number() - lane;
  double sum = 0.0;
  for (int word0 = 0; word0 < kLeafWords; word0 += kLanes) {
#pragma unroll
    for (int leaf = 0; leaf < kLanes; ++leaf)
      tile[leaf][lane] = load_word<kBf16>(list, count, (first_leaf + leaf) * kLeafWords + word0 + lane);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      const std::uint32_t word = tile[lane][i];
      if constexpr (kBf16) {
        sum = add_rn(sum, sum_term(float_of(word << 16), square));
        sum = add_rn(sum, sum_term(float_of(word & 0xffff0000u), square));
      } else {
        sum = add_rn(sum, sum_term(float_of(word), square));
      }
    }
    __syncwarp();
  }
  if (first_leaf + lane < leaves) partials[first_leaf + lane] = sum;
}

}  // namespace

bool sum_leaves_serves(const TensorView& x) {
  return (x.rows <= 1 || x.stride == x.cols) && reinterpret_cast<std::uintptr_t>(x.data) % 4 == 0;
}

void sum_leaves(const TensorView& x, bool square, double* partials, Stream stream) {
  const std::int64_t leaves = static_cast<std::int64_t>(summation_leaves(static_cast<std::size_t>(x.count())));
  launch("sum, leaves", x.dtype == Dtype::bf16 ? leaves_kernel<true> : leaves_kernel<false>, leaves, stream, x.data,
         x.count(), leaves, square, partials);
}

}  // namespace ng::cuda::fast
