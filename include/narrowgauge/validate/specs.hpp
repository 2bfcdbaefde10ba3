// SPDX-License-Identifier: Apache-2.0
//
// Specs of conversions as text, beside those of quantizers: `method=exact`, `as=mxfp4,rule=rceil`, `hadamard=16:...`.
#pragma once

#include <string>
#include <string_view>

#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/quantize/transpose.hpp"
#include "narrowgauge/recipe/enum_names.hpp"

namespace ng::validate {

/// `requantize`: decoded, transposed and quantized again.
enum class TransposeVia : std::uint8_t { exact, published, requantize };

struct TransposeSpec {
  TransposeVia via = TransposeVia::exact;
  QuantizerSpec quantizer{};  ///< of requantize
};

/// Quantizer text ("mxfp4,rule=rceil") or its JSON; prefix `as=` allowed. UserError.
[[nodiscard]] QuantizerSpec quantizer_of(std::string_view spec);
/// `method=exact|published|requantize[,as=QUANTIZER...]`, or its JSON {"method": ..., "as": ...}.
[[nodiscard]] TransposeSpec transpose_of(std::string_view spec);
/// `16:te_fixed:bf16[:serial]`, with or without `hadamard=`, or JSON {"hadamard": ...}.
[[nodiscard]] HadamardSpec hadamard_of(std::string_view spec);

}  // namespace ng::validate

namespace ng::enum_tables {

template <>
struct Table<validate::TransposeVia> {
  static constexpr std::string_view kType = "TransposeVia";
  static constexpr EnumRow<validate::TransposeVia> kRows[] = {{validate::TransposeVia::exact, "exact"},
                                                              {validate::TransposeVia::published, "published"},
                                                              {validate::TransposeVia::requantize, "requantize"}};
};

}  // namespace ng::enum_tables
