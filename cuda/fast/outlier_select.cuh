// SPDX-License-Identifier: Apache-2.0
//
// Selection of two ranks at once by a block of 256 threads: histograms of digits of sort keys in shared memory, the
// lower rank counted from the smallest key, the upper from the largest.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "narrowgauge/quantize/outlier_split.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

constexpr int kBins = 2048;
constexpr int kWarps = kThreadsPerBlock / 32;
constexpr int kEight = 8;  ///< consecutive elements of a thread

/// Digits of a key, from the highest; of a BF16 key the upper half is all there is.
template <bool kBf16>
struct Digits;
template <>
struct Digits<true> {
  static constexpr int kPasses = 2;
  static constexpr int kHistograms = 1;
  __host__ __device__ static constexpr int bits(int pass) { return pass == 0 ? 11 : 5; }
  __host__ __device__ static constexpr int shift(int pass) { return pass == 0 ? 21 : 16; }
};
template <>
struct Digits<false> {
  static constexpr int kPasses = 3;
  static constexpr int kHistograms = 2;
  __host__ __device__ static constexpr int bits(int pass) { return pass == 2 ? 10 : 11; }
  __host__ __device__ static constexpr int shift(int pass) { return pass == 0 ? 21 : pass == 1 ? 10 : 0; }
};

/// Where a bin lies: a thread that walks over 16 neighbours shares no bank with the next one.
__host__ __device__ constexpr int place(int bin) {
  return bin + (bin >> 4);
}

/// The key whose upper bits are `prefix`: BF16 values have no others.
template <bool kBf16>
__device__ std::uint32_t whole_key(std::uint32_t prefix) {
  if constexpr (kBf16)
    return prefix << 16 | (prefix < 0x8000u ? 0xffffu : 0u);
  else
    return prefix;
}

template <bool kBf16>
struct Selector {
  std::uint32_t bins[Digits<kBf16>::kHistograms * place(kBins)];
  std::uint32_t warp_sum[kWarps];
  std::uint32_t digit[2];  ///< found by `pick`
  std::uint32_t rank[2];   ///< from the smallest, from the largest; `pick` leaves that inside the bin
  std::uint32_t has_nan;

  /// Where the bins of the upper rank begin; in the first pass both ranks share theirs.
  __device__ static constexpr int upper(int pass) { return pass == 0 ? 0 : place(1 << Digits<kBf16>::bits(pass)); }

  __device__ void clear(int pass) {
    const int count = pass == 0 ? place(kBins) : 2 * upper(pass);
    for (int b = static_cast<int>(threadIdx.x); b < count; b += kThreadsPerBlock) bins[b] = 0;
  }

  /// One key in the histogram of `pass`; `prefix`: digits so far of both ranks.
  __device__ __forceinline__ void count(int pass, const std::uint32_t (&prefix)[2], std::uint32_t key) {
    const int shift = Digits<kBf16>::shift(pass);
    if (pass == 0) {
      atomicAdd(&bins[place(static_cast<int>(key >> shift))], 1u);
      return;
    }
    const int bits = Digits<kBf16>::bits(pass);
    const std::uint32_t above = key >> shift >> bits;
    const int bin = place(static_cast<int>(key >> shift & ((1u << bits) - 1u)));
    if (above == prefix[0]) atomicAdd(&bins[bin], 1u);
    if (above == prefix[1]) atomicAdd(&bins[upper(pass) + bin], 1u);
  }

  /// The bins that hold both ranks, one half of the block each. Begins after a barrier, ends with one.
  __device__ void pick(int pass) {
    const int count = 1 << Digits<kBf16>::bits(pass);
    const int half = static_cast<int>(threadIdx.x) / (kThreadsPerBlock / 2);
    const int u = static_cast<int>(threadIdx.x) % (kThreadsPerBlock / 2);
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int each = count >= kThreadsPerBlock / 2 ? count / (kThreadsPerBlock / 2) : 1;
    const std::uint32_t* mine = bins + (half == 0 ? 0 : upper(pass));
    const auto bin_of = [&](int i) { return half == 0 ? i : count - 1 - i; };
    std::uint32_t sum = 0;
    if (u * each < count)
      for (int k = 0; k < each; ++k) sum += mine[place(bin_of(u * each + k))];
    std::uint32_t through = sum;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const std::uint32_t other = __shfl_up_sync(0xffffffffu, through, distance);
      if (lane >= distance) through += other;
    }
    if (lane == 31) warp_sum[warp] = through;
    __syncthreads();
    std::uint32_t before = through - sum;
    for (int w = half * (kWarps / 2); w < warp; ++w) before += warp_sum[w];
    const std::uint32_t wanted = rank[half];
    __syncthreads();
    if (before <= wanted && wanted - before < sum) {
      std::uint32_t rest = wanted - before;
      int i = u * each;
      while (rest >= mine[place(bin_of(i))]) rest -= mine[place(bin_of(i++))];
      digit[half] = static_cast<std::uint32_t>(bin_of(i));
      rank[half] = rest;
    }
    __syncthreads();
  }
};

}  // namespace ng::cuda::fast
