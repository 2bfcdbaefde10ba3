// SPDX-License-Identifier: Apache-2.0
//
// Which choices of a quantizer go together.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"

namespace ng {
namespace {

void check_scale(const QuantizerSpec& spec) {
  const std::string rule(name_of(spec.rule));
  if (spec.scale_format == ScaleFormat::none) {
    if (spec.rule != ScaleRule::none)
      throw UserError(fmt::format("rule={} needs a scale format: scale=e8m0, e4m3 or f32", rule));
    if (spec.tile_rows != 1 || spec.tile_cols != 0)
      throw UserError(fmt::format("tile={} needs a scale format: scale=e8m0, e4m3 or f32", tile_text(spec)));
    return;
  }
  const auto fits = [&](ScaleRule r) {
    switch (spec.scale_format) {
      case ScaleFormat::e8m0:
        return is_e8m0_rule(r);
      case ScaleFormat::f32:
        return is_f32_rule(r);
      case ScaleFormat::e4m3:
        return is_nvfp4_rule(r);
      case ScaleFormat::none:
        break;
    }
    return false;
  };
  if (!fits(spec.rule)) {
    std::vector<std::string> valid;
    for (const auto& row : enum_tables::Table<ScaleRule>::kRows)
      if (fits(row.value)) valid.emplace_back(row.name);
    throw UserError(
        fmt::format("rule={} does not make {} scales; {}", rule, name_of(spec.scale_format), suggestion(rule, valid)));
  }
  if (bit_count(spec.element) > 12)
    throw UserError(fmt::format("element={} is too wide for scales; scaled elements have at most 12 bits",
                                name_of(spec.element_id)));
  if (is_nvfp4_rule(spec.rule) && spec.element_id != FormatId::e2m1)
    throw UserError(fmt::format("rule={} is defined for element=e2m1, not for {}", rule, name_of(spec.element_id)));
  if (spec.rule == ScaleRule::four_over_six && (spec.tile_cols != 16 || (spec.tile_rows != 1 && spec.tile_rows != 16)))
    throw UserError(
        fmt::format("rule=four_over_six is defined for tile=1x16 and tile=16x16, not for {}", tile_text(spec)));
}

void check_cast(const QuantizerSpec& spec) {
  const std::string element(name_of(spec.element_id));
  if (spec.element_id == FormatId::e8m0) throw UserError("element=e8m0 is a format for scales only");
  if (bit_count(spec.element) > 16) throw UserError(fmt::format("element={}: codes have at most 16 bits", element));
  const bool stochastic = spec.cast.rounding == Rounding::stochastic;
  const int bits = spec.cast.random_bits;
  if (stochastic ? bits != 8 && bits != 16 && bits != 32 : bits != 0)
    throw UserError(fmt::format("rounding={} with {} random bits; stochastic takes 8, 16 or 32, others none",
                                name_of(spec.cast.rounding), bits));
  const NanChoice nan = spec.cast.nan;
  if (spec.element.nan != NanCodes::none && nan != NanChoice::quiet && nan != NanChoice::cuda)
    throw UserError(fmt::format("nan={}: {} can write NaN; valid: quiet, cuda", name_of(nan), element));
}

}  // namespace

void check_hadamard(const HadamardSpec& h) {
  if (h.size == 0) return;
  if (h.size < 2 || h.size > kLargestHadamard || (h.size & (h.size - 1)) != 0)
    throw UserError(fmt::format("hadamard size {} is not one of 2, 4, 8, 16, 32, 64, 128", h.size));
  if (h.signs == HadamardSigns::te_fixed && h.size != 16)
    throw UserError(fmt::format("hadamard signs te_fixed are defined for size 16, not for {}", h.size));
}

void check_quantizer(const QuantizerSpec& spec) {
  check_cast(spec);
  check_scale(spec);
  check_hadamard(spec.hadamard);
  if (spec.tile_rows < 0 || spec.tile_cols < 0) throw UserError("tile extents are not negative");
  if (spec.amax_floor != 0.0f && !is_f32_rule(spec.rule))
    throw UserError(fmt::format("floor={} belongs to the rules absmax, absmax_pow2 and msamp_pow2, not to {}",
                                spec.amax_floor, name_of(spec.rule)));
  if (spec.application == ScaleApplication::divide && !is_f32_rule(spec.rule))
    throw UserError(fmt::format("application=divide belongs to the rules absmax, absmax_pow2 and msamp_pow2, not to {}",
                                name_of(spec.rule)));
  if (spec.infinite_scale_code != 0xff && spec.scale_format != ScaleFormat::e8m0)
    throw UserError(fmt::format("inf_scale belongs to scale=e8m0, not to {}", name_of(spec.scale_format)));
  const double quantile = spec.outlier.quantile;
  if (quantile != 0.0 && !(quantile > 0.5 && quantile < 1.0))
    throw UserError(fmt::format("outlier: quantile {} is not above 0.5 and below 1", quantile));
  const bool te = spec.rule == ScaleRule::te_v2_14 || spec.rule == ScaleRule::te_v2_13 || spec.rule == ScaleRule::nvfp4_paper;
  if (spec.decode == DecodeOrder::te && !te)
    throw UserError(fmt::format("decode=te belongs to the rules te_v2_14, te_v2_13 and nvfp4_paper, not to {}",
                                name_of(spec.rule)));
  if (spec.tensor_scope == TensorScope::whole && !needs_tensor_amax(spec.rule))
    throw UserError(
        fmt::format("tensor_scope=whole belongs to rules with a tensor scale, not to {}", name_of(spec.rule)));
}

}  // namespace ng
