// SPDX-License-Identifier: Apache-2.0
//
// What one element adds to the measures of a quantized tensor, and which rows, tiles and scales count: the arithmetic
// that every backend's `measure` shares. Orders of sums are the caller's. Source: numerics.md section 6.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/elementary.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"

namespace ng {

namespace measure_detail {
NG_HD double magnitude(double value) {
  return __builtin_bit_cast(double, __builtin_bit_cast(std::uint64_t, value) & 0x7fffffffffffffffull);
}
}  // namespace measure_detail

/// Error sums of consecutive elements: X what the quantizer was given, D what its codes mean.
struct ErrorTerms {
  double error2 = 0, square = 0, decoded2 = 0, product = 0, signed_error = 0, absolute = 0;
  std::int64_t nonzero = 0, underflow = 0, saturated = 0;
  float max_abs = 0, max_rel = 0;  ///< NaN do not count

  /// `limit`: the largest value that the block can hold, see block_limit.
  NG_HD void add(float x, float d, float limit) {
    const double value = x;
    const double got = d;
    const double error = sub_rn(got, value);
    const double size = measure_detail::magnitude(value);
    const double distance = measure_detail::magnitude(error);
    error2 = add_rn(error2, mul_rn(error, error));
    square = add_rn(square, mul_rn(value, value));
    decoded2 = add_rn(decoded2, mul_rn(got, got));
    product = add_rn(product, mul_rn(got, value));
    signed_error = add_rn(signed_error, value < 0 ? -error : value > 0 ? error : 0.0);
    absolute = add_rn(absolute, size);
    const float absolute_error = static_cast<float>(distance);
    max_abs = max_abs < absolute_error ? absolute_error : max_abs;
    if (value != 0) {
      ++nonzero;
      underflow += got == 0 ? 1 : 0;
      const float relative_error = static_cast<float>(div_rn(distance, size));
      max_rel = max_rel < relative_error ? relative_error : max_rel;
    }
    saturated += size > static_cast<double>(limit) ? 1 : 0;
  }
};

/// Sums of double quantization: D(Qc X) beside D(Qc(D(Qr X))).
struct DoubleTerms {
  double error2 = 0, total2 = 0;
  std::int64_t changed = 0;

  NG_HD void add(float x, float once, float twice) {
    const double between = sub_rn(static_cast<double>(twice), static_cast<double>(once));
    const double total = sub_rn(static_cast<double>(twice), static_cast<double>(x));
    error2 = add_rn(error2, mul_rn(between, between));
    total2 = add_rn(total2, mul_rn(total, total));
    changed += twice != once ? 1 : 0;
  }
};

/// The largest value that a block can hold. `tensor_scale`: 1 without one; `tensor_amax`: for `decode = te`.
NG_HD float block_limit(const QuantizerSpec& spec, float scale, float tensor_scale, float tensor_amax) {
  const float largest = scale_detail::largest_value(spec.element);
  if (spec.scale_format == ScaleFormat::none) return largest;
  if (spec.decode == DecodeOrder::te) return mul_rn(largest, te_decode_factor(scale, tensor_amax));
  return mul_rn(mul_rn(largest, scale), tensor_scale);
}

/// Whether a scale enters statistics of logarithms.
NG_HD bool has_log(float scale) {
  return scale > 0.0f && bits_of(scale) < kInfinityBits;
}

/// log2 of a tile's scale with its tensor's, NaN where one has none; `gap` of two such: NaN counts nothing.
NG_HD double scale_log(float scale, float tensor_scale) {
  if (!has_log(scale) || !has_log(tensor_scale)) return static_cast<double>(float_of(kQuietNanBits));
  return add_rn(log2_rn(static_cast<double>(scale)), log2_rn(static_cast<double>(tensor_scale)));
}
NG_HD double scale_gap(double first, double second) {
  return measure_detail::magnitude(sub_rn(first, second));
}

/// Whether one of rows [first, last) of a tensor of `rows` logical rows is no padding, by its ids (see Placement).
NG_HD bool holds_real_row(const std::int64_t* row_ids, std::int64_t rows, std::int64_t first, std::int64_t last) {
  for (std::int64_t r = first; r < last; ++r)
    if (row_ids[r] >= 0 && row_ids[r] < rows) return true;
  return false;
}

/// Power-of-two scales and codes that keep their format under a shift: what a scaling-aware transpose is made for.
NG_HD bool can_be_transposed(const QuantizerSpec& spec) {
  const bool powers = spec.scale_format == ScaleFormat::e8m0 ||
                      (spec.scale_format == ScaleFormat::f32 &&
                       (spec.rule == ScaleRule::absmax_pow2 || spec.rule == ScaleRule::msamp_pow2));
  return powers && spec.tile_rows == 1 && spec.tile_cols > 0 && bit_count(spec.element) <= 8 &&
         spec.element.exponent_bits > 0 && spec.element_id != FormatId::int8;
}

}  // namespace ng
