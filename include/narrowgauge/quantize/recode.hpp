// SPDX-License-Identifier: Apache-2.0
//
// From one block format with power-of-two scales to another without a round trip through numbers: FP8 to MXFP4 (smaller
// blocks, their scales follow from the codes) and MXFP4 to FP8 (larger tiles, their scales follow from the blocks').
// Source: numerics.md section 4.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/quantize/shift_code.hpp"
#include "narrowgauge/quantize/transpose.hpp"
#include "narrowgauge/tensor/unpacked_tensor.hpp"

namespace ng {

/// The scale that a larger tile takes from the largest exponent of its blocks: largest - (E of `to` - E of `from`), 6
/// for E2M1 to E4M3, so that the largest code still fits. Exponents stay in the scale's range.
NG_HD constexpr int merged_exponent(const ElementFormat& from, const ElementFormat& to, ScaleFormat scale,
                                    int largest) {
  const int exponent = largest - (largest_exponent(to) - largest_exponent(from));
  const int least = scale == ScaleFormat::e8m0 ? -127 : -126, most = scale == ScaleFormat::e8m0 ? 127 : 126;
  return exponent < least ? least : exponent > most ? most : exponent;
}

/// The scale of a block inside a tile of scale 2^tile_exponent, from its largest magnitude code: the rule of `spec`
/// (e8m0) on the code's value, then the tile's exponent on top. Poisoned for a NaN or infinite code.
NG_HD TileScale split_scale(const ElementFormat& from, const QuantizerSpec& spec, std::uint32_t largest_code_in_block,
                            int tile_exponent) {
  const std::uint32_t amax = magnitude_bits(decode(from, largest_code_in_block));
  const TileScale scale = scale_detail::e8m0_tile_scale(spec, amax);
  if (amax == 0 || amax >= kInfinityBits) return scale;
  return scale_detail::from_e8m0(static_cast<int>(scale.code) - kE8m0Bias + tile_exponent);
}

namespace recode_detail {

inline std::size_t at(std::int64_t row, std::int64_t cols, std::int64_t col) {
  return static_cast<std::size_t>(row * cols + col);
}

/// The code whose magnitude is the largest; one that is not finite wins.
inline std::uint32_t largest_in(const UnpackedTensor& x, const ElementFormat& f, std::int64_t row0, std::int64_t rows,
                                std::int64_t col0, std::int64_t cols) {
  std::uint32_t best = 0, best_bits = 0;
  for (std::int64_t r = row0; r < row0 + rows; ++r)
    for (std::int64_t c = col0; c < col0 + cols; ++c) {
      const std::uint32_t code = x.codes[at(r, x.cols, c)];
      const std::uint32_t bits = magnitude_bits(decode(f, code));
      if (bits > best_bits) best = code, best_bits = bits;
    }
  return best;
}

}  // namespace recode_detail

/// Whether every tile tile_rows x tile_cols lies inside one tile of x: then its scale follows from the codes (which
/// needs e8m0), else from the scales of the blocks that it touches.
inline bool splits_tiles(const UnpackedTensor& x, std::int64_t tile_rows, std::int64_t tile_cols) {
  return x.tile_rows % tile_rows == 0 && x.tile_cols % tile_cols == 0;
}

/// x in the format of `spec`: one level of scales, powers of two on both sides (f32 or e8m0). Tiles of the result are
/// tile_rows x tile_cols on x's own axes (128 x 1: what the transpose wants). Codes are rounded by spec.cast. A block
/// of x whose scale is NaN becomes NaN codes and does not raise its tile's scale; where the result has no NaN its
/// scale is.
inline UnpackedTensor recode(const UnpackedTensor& x, const QuantizerSpec& spec, std::int64_t tile_rows,
                             std::int64_t tile_cols) {
  using recode_detail::at;
  const bool split = splits_tiles(x, tile_rows, tile_cols);
  const ElementFormat from = format_of(x.element), to = spec.element;
  UnpackedTensor y;
  y.element = spec.element_id;
  y.scale_format = spec.scale_format;
  y.axis = x.axis;
  y.rows = x.rows;
  y.cols = x.cols;
  y.tile_rows = tile_rows;
  y.tile_cols = tile_cols;
  y.codes.resize(x.codes.size());
  const bool f32 = spec.scale_format == ScaleFormat::f32;
  const std::size_t scales = static_cast<std::size_t>(y.scale_rows() * y.scale_cols());
  (f32 ? y.scale_values.resize(scales) : y.scale_codes.resize(scales));
  const auto is_nan_scale = [&](std::size_t i) {
    return x.scale_format == ScaleFormat::e8m0 ? x.scale_codes[i] == 0xff : is_nan_bits(bits_of(x.scale_values[i]));
  };
  for (std::int64_t tr = 0; tr < y.scale_rows(); ++tr) {
    for (std::int64_t tc = 0; tc < y.scale_cols(); ++tc) {
      const std::int64_t row0 = tr * tile_rows, rows = std::min(tile_rows, x.rows - row0);
      const std::int64_t col0 = tc * tile_cols, cols = std::min(tile_cols, x.cols - col0);
      const auto source = [&](std::int64_t r, std::int64_t c) {
        return at(r / x.tile_rows, x.scale_cols(), c / x.tile_cols);
      };
      TileScale scale;
      int exponent = 0;
      if (split) {
        const std::size_t i = source(row0, col0);
        scale = is_nan_scale(i) ? scale_detail::not_finite_e8m0(0xff)
                                : split_scale(from, spec, recode_detail::largest_in(x, from, row0, rows, col0, cols),
                                              scale_exponent(x, i));
        exponent = static_cast<int>(scale.code) - kE8m0Bias;
      } else {
        bool any = false;
        for (std::int64_t br = row0 / x.tile_rows; br * x.tile_rows < row0 + rows; ++br)
          for (std::int64_t bc = col0 / x.tile_cols; bc * x.tile_cols < col0 + cols; ++bc) {
            const std::size_t i = at(br, x.scale_cols(), bc);
            if (is_nan_scale(i)) {
              scale.poisoned = scale.poisoned || to.nan == NanCodes::none;
              continue;
            }
            exponent = any ? std::max(exponent, scale_exponent(x, i)) : scale_exponent(x, i);
            any = true;
          }
        exponent = merged_exponent(from, to, spec.scale_format, any ? exponent : 0);
      }
      if (f32)
        y.scale_values[at(tr, y.scale_cols(), tc)] = scale.poisoned ? float_of(kQuietNanBits) : power_of_two(exponent);
      else
        y.scale_codes[at(tr, y.scale_cols(), tc)] =
            static_cast<std::uint8_t>(scale.poisoned ? 0xff : exponent + kE8m0Bias);
      for (std::int64_t r = row0; r < row0 + rows; ++r)
        for (std::int64_t c = col0; c < col0 + cols; ++c) {
          std::uint32_t code = 0;
          if (!scale.poisoned)
            code = is_nan_scale(source(r, c)) ? encode(to, spec.cast, float_of(kQuietNanBits))
                                              : shifted_code(from, to, spec.cast, x.codes[at(r, x.cols, c)],
                                                             scale_exponent(x, source(r, c)) - exponent);
          y.codes[at(r, x.cols, c)] = static_cast<std::uint16_t>(code);
        }
    }
  }
  return y;
}

}  // namespace ng
