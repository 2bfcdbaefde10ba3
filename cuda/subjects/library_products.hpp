// SPDX-License-Identifier: Apache-2.0
//
// cuBLASLt as a thing under test: D = alpha A B^T + beta C with the algorithm pinned and told, never with split K. The
// library is opened at run time, so programs link and start without it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"

namespace ng::cuda {

enum class LibraryOutput : std::uint8_t { f32, bf16, fp16 };
enum class LibraryCompute : std::uint8_t { fp32, fp16 };

struct LibraryProduct {
  FormatId a, b;  ///< fp16, bf16, tf32 (given as FP32) or FP8; A and B alike, FP8 in any mix that the library has
  LibraryOutput output = LibraryOutput::f32;
  LibraryCompute compute = LibraryCompute::fp32;
  bool fast = false;  ///< fast accumulation
  ScaleMode scales = ScaleMode::none;
  float alpha = 1.0f;
  float beta = 0.0f;
  std::int64_t m, n, k;
  int candidate = 0;  ///< number in the library's own list of algorithms without a reduction
};

struct LibraryOperands {
  std::span<const std::uint8_t> a, b;  ///< codes, row-major [m, k] and [n, k], little endian
  std::span<const std::uint32_t> c;    ///< bits of the output's type, [m, n]; empty where beta is 0
  /// tensor: one; outer: [m], [n]; blockwise: [k/128][m], and [k/128][n] or [ceil(n/128)][k/128 rounded up to 4].
  std::span<const float> scale_a, scale_b;
};

struct LibraryResult {
  bool offered = false;          ///< false: the library has no such algorithm; nothing was run
  std::vector<std::uint32_t> d;  ///< bits of the output's type, [m, n]
  int candidates = 0;            ///< algorithms in the list
  int splits = 0;
  std::string algorithm;  ///< "id 66 tile 20 stages 36 splits 1 reduction 0 swizzle 0 custom 0 inner 0 cluster 3"
};

/// Which file is opened at the first use; libcublasLt.so.13 of the loader's path otherwise.
void use_library(const std::string& path);

/// "13.1.0". MachineError where the library cannot be opened.
[[nodiscard]] std::string library_version();

/// MachineError where the library or the GPU fails.
[[nodiscard]] LibraryResult run_library_product(const LibraryProduct& product, const LibraryOperands& operands);

}  // namespace ng::cuda
