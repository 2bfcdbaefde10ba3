// SPDX-License-Identifier: Apache-2.0
//
// What the model says that cuBLASLt answers, from operands and scales as they lie in the library's memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comparison.hpp"
#include "subjects/library_products.hpp"

namespace ng_silicon {

/// Scales in the library's layout, of the sizes that the product needs, all 1.
struct StoredScales {
  explicit StoredScales(const ng::cuda::LibraryProduct& product);
  std::vector<float> a, b;
};

/// "e4m3 e5m2 -> f32, fast, outer scales"
std::string described(const ng::cuda::LibraryProduct& product);
ResultType result_type(ng::cuda::LibraryOutput output);

/// FP32 sums before the epilogue's alpha and output rounding, [m, n].
std::vector<float> library_sums(const ng::cuda::LibraryProduct& product, std::span<const std::uint8_t> a,
                                std::span<const std::uint8_t> b, const StoredScales& scales);

/// Bits of a sum in the output's type.
std::uint32_t rounded_output(ng::cuda::LibraryOutput output, float sum);

/// Bits in the output's type, [m, n]; alpha 1, beta 0.
std::vector<std::uint32_t> library_model(const ng::cuda::LibraryProduct& product, std::span<const std::uint8_t> a,
                                         std::span<const std::uint8_t> b, const StoredScales& scales);

}  // namespace ng_silicon
