// SPDX-License-Identifier: Apache-2.0
//
// A quantizer as plain data: element format, tile, scales, and every named choice between an FP32 matrix and its codes.
// The presets are numerics.md section 2. Specs travel into kernels by value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/rounding.hpp"

namespace ng {

/// `none`: a bare cast, no scales.
enum class ScaleFormat : std::uint8_t { none, e8m0, e4m3, f32 };

/// How a scale follows from amax: scale_rule.hpp.
enum class ScaleRule : std::uint8_t {
  none,
  floor,
  ceil,
  even,
  rceil,
  absmax,
  absmax_pow2,
  msamp_pow2,
  te_v2_14,
  te_v2_13,
  nvfp4_paper,
  four_over_six,
  ao_one_level,
  ao_two_level,
};

/// How the scale is applied to an element: one multiply by the encode factor, or one division by the decode scale.
enum class ScaleApplication : std::uint8_t { multiply, divide };

/// Error that four_over_six compares.
enum class FourOverSixError : std::uint8_t { mae, mse };

/// Order of the products of a decoded value of a two-level format, D the tensor's decode scale and s the block's:
/// `standard` fp32(fp32(code * s) * D); `te` fp32(code * fp32(fp32(s * amax of the tensor) * fp32(1/2688))),
/// Transformer Engine's dequantize kernel. It shows in dequantized values and measures; products apply D after their
/// sums.
enum class DecodeOrder : std::uint8_t { standard, te };

/// Over what a quantile is taken: each row of the matrix as quantized, or all of its rows (of each group).
enum class OutlierScope : std::uint8_t { row, tensor };
/// What keeps the clamped-off rest of an outlier; `none`: it is dropped (clamping without compensation).
enum class OutlierResidual : std::uint8_t { none, bf16, e4m3, e5m2 };

/// Outlier split before quantizing (arXiv 2501.17116 section 3.2; quantize/outlier_split.hpp): values beyond the
/// `quantile` and 1 - `quantile` quantiles are clamped to them, the rest is kept as a sparse residual.
struct OutlierSpec {
  double quantile = 0.0;  ///< 0: no split; else in (0.5, 1)
  OutlierScope scope = OutlierScope::row;
  OutlierResidual residual = OutlierResidual::bf16;

  friend constexpr bool operator==(const OutlierSpec&, const OutlierSpec&) = default;
};

/// For grouped operands (experts): one tensor scale per group, or one for the whole tensor.
enum class TensorScope : std::uint8_t { group, whole };

struct QuantizerSpec {
  ElementFormat element{};
  FormatId element_id = FormatId::e2m1;
  ScaleFormat scale_format = ScaleFormat::none;
  ScaleRule rule = ScaleRule::none;
  std::int32_t tile_rows = 1;  ///< 0 = the whole extent
  std::int32_t tile_cols = 0;  ///< along the contraction axis; 0 = the whole extent
  CastChoices cast{};
  ScaleApplication application = ScaleApplication::multiply;
  FourOverSixError four_over_six_error = FourOverSixError::mae;
  TensorScope tensor_scope = TensorScope::group;
  std::uint8_t infinite_scale_code = 0xff;  ///< E8M0 byte for an amax that is not finite; 0xFE is Transformer Engine's
  float four_over_six_e4m3_max = 448.0f;
  float amax_floor = 0.0f;  ///< absmax rules: amax is at least this
  HadamardSpec hadamard{};
  DecodeOrder decode = DecodeOrder::standard;
  OutlierSpec outlier{};  ///< after the transform

  friend constexpr bool operator==(const QuantizerSpec&, const QuantizerSpec&) = default;
};

/// The rule needs the amax of the whole tensor beside that of the tile.
NG_HD constexpr bool needs_tensor_amax(ScaleRule rule) {
  return rule == ScaleRule::te_v2_14 || rule == ScaleRule::te_v2_13 || rule == ScaleRule::nvfp4_paper ||
         rule == ScaleRule::four_over_six || rule == ScaleRule::ao_two_level;
}
NG_HD constexpr bool is_e8m0_rule(ScaleRule rule) {
  return rule == ScaleRule::floor || rule == ScaleRule::ceil || rule == ScaleRule::even || rule == ScaleRule::rceil;
}
NG_HD constexpr bool is_f32_rule(ScaleRule rule) {
  return rule == ScaleRule::absmax || rule == ScaleRule::absmax_pow2 || rule == ScaleRule::msamp_pow2;
}
NG_HD constexpr bool is_nvfp4_rule(ScaleRule rule) {
  return needs_tensor_amax(rule) || rule == ScaleRule::ao_one_level;
}

/// Number of tiles over `extent` with tiles of `tile` (0 = whole); a ragged last tile counts.
NG_HD constexpr std::int64_t tile_count(std::int64_t extent, std::int64_t tile) {
  return tile == 0 ? (extent > 0 ? 1 : 0) : (extent + tile - 1) / tile;
}

struct NamedQuantizer {
  const char* name;
  const char* description;
  QuantizerSpec spec;
};

namespace preset_literals {

constexpr QuantizerSpec scaled(FormatId id, ScaleFormat scale, ScaleRule rule, int tile_rows, int tile_cols) {
  QuantizerSpec spec;
  spec.element = format_of(id);
  spec.element_id = id;
  spec.scale_format = scale;
  spec.rule = rule;
  spec.tile_rows = tile_rows;
  spec.tile_cols = tile_cols;
  return spec;
}
constexpr QuantizerSpec mx(FormatId id) {
  return scaled(id, ScaleFormat::e8m0, ScaleRule::floor, 1, 32);
}
constexpr QuantizerSpec nvfp4(int tile_rows, ZeroSign zero_sign) {
  QuantizerSpec spec = scaled(FormatId::e2m1, ScaleFormat::e4m3, ScaleRule::te_v2_14, tile_rows, 16);
  spec.cast.zero_sign = zero_sign;
  spec.cast.nan = NanChoice::zero;
  return spec;
}
constexpr QuantizerSpec f32_scaled(FormatId id, int tile_rows, int tile_cols) {
  return scaled(id, ScaleFormat::f32, ScaleRule::absmax, tile_rows, tile_cols);
}

constexpr NamedQuantizer kAll[] = {
    {"mxfp8_e4m3", "OCP MX, E4M3, blocks of 32", mx(FormatId::e4m3)},
    {"mxfp8_e5m2", "OCP MX, E5M2, blocks of 32", mx(FormatId::e5m2)},
    {"mxfp6_e2m3", "OCP MX, E2M3, blocks of 32", mx(FormatId::e2m3)},
    {"mxfp6_e3m2", "OCP MX, E3M2, blocks of 32", mx(FormatId::e3m2)},
    {"mxfp4", "OCP MX, E2M1, blocks of 32", mx(FormatId::e2m1)},
    {"mxint8", "OCP MX, int8, blocks of 32", mx(FormatId::int8)},
    {"nvfp4", "E2M1, blocks of 16 with E4M3 scales, FP32 tensor scale", nvfp4(1, ZeroSign::exact_positive)},
    {"nvfp4_2d", "E2M1, tiles 16x16 with E4M3 scales, FP32 tensor scale", nvfp4(16, ZeroSign::exact_positive)},
    {"fp8_1x128", "E4M3, one FP32 scale per 128 elements of a row", f32_scaled(FormatId::e4m3, 1, 128)},
    {"fp8_128x128", "E4M3, one FP32 scale per 128x128 tile", f32_scaled(FormatId::e4m3, 128, 128)},
    {"fp8_tensor", "E4M3, one FP32 scale per tensor", f32_scaled(FormatId::e4m3, 0, 0)},
    {"fp8_tensor_e5m2", "E5M2, one FP32 scale per tensor", f32_scaled(FormatId::e5m2, 0, 0)},
    {"fp4_token", "E2M1, one FP32 scale per row", f32_scaled(FormatId::e2m1, 1, 0)},
    {"fp4_channel", "E2M1, one FP32 scale per column", f32_scaled(FormatId::e2m1, 0, 1)},
};

}  // namespace preset_literals

constexpr std::size_t kPresetCount = sizeof(preset_literals::kAll) / sizeof(preset_literals::kAll[0]);
constexpr const NamedQuantizer (&quantizer_presets())[kPresetCount] {
  return preset_literals::kAll;
}

/// A cast to `id` without scales.
constexpr QuantizerSpec bare_cast(FormatId id) {
  QuantizerSpec spec;
  spec.element = format_of(id);
  spec.element_id = id;
  return spec;
}

}  // namespace ng
