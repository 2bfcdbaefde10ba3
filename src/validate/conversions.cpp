// SPDX-License-Identifier: Apache-2.0
//
// conversions.hpp: checks, and the way through quantize/.
#include "narrowgauge/validate/conversions.hpp"

#include <fmt/format.h>

#include <numeric>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/quantize/decoded.hpp"
#include "narrowgauge/quantize/recode.hpp"
#include "narrowgauge/quantize/transpose.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/validate/reference_quantizer.hpp"

namespace ng::validate {
namespace {

void require_pow2_scales(const UnpackedTensor& x, bool nan_allowed) {
  if (x.tensor_scale || (x.scale_format != ScaleFormat::f32 && x.scale_format != ScaleFormat::e8m0))
    throw UserError(fmt::format("the conversion needs one level of power-of-two scales (f32 or e8m0); these are {}{}",
                                name_of(x.scale_format), x.tensor_scale ? " with a tensor scale" : ""));
  const std::size_t cols = static_cast<std::size_t>(std::max<std::int64_t>(x.scale_cols(), 1));
  for (std::size_t i = 0; i < x.scale_values.size(); ++i) {
    const float scale = x.scale_values[i];
    if (is_power_of_two(scale) || (nan_allowed && is_nan_bits(bits_of(scale)))) continue;
    throw UserError(fmt::format("scale [{}, {}] is {} (0x{:08x}), no power of two; quantize with rule=absmax_pow2",
                                i / cols, i % cols, scale, bits_of(scale)));
  }
  for (std::size_t i = 0; !nan_allowed && i < x.scale_codes.size(); ++i)
    if (x.scale_codes[i] == 0xff) throw UserError(fmt::format("scale [{}, {}] is NaN (0xff)", i / cols, i % cols));
}

std::vector<std::int64_t> checked_splits(const std::vector<std::int64_t>& splits, std::int64_t rows) {
  std::int64_t sum = 0;
  for (const std::int64_t extent : splits) {
    if (extent < 0 || extent > rows - sum)
      throw UserError(fmt::format("splits {} do not add up to the {} rows", fmt::join(splits, ","), rows));
    sum += extent;
  }
  if (splits.empty()) return {rows};
  if (sum != rows) throw UserError(fmt::format("splits {} add up to {} of {} rows", fmt::join(splits, ","), sum, rows));
  return splits;
}

UnpackedTensor requantized(const UnpackedTensor& x, const QuantizerSpec& spec,
                           const std::vector<std::int64_t>& splits) {
  if (needs_tensor_amax(spec.rule) && splits.size() > 1)
    throw UserError(
        fmt::format("requantize with {} makes a tensor scale for each split; give no splits", to_text(spec)));
  const std::vector<float> values = decoded_values(x, DecodeOrder::standard);
  UnpackedTensor y;
  std::vector<UnpackedTensor> parts;
  std::int64_t begin = 0;
  for (const std::int64_t extent : splits) {
    const std::vector<float> rows(values.begin() + begin * x.cols, values.begin() + (begin + extent) * x.cols);
    ReferenceQuantizer reference(
        {copied_matrix<float>(rows.data(), extent, x.cols, true), x.cols, extent, Orientation::row, 0, 0, 0, {}, {}});
    if (!reference.possible(spec, Deviation{}))
      throw UserError(fmt::format("{} cannot be applied to [{}, {}]", to_text(spec), x.cols, extent));
    parts.push_back(reference.quantize(spec));
    begin += extent;
  }
  if (parts.size() == 1) return parts.front();
  // Side by side: the splits are groups of columns.
  y = parts.front();
  if (spec.tile_cols == 0 && spec.scale_format != ScaleFormat::none)
    throw UserError(fmt::format("requantize with {}: splits need tiles of a stated width", to_text(spec)));
  y.cols = x.rows;
  y.tile_cols = spec.scale_format == ScaleFormat::none ? std::max<std::int64_t>(x.rows, 1) : spec.tile_cols;
  y.col_splits = spec.scale_format == ScaleFormat::none ? std::vector<std::int64_t>{} : splits;
  y.codes.clear();
  y.scale_codes.clear();
  y.scale_values.clear();
  const auto append_row = [](auto& to, const auto& from, std::int64_t row, std::int64_t cols) {
    if (!from.empty()) to.insert(to.end(), from.begin() + row * cols, from.begin() + (row + 1) * cols);
  };
  for (std::int64_t r = 0; r < y.rows; ++r)
    for (const UnpackedTensor& part : parts) append_row(y.codes, part.codes, r, part.cols);
  for (std::int64_t r = 0; r < parts.front().scale_rows(); ++r)
    for (const UnpackedTensor& part : parts) {
      append_row(y.scale_codes, part.scale_codes, r, part.scale_cols());
      append_row(y.scale_values, part.scale_values, r, part.scale_cols());
    }
  return y;
}

}  // namespace

UnpackedTensor transposed_reference(const UnpackedTensor& x, const TransposeSpec& spec,
                                    const std::vector<std::int64_t>& splits) {
  const std::vector<std::int64_t> extents = checked_splits(splits, x.rows);
  if (spec.via == TransposeVia::requantize) return requantized(x, spec.quantizer, extents);
  require_pow2_scales(x, false);
  if (x.axis != Orientation::row || x.tile_rows != 1 || !x.col_splits.empty())
    throw UserError(fmt::format("a scaling-aware transpose needs tiles 1xT along rows; these are {}x{}, axis {}",
                                x.tile_rows, x.tile_cols, name_of(x.axis)));
  const ElementFormat f = format_of(x.element);
  if (bit_count(f) > 8 || f.sign != SignLayout::sign_magnitude)
    throw UserError(fmt::format("a scaling-aware transpose needs a floating element of at most 8 bits, not {}",
                                name_of(x.element)));
  const TransposeMethod method = spec.via == TransposeVia::exact ? TransposeMethod::exact : TransposeMethod::published;
  return transpose(x, method, splits.empty() ? std::vector<std::int64_t>{} : extents);
}

UnpackedTensor recoded_reference(const UnpackedTensor& x, const QuantizerSpec& spec, Orientation axis) {
  require_pow2_scales(x, true);
  if (!x.col_splits.empty()) throw UserError("a recoding takes no tensor with splits");
  const bool pow2_rule = is_e8m0_rule(spec.rule) || spec.rule == ScaleRule::absmax_pow2;
  const bool e8m0 = spec.scale_format == ScaleFormat::e8m0;
  if (!pow2_rule || bit_count(spec.element) > 8 || bit_count(format_of(x.element)) > 8)
    throw UserError(fmt::format(
        "recode goes between elements of at most 8 bits with power-of-two scales, for example --as mxfp4 or "
        "fp8_1x128,rule=absmax_pow2; not to {}",
        to_text(spec)));
  if (spec.hadamard.size != 0 || spec.outlier.quantile != 0.0 || spec.cast.rounding == Rounding::stochastic)
    throw UserError(fmt::format("recode neither transforms, splits nor draws: {}", to_text(spec)));
  const bool column = axis == Orientation::column;
  std::int64_t tile_rows = column ? spec.tile_cols : spec.tile_rows,
               tile_cols = column ? spec.tile_rows : spec.tile_cols;
  if (tile_rows == 0) tile_rows = std::max<std::int64_t>(x.rows, 1);
  if (tile_cols == 0) tile_cols = std::max<std::int64_t>(x.cols, 1);
  if (splits_tiles(x, tile_rows, tile_cols) && !e8m0)
    throw UserError(
        fmt::format("tiles {}x{} inside tiles {}x{} take their scales from the codes, which needs "
                    "scale=e8m0",
                    tile_rows, tile_cols, x.tile_rows, x.tile_cols));
  UnpackedTensor y = recode(x, spec, tile_rows, tile_cols);
  y.axis = axis;
  return y;
}

}  // namespace ng::validate
