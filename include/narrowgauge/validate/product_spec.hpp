// SPDX-License-Identifier: Apache-2.0
//
// How a kernel computes D = A B^T, as named choices: what `matmul` takes as options, and the choices beside them that
// kernels make differently. Text: `arithmetic=hopper,accumulate=fast,scale_mode=outer,out_format=bf16`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/numerics/tensor_core_product.hpp"
#include "narrowgauge/recipe/enum_names.hpp"

namespace ng::validate {

/// Chains of FP8 that keeps 14 bits; other accumulators ignore it.
enum class Chains : std::uint8_t { promoted, fast };
enum class AccumulatorType : std::uint8_t { f32, f16 };
/// Order of the two FP32 scales: `measured` is cuBLASLt's on an H100 (ScaleMode says which), the others are
/// (x * scale_a) * scale_b, (x * scale_b) * scale_a and x * (scale_a * scale_b); blockwise the last multiply is the one
/// that is fused with the promotion.
enum class ScaleOrder : std::uint8_t { measured, a_first, b_first, product_first };
/// Promotion of a scaled chain: one fma, or a multiply and an add.
enum class PromotionAdd : std::uint8_t { fused, separate };
/// What carries operands with block scales through the product: the accumulator's own scales, or their decoded values
/// rounded to BF16 or E4M3.
enum class ScaledCarrier : std::uint8_t { scales, bf16, e4m3 };
/// Of the FP32 sum to the output's type; `through_*`: rounded there first, to nearest even.
enum class OutputRounding : std::uint8_t { nearest_even, nearest_away, toward_zero, through_bf16, through_f16 };

struct ProductSpec {
  std::string arithmetic = "hopper";  ///< of the accumulator catalogue, or ieee, exact
  std::string a_format, b_format;     ///< "": what the operands say
  Chains accumulate = Chains::promoted;
  AccumulatorType accumulator = AccumulatorType::f32;
  std::int32_t promotion = 0;  ///< values of k in a promoted chain; 0: 128 where `accumulate` says promoted
  ScaleMode scale_mode = ScaleMode::none;
  ScaleOrder scale_order = ScaleOrder::measured;
  PromotionAdd promotion_add = PromotionAdd::fused;
  std::int32_t splits = 1;
  ScaledCarrier carrier = ScaledCarrier::scales;
  ProductOutput out_format = ProductOutput::f32;
  OutputRounding rounding = OutputRounding::nearest_even;

  friend bool operator==(const ProductSpec&, const ProductSpec&) = default;
};

/// Comma-separated key=value in the order of product_keys, or a JSON object of strings and integers. '-' in a key is
/// '_'. UserError names the key and what is valid.
[[nodiscard]] ProductSpec product_of(std::string_view spec);
/// What is not the default, as text.
[[nodiscard]] std::string to_text(const ProductSpec& spec);

/// Every key with its values ("" where any integer is one).
struct ProductKey {
  std::string name;
  std::vector<std::string> values;
};
[[nodiscard]] const std::vector<ProductKey>& product_keys();
/// UserError: unknown key or value.
void set_product_key(ProductSpec& spec, std::string_view key, std::string_view value);
[[nodiscard]] std::string product_key(const ProductSpec& spec, std::string_view key);

}  // namespace ng::validate

namespace ng::enum_tables {

#define NG_ENUM_TABLE(type, ...)                         \
  template <>                                            \
  struct Table<type> {                                   \
    using E = type;                                      \
    static constexpr std::string_view kType = #type;     \
    static constexpr EnumRow<E> kRows[] = {__VA_ARGS__}; \
  }

NG_ENUM_TABLE(validate::Chains, {E::promoted, "promoted"}, {E::fast, "fast"});
NG_ENUM_TABLE(validate::AccumulatorType, {E::f32, "f32"}, {E::f16, "f16"});
NG_ENUM_TABLE(validate::ScaleOrder, {E::measured, "measured"}, {E::a_first, "a_first"}, {E::b_first, "b_first"},
              {E::product_first, "product_first"});
NG_ENUM_TABLE(validate::PromotionAdd, {E::fused, "fused"}, {E::separate, "separate"});
NG_ENUM_TABLE(validate::ScaledCarrier, {E::scales, "scales"}, {E::bf16, "bf16"}, {E::e4m3, "e4m3"});
NG_ENUM_TABLE(validate::OutputRounding, {E::nearest_even, "nearest_even"}, {E::nearest_away, "nearest_away"},
              {E::toward_zero, "toward_zero"}, {E::through_bf16, "through_bf16"}, {E::through_f16, "through_f16"});
NG_ENUM_TABLE(ScaleMode, {E::none, "none"}, {E::tensor, "tensor"}, {E::outer, "outer"}, {E::block_1x128, "block_1x128"},
              {E::block_128x128, "block_128x128"});
NG_ENUM_TABLE(ProductOutput, {E::f32, "f32"}, {E::bf16, "bf16"}, {E::f16, "f16"});

#undef NG_ENUM_TABLE

}  // namespace ng::enum_tables
