// SPDX-License-Identifier: Apache-2.0
//
// Known defects of kernels, beside the choices that a QuantizerSpec names: each an enum with names, so that the search
// tries a new one without new code. `none` is the reference. Sources: issues and measurements of Triton, sglang, ROCm,
// Transformer Engine and torchao; the released FP8-Flow-MoE kernel.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/recipe/enum_names.hpp"

namespace ng::validate {

/// The scaled value is rounded to another format first: Triton's FP32 -> FP16 -> FP8.
enum class Intermediate : std::uint8_t { none, fp16, bf16 };
/// Which subnormals become a zero of their sign: those of the FP32 input, of the scaled FP32 value, of the element, of
/// FP32 in the arithmetic of the scale.
enum class Flush : std::uint8_t { none, input, scaled, element, scale };
/// The kernel treats its top binade as overflow: writes the largest value from the power of two on (256 .. 447 as 448),
/// or clamps to that power of two (256).
enum class TopBinade : std::uint8_t { none, to_largest, clamped };
/// The factor of an element by other roundings than the rule's: the reciprocal of the stored scale, the approximate
/// reciprocal of amax times the largest value, or a division by the rounded scale.
enum class Factor : std::uint8_t { none, reciprocal_of_scale, reciprocal_of_amax, divide_by_scale };
/// Elements of a group of four take each other's random bits: byte order of the word of draws.
enum class DrawOrder : std::uint8_t { none, pairs_swapped, halves_swapped, reversed };
/// Two codes of a byte in the other order.
enum class NibbleOrder : std::uint8_t { none, swapped };
/// amax over the scaled signs: the largest value instead of the largest magnitude.
enum class AmaxDefect : std::uint8_t { none, without_magnitude, ignores_last_column };

struct Deviation {
  Intermediate intermediate = Intermediate::none;
  Flush flush = Flush::none;
  TopBinade top_binade = TopBinade::none;
  Factor factor = Factor::none;
  DrawOrder draw_order = DrawOrder::none;
  NibbleOrder nibble_order = NibbleOrder::none;
  AmaxDefect amax = AmaxDefect::none;

  friend constexpr bool operator==(const Deviation&, const Deviation&) = default;
};

/// One kind of defect: its key and values, and how it is set.
struct DeviationKey {
  std::string name;
  std::vector<std::string> values;
  void (*set)(Deviation&, std::size_t value);
};
[[nodiscard]] const std::vector<DeviationKey>& deviation_keys();

/// "intermediate=fp16,flush=input"; "" without a defect.
[[nodiscard]] std::string to_text(const Deviation& deviation);

}  // namespace ng::validate

namespace ng::enum_tables {

#define NG_ENUM_TABLE(type, ...)                         \
  template <>                                            \
  struct Table<validate::type> {                         \
    using E = validate::type;                            \
    static constexpr std::string_view kType = #type;     \
    static constexpr EnumRow<E> kRows[] = {__VA_ARGS__}; \
  }

NG_ENUM_TABLE(Intermediate, {E::none, "none"}, {E::fp16, "fp16"}, {E::bf16, "bf16"});
NG_ENUM_TABLE(Flush, {E::none, "none"}, {E::input, "input"}, {E::scaled, "scaled"}, {E::element, "element"},
              {E::scale, "scale"});
NG_ENUM_TABLE(TopBinade, {E::none, "none"}, {E::to_largest, "to_largest"}, {E::clamped, "clamped"});
NG_ENUM_TABLE(Factor, {E::none, "none"}, {E::reciprocal_of_scale, "reciprocal_of_scale"},
              {E::reciprocal_of_amax, "reciprocal_of_amax"}, {E::divide_by_scale, "divide_by_scale"});
NG_ENUM_TABLE(DrawOrder, {E::none, "none"}, {E::pairs_swapped, "pairs_swapped"}, {E::halves_swapped, "halves_swapped"},
              {E::reversed, "reversed"});
NG_ENUM_TABLE(NibbleOrder, {E::none, "none"}, {E::swapped, "swapped"});
NG_ENUM_TABLE(AmaxDefect, {E::none, "none"}, {E::without_magnitude, "without_magnitude"},
              {E::ignores_last_column, "ignores_last_column"});

#undef NG_ENUM_TABLE

}  // namespace ng::enum_tables
