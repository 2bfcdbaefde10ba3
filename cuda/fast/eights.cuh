// SPDX-License-Identifier: Apache-2.0
//
// Eight consecutive elements of a row of f32 or bf16 in a thread's registers, as FP32; 16-byte accesses.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"

namespace ng::cuda::fast {

constexpr int kEight = 8;

/// A matrix of f32 (Element = float) or bf16 (std::uint16_t); rows and their first elements 16-byte aligned.
template <class Element>
struct Rows {
  Element* data;
  std::int64_t stride;  ///< elements

  explicit Rows(const TensorView& view) : data(static_cast<Element*>(view.data)), stride(view.stride) {}
  __device__ Element* at(std::int64_t row, std::int64_t eight) const { return data + row * stride + eight * kEight; }
};

struct Eight {
  float value[kEight];

  __device__ void clear() {
#pragma unroll
    for (float& v : value) v = 0.0f;
  }

  __device__ void load(const float* from) {
    const float4 a = *reinterpret_cast<const float4*>(from);
    const float4 b = *reinterpret_cast<const float4*>(from + 4);
    value[0] = a.x, value[1] = a.y, value[2] = a.z, value[3] = a.w;
    value[4] = b.x, value[5] = b.y, value[6] = b.z, value[7] = b.w;
  }
  __device__ void load(const std::uint16_t* from) {
    const uint4 words = *reinterpret_cast<const uint4*>(from);
    const std::uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      value[2 * i] = float_of(word[i] << 16);
      value[2 * i + 1] = float_of(word[i] & 0xffff0000u);
    }
  }

  __device__ void store(float* to) const {
    *reinterpret_cast<float4*>(to) = float4{value[0], value[1], value[2], value[3]};
    *reinterpret_cast<float4*>(to + 4) = float4{value[4], value[5], value[6], value[7]};
  }
  /// Rounded once.
  __device__ void store(std::uint16_t* to) const {
    std::uint32_t word[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      word[i] = (bits_of(round_to_bf16(value[2 * i])) >> 16) | (bits_of(round_to_bf16(value[2 * i + 1])) & 0xffff0000u);
    *reinterpret_cast<uint4*>(to) = uint4{word[0], word[1], word[2], word[3]};
  }
};

}  // namespace ng::cuda::fast
