// SPDX-License-Identifier: Apache-2.0
//
// The choice of four_over_six: whether a tile is quantized to a largest element of 6 or of 4, by the error that the
// spec names, in the order of Transformer Engine's kernel (numerics.md section 2).
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"

namespace ng {

constexpr int kFourOverSixLines = 16;  ///< a tile has at most this many lines

/// Error of a tile under `scale`. A line is a row of the tile as quantized; x(line, i) is its element i. Lines are
/// summed in element order, then line r and r + 8, + 4, + 2, + 1.
template <class Elements>
NG_HD float four_over_six_error(const QuantizerSpec& spec, const TileScale& scale, const TensorScale& tensor,
                                std::int64_t lines, std::int64_t length, const Elements& x) {
  const float denominator = mul_rn(6.0f, spec.four_over_six_e4m3_max);
  float line_error[kFourOverSixLines] = {};
  for (std::int64_t l = 0; l < lines; ++l) {
    float error = 0.0f;
    for (std::int64_t i = 0; i < length; ++i) {
      const float value = x(l, i);
      const float element = decode(spec.element, encode_scaled(spec, scale, value));
      const float decoded = div_rn(mul_rn(mul_rn(element, scale.decode), tensor.amax), denominator);
      const float d = sub_rn(decoded, value);
      error =
          add_rn(error, spec.four_over_six_error == FourOverSixError::mae ? float_of(magnitude_bits(d)) : mul_rn(d, d));
    }
    line_error[l] = error;
  }
  if (lines == 1) return line_error[0];
  for (int distance = kFourOverSixLines / 2; distance > 0; distance /= 2)
    for (int l = 0; l < distance; ++l) line_error[l] = add_rn(line_error[l], line_error[l + distance]);
  return line_error[0];
}

/// Scale of a four_over_six tile of at most 16 lines: the one for 4 only if its error is smaller (6 on ties and NaN).
template <class Elements>
NG_HD TileScale four_over_six_scale(const QuantizerSpec& spec, std::uint32_t amax_bits, const TensorScale& tensor,
                                    std::int64_t lines, std::int64_t length, const Elements& x) {
  const TileScale six = tile_scale(spec, amax_bits, tensor);
  const TileScale four = four_over_six_tile_scale(amax_bits, tensor);
  const float error_four = four_over_six_error(spec, four, tensor, lines, length, x);
  return error_four < four_over_six_error(spec, six, tensor, lines, length, x) ? four : six;
}

}  // namespace ng
