// SPDX-License-Identifier: Apache-2.0
//
// The GEMMs of data/golden/h100_gemm.h5 as matrices of FP32 numbers with what their names and datasets say of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "golden/golden_file.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"

namespace ng_golden {

struct H100Case {
  ng::FormatId a_format, b_format;
  ng::ProductOutput output;
  bool fast;  ///< fast accumulation; otherwise FP8 chains are promoted every 128 values of k
  std::int64_t m, n, k;
  ng::ScaleMode scale_mode;
  std::int32_t splits;
  std::vector<std::uint32_t> a_codes, b_codes;  ///< as stored; TF32: FP32 bits before their rounding
  std::vector<float> a, b;                      ///< [m, k], [n, k]; TF32 operands rounded to TF32
  std::vector<float> scale_a, scale_b;          ///< by row: [m, k/128] or [m] or one; B 128x128: [ceil(n/128), k/128]
  std::vector<std::uint32_t> d;                 ///< bits of the output's type, [m, n]

  /// How the kernel computed it, by the `hopper` arithmetic.
  ng::TensorCoreSpec spec() const;
  ng::ElementScales element_scales(std::int64_t row, std::int64_t col) const;
  /// In words, for a table.
  std::string rule() const;
};

H100Case read_h100_case(GoldenFile& file, const std::string& name);

}  // namespace ng_golden
