// SPDX-License-Identifier: Apache-2.0
//
// The names of every choice, in one place: parsing, printing, help texts and recorded JSON all read these tables.
// A new enum value is usable everywhere once its row stands here. Number formats have their names in
// format_catalog.hpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/gemm_spec.hpp"

namespace ng {

template <class E>
struct EnumRow {
  E value;
  std::string_view name;
};

namespace enum_tables {

template <class E>
struct Table;  // specialised for every enum that has names

#define NG_ENUM_TABLE(type, ...)                            \
  template <>                                               \
  struct Table<type> {                                      \
    static constexpr std::string_view kType = #type;        \
    static constexpr EnumRow<type> kRows[] = {__VA_ARGS__}; \
  }

NG_ENUM_TABLE(Rounding, {Rounding::nearest_even, "nearest_even"}, {Rounding::nearest_away, "nearest_away"},
              {Rounding::toward_zero, "toward_zero"}, {Rounding::half_up, "half_up"},
              {Rounding::stochastic, "stochastic"});
NG_ENUM_TABLE(Overflow, {Overflow::saturate, "saturate"}, {Overflow::nonfinite, "nonfinite"});
NG_ENUM_TABLE(NanChoice, {NanChoice::quiet, "quiet"}, {NanChoice::cuda, "cuda"}, {NanChoice::error, "error"},
              {NanChoice::largest, "largest"}, {NanChoice::zero, "zero"}, {NanChoice::negated_zero, "negated_zero"});
NG_ENUM_TABLE(ZeroSign, {ZeroSign::keep, "keep"}, {ZeroSign::exact_positive, "exact_positive"},
              {ZeroSign::positive, "positive"});
NG_ENUM_TABLE(ScaleFormat, {ScaleFormat::none, "none"}, {ScaleFormat::e8m0, "e8m0"}, {ScaleFormat::e4m3, "e4m3"},
              {ScaleFormat::f32, "f32"});
NG_ENUM_TABLE(ScaleRule, {ScaleRule::none, "none"}, {ScaleRule::floor, "floor"}, {ScaleRule::ceil, "ceil"},
              {ScaleRule::even, "even"}, {ScaleRule::rceil, "rceil"}, {ScaleRule::absmax, "absmax"},
              {ScaleRule::absmax_pow2, "absmax_pow2"}, {ScaleRule::msamp_pow2, "msamp_pow2"},
              {ScaleRule::te_v2_14, "te_v2_14"}, {ScaleRule::te_v2_13, "te_v2_13"},
              {ScaleRule::nvfp4_paper, "nvfp4_paper"}, {ScaleRule::four_over_six, "four_over_six"},
              {ScaleRule::ao_one_level, "ao_one_level"}, {ScaleRule::ao_two_level, "ao_two_level"});
NG_ENUM_TABLE(ScaleApplication, {ScaleApplication::multiply, "multiply"}, {ScaleApplication::divide, "divide"});
NG_ENUM_TABLE(FourOverSixError, {FourOverSixError::mae, "mae"}, {FourOverSixError::mse, "mse"});
NG_ENUM_TABLE(TensorScope, {TensorScope::group, "group"}, {TensorScope::whole, "whole"});
NG_ENUM_TABLE(DecodeOrder, {DecodeOrder::standard, "standard"}, {DecodeOrder::te, "te"});
NG_ENUM_TABLE(OutlierScope, {OutlierScope::row, "row"}, {OutlierScope::tensor, "tensor"});
NG_ENUM_TABLE(OutlierResidual, {OutlierResidual::none, "none"}, {OutlierResidual::bf16, "bf16"},
              {OutlierResidual::e4m3, "e4m3"}, {OutlierResidual::e5m2, "e5m2"});
NG_ENUM_TABLE(HadamardSigns, {HadamardSigns::none, "none"}, {HadamardSigns::te_fixed, "te_fixed"},
              {HadamardSigns::seeded, "seeded"});
NG_ENUM_TABLE(HadamardOrder, {HadamardOrder::serial, "serial"}, {HadamardOrder::butterfly, "butterfly"});
NG_ENUM_TABLE(HadamardResult, {HadamardResult::bf16, "bf16"}, {HadamardResult::f32, "f32"});
NG_ENUM_TABLE(Gemm, {Gemm::fprop, "fprop"}, {Gemm::dgrad, "dgrad"}, {Gemm::wgrad, "wgrad"});
NG_ENUM_TABLE(Operand, {Operand::activation, "activation"}, {Operand::weight, "weight"},
              {Operand::grad_output, "grad_output"});
NG_ENUM_TABLE(Orientation, {Orientation::row, "row"}, {Orientation::column, "column"});
NG_ENUM_TABLE(OperandKind, {OperandKind::f32, "f32"}, {OperandKind::bf16, "bf16"},
              {OperandKind::quantized, "quantized"});
NG_ENUM_TABLE(FormSource, {FormSource::original, "original"}, {FormSource::fprop, "fprop"},
              {FormSource::saved, "saved"});
NG_ENUM_TABLE(SavedKind, {SavedKind::original, "original"}, {SavedKind::codes, "codes"},
              {SavedKind::recomputed, "recomputed"});
NG_ENUM_TABLE(Carrier, {Carrier::bf16, "bf16"}, {Carrier::e4m3, "e4m3"});
NG_ENUM_TABLE(Compensate, {Compensate::none, "none"}, {Compensate::quantized, "quantized"},
              {Compensate::original, "original"});
NG_ENUM_TABLE(DecodedResidual, {DecodedResidual::dropped, "dropped"}, {DecodedResidual::added, "added"});
NG_ENUM_TABLE(AmaxReduce, {AmaxReduce::max, "max"}, {AmaxReduce::most_recent, "most_recent"});
NG_ENUM_TABLE(EstimatorKind, {EstimatorKind::straight_through, "straight_through"},
              {EstimatorKind::differentiable, "differentiable"});
NG_ENUM_TABLE(EstimatorBeyond, {EstimatorBeyond::zero, "zero"}, {EstimatorBeyond::last_interval, "last_interval"},
              {EstimatorBeyond::one, "one"});
NG_ENUM_TABLE(Accumulate, {Accumulate::promoted, "promoted"}, {Accumulate::fast, "fast"},
              {Accumulate::fp32_chain, "fp32_chain"});
NG_ENUM_TABLE(Arithmetic, {Arithmetic::ieee, "ieee"}, {Arithmetic::hopper, "hopper"});

#undef NG_ENUM_TABLE

}  // namespace enum_tables

/// An enum with a table of names.
template <class E>
concept NamedEnum = std::is_enum_v<E> && requires {
  enum_tables::Table<E>::kRows;
};

/// Name of a value; "?" for a number that is no value of the enum.
template <NamedEnum E>
constexpr std::string_view name_of(E value) {
  for (const EnumRow<E>& row : enum_tables::Table<E>::kRows)
    if (row.value == value) return row.name;
  return "?";
}

/// The value called `name`, if there is one.
template <NamedEnum E>
constexpr std::optional<E> find_enum(std::string_view name) {
  for (const EnumRow<E>& row : enum_tables::Table<E>::kRows)
    if (row.name == name) return row.value;
  return std::nullopt;
}

/// All names, in the order of the table.
template <NamedEnum E>
std::vector<std::string> names_of() {
  std::vector<std::string> names;
  for (const EnumRow<E>& row : enum_tables::Table<E>::kRows) names.emplace_back(row.name);
  return names;
}

/// The value called `name`; UserError "<what> '<name>' is unknown; did you mean ...? valid: ..." otherwise.
template <NamedEnum E>
E parse_enum(std::string_view what, std::string_view name);

/// Throws that error.
[[noreturn]] void throw_unknown_name(std::string_view what, std::string_view name,
                                     const std::vector<std::string>& valid);

template <NamedEnum E>
E parse_enum(std::string_view what, std::string_view name) {
  if (const std::optional<E> value = find_enum<E>(name)) return *value;
  throw_unknown_name(what, name, names_of<E>());
}

/// Format of the catalogue called `name`, if there is one.
[[nodiscard]] std::optional<FormatId> find_format(std::string_view name);
/// Names of the formats that elements may have: the catalogue without e8m0, which is for scales only.
[[nodiscard]] std::vector<std::string> element_format_names();
/// Names of the presets of block_format.hpp.
[[nodiscard]] std::vector<std::string> preset_names();

}  // namespace ng
