// SPDX-License-Identifier: Apache-2.0
//
// Sixteen consecutive elements of a thread: 16-byte loads, the largest magnitude, and the elements as FP32.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"

namespace ng::cuda::fast {

constexpr int kElements = 16;  ///< per thread

/// Two elements to a word, or one.
struct Bf16Elements {
  uint4 words[2];

  __device__ void load(const void* source, std::int64_t unit) {
    const uint4* from = static_cast<const uint4*>(source) + unit * 2;
    words[0] = __ldg(from);
    words[1] = __ldg(from + 1);
  }
  __device__ void clear() { words[0] = words[1] = uint4{0, 0, 0, 0}; }
  __device__ std::uint32_t word(int i) const {
    const uint4& four = words[i / 4];
    return i % 4 == 0 ? four.x : i % 4 == 1 ? four.y : i % 4 == 2 ? four.z : four.w;
  }
  /// FP32 magnitude bits of the largest: pairs of BF16 magnitudes compare as 16-bit integers.
  __device__ std::uint32_t amax() const {
    std::uint32_t largest = word(0) & 0x7fff7fffu;
#pragma unroll
    for (int i = 1; i < 8; ++i) largest = __vmaxu2(largest, word(i) & 0x7fff7fffu);
    const std::uint32_t low = largest << 16;
    const std::uint32_t high = largest & 0xffff0000u;
    return low > high ? low : high;
  }
  __device__ float element(int i) const {
    return float_of(i % 2 == 0 ? word(i / 2) << 16 : word(i / 2) & 0xffff0000u);
  }
};

struct FloatElements {
  uint4 words[4];

  __device__ void load(const void* source, std::int64_t unit) {
    const uint4* from = static_cast<const uint4*>(source) + unit * 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = __ldg(from + i);
  }
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = uint4{0, 0, 0, 0};
  }
  __device__ std::uint32_t word(int i) const {
    const uint4& four = words[i / 4];
    return i % 4 == 0 ? four.x : i % 4 == 1 ? four.y : i % 4 == 2 ? four.z : four.w;
  }
  __device__ std::uint32_t amax() const {
    std::uint32_t largest = word(0) & kMagnitudeMask;
#pragma unroll
    for (int i = 1; i < kElements; ++i) {
      const std::uint32_t magnitude = word(i) & kMagnitudeMask;
      largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
  }
  __device__ float element(int i) const {
    return float_of(word(i));
  }
};

}  // namespace ng::cuda::fast
