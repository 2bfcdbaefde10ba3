// SPDX-License-Identifier: Apache-2.0
//
// The answer to "what should this product have given", element by element from numerics/accumulator.hpp, for any
// ProductSpec. Slower than a backend and equal to it (test); it keeps decoded operands, so that the search can ask
// thousands of times.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "narrowgauge/io/array.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/validate/choice_search.hpp"
#include "narrowgauge/validate/product_spec.hpp"

namespace ng::validate {

/// An operand as FP32 numbers that its format holds, [rows, cols].
struct OperandNumbers {
  std::vector<float> values;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  FormatId format = FormatId::fp32;
};
/// Codes, raw bits or floating values. `format` "": what the array says (a code format, bf16, fp16, else fp32).
/// Unsigned integers are codes of the format (FP32's bits for tf32). TF32 operands are rounded to nearest even, as
/// cuBLASLt does; a floating value that another format cannot hold is a UserError naming the first. `key`: what the
/// message calls the option that names a format.
[[nodiscard]] OperandNumbers operand_numbers(const Array& array, const std::string& format, const std::string& key);

/// Block scales of MX or NVFP4 operands as values, [rows, blocks].
struct BlockScales {
  std::vector<float> values;
  std::int64_t blocks = 0;  ///< along k
  OperandScales kind = OperandScales::none;
};
/// Codes of E8M0 per 32 or E4M3 per 16 values of k: by the array's format, else by its shape. UserError naming both
/// when it is neither.
[[nodiscard]] BlockScales block_scales(const Array& array, std::int64_t rows, std::int64_t k);
/// Values of k that share a block scale, and the scales' format.
[[nodiscard]] constexpr std::int64_t block_scale_k(OperandScales scales) {
  return scales == OperandScales::e8m0_per_32 ? 32 : scales == OperandScales::e4m3_per_16 ? 16 : 1;
}
[[nodiscard]] constexpr FormatId block_scale_format(OperandScales scales) {
  return scales == OperandScales::e4m3_per_16 ? FormatId::e4m3 : FormatId::e8m0;
}

/// Row-major FP32 scales of one operand: one, one a row, or [rows, ceil(k / 128)]. UserError.
[[nodiscard]] std::vector<float> product_scales(const Array& array, ScaleMode mode, std::int64_t rows, std::int64_t k);

/// Everything that a product was given. Keys of the map: a, b; scale_a, scale_b where the mode has scales;
/// block_scales_a, block_scales_b.
struct ProductOperands {
  OperandNumbers a, b;
  std::vector<float> scale_a, scale_b;
  BlockScales block_a, block_b;

  [[nodiscard]] static ProductOperands from(const std::map<std::string, Array>& arrays, const ProductSpec& spec);
};

class ReferenceProduct {
 public:
  explicit ReferenceProduct(ProductOperands operands);

  [[nodiscard]] std::int64_t rows() const { return in_.a.rows; }
  [[nodiscard]] std::int64_t cols() const { return in_.b.rows; }
  [[nodiscard]] std::int64_t depth() const { return in_.a.cols; }
  [[nodiscard]] const ProductOperands& operands() const { return in_; }

  /// Why these operands have no such product; "" where they have.
  [[nodiscard]] std::string impossible(const ProductSpec& spec) const;
  /// How a tensor core computes a possible spec in the standard order; empty for ieee and exact.
  [[nodiscard]] TensorCoreSpec tensor_core_spec(const ProductSpec& spec) const;
  /// Bits of the output's type, of elements row * cols() + col. `spec` is possible.
  [[nodiscard]] std::vector<std::uint32_t> elements(const ProductSpec& spec, std::span<const std::int64_t> which);

 private:
  struct Machine;
  struct Carried {
    std::vector<float> a, b;
  };
  const Carried& carried(ScaledCarrier carrier);
  [[nodiscard]] std::optional<Machine> machine(const ProductSpec& spec, std::string& problem) const;

  ProductOperands in_;
  std::map<ScaledCarrier, Carried> carried_;
};

/// D of a spec and operands, as f32, bf16 or f16: the verifier's reference of products.
[[nodiscard]] Array reference_product(const std::string& spec, const std::map<std::string, Array>& operands);

/// The choices of a product that can be told apart with these operands at all, as stated in `spec`.
[[nodiscard]] std::vector<Choice> product_choices(const ProductSpec& spec, const ReferenceProduct& reference);

/// Which choices explain `got`: bits of the output's type, [rows, cols].
struct ProductExplanation {
  std::vector<Choice> choices;
  SearchResult search;
};
[[nodiscard]] ProductExplanation explain_product(const ProductSpec& spec, ReferenceProduct& reference,
                                                 std::span<const std::uint32_t> got, const SearchLimits& limits = {});

}  // namespace ng::validate
