// SPDX-License-Identifier: Apache-2.0
//
// The FP32 product of the `ieee` arithmetic. Included by kernel files that are compiled once per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ng::cpu {

/// A matrix of floats with any strides, in elements.
struct StridedMatrix {
  const float* data;
  std::int64_t row_stride;
  std::int64_t col_stride;
};

/// Floats of scratch that one call of gemm_chain needs at most.
constexpr std::size_t kGemmScratchFloats = 512 * 1024;

}  // namespace ng::cpu
