// SPDX-License-Identifier: Apache-2.0
//
// conversions.hpp, element by element in double. A scaled code has at most 4 significant bits and the exponents of the
// tests stay within double's, so every product here is exact.
#include "conversions.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "formats.hpp"

namespace ng_oracle {
namespace {

// Nearest code of a double that is far inside double's range; ties to even, saturating.
std::uint32_t nearest_code(const Format& f, double value) {
  const bool negative = std::signbit(value);
  const double magnitude = std::fabs(value);
  const auto with_sign = [&](std::uint32_t code) { return negative ? code | f.sign_mask : code; };
  if (std::isnan(value)) return with_sign(f.nan_code);
  const auto above = std::lower_bound(f.magnitudes.begin(), f.magnitudes.end(), magnitude);
  if (above == f.magnitudes.end()) return with_sign(f.magnitude_codes.back());
  const std::size_t hi = static_cast<std::size_t>(above - f.magnitudes.begin());
  if (*above == magnitude || hi == 0) return with_sign(f.magnitude_codes[hi]);
  const double middle = (f.magnitudes[hi - 1] + f.magnitudes[hi]) / 2;
  const bool up = magnitude > middle || (magnitude == middle && f.magnitude_codes[hi] % 2 == 0);
  return with_sign(f.magnitude_codes[up ? hi : hi - 1]);
}

}  // namespace

Transposed scaling_aware_transpose(const Pow2Tensor& x, const std::vector<std::size_t>& splits, bool published) {
  const Format& f = format(x.element);
  const std::size_t tile = x.tile_cols, tiles = (x.cols + tile - 1) / tile;
  Transposed y;
  for (const std::size_t extent : splits) y.scale_cols += (extent + tile - 1) / tile;
  y.codes.resize(x.codes.size());
  y.exponents.resize(x.cols * y.scale_cols);
  for (std::size_t c = 0; c < x.cols; ++c) {
    std::size_t begin = 0, block = 0;
    for (const std::size_t extent : splits) {
      for (std::size_t row0 = begin; row0 < begin + extent; row0 += tile, ++block) {
        const std::size_t row1 = std::min(row0 + tile, begin + extent);
        const auto own = [&](std::size_t r) { return x.exponents[r * tiles + c / tile]; };
        // Rows without a value do not count, unless there is no other.
        bool found = false;
        int largest = own(row0);
        for (std::size_t r = row0; r < row1; ++r) {
          bool valued = published;
          for (std::size_t i = c / tile * tile; i < std::min(x.cols, (c / tile + 1) * tile); ++i)
            valued = valued || f.values[x.codes[r * x.cols + i]] != 0;
          if (!valued) continue;
          largest = found ? std::max(largest, own(r)) : own(r);
          found = true;
        }
        for (std::size_t r = row0; !found && r < row1; ++r) largest = std::max(largest, own(r));
        y.exponents[c * y.scale_cols + block] = largest;
        for (std::size_t r = row0; r < row1; ++r) {
          const std::uint32_t code = x.codes[r * x.cols + c];
          std::uint32_t& to = y.codes[c * x.rows + r];
          const int k = largest - own(r);
          if (!published) {
            to = nearest_code(f, std::ldexp(f.values[code], -std::max(k, 0)));
            if (f.values[code] == 0) to = code;
            continue;
          }
          // sign 1 | exponent 4 | mantissa 3, field by field as the kernel takes them apart
          const int sign = static_cast<int>(code >> 7), exponent = static_cast<int>(code >> 3 & 15);
          const int mantissa = static_cast<int>(code & 7), lowered = exponent - k < 1 ? 0 : exponent - k;
          to = exponent == 0 ? 0u : static_cast<std::uint32_t>(sign * 128 + lowered * 8 + mantissa);
        }
      }
      begin += extent;
    }
  }
  return y;
}

Pow2Tensor recode(const Pow2Tensor& x, const std::string& element, std::size_t tile_rows, std::size_t tile_cols,
                  const std::string& rule) {
  const Format& from = format(x.element);
  const Format& to = format(element);
  Pow2Tensor y{element, x.rows, x.cols, tile_rows, tile_cols, {}, {}};
  y.codes.resize(x.codes.size());
  const std::size_t across = (x.cols + tile_cols - 1) / tile_cols, x_across = (x.cols + x.tile_cols - 1) / x.tile_cols;
  y.exponents.resize((x.rows + tile_rows - 1) / tile_rows * across);
  const auto own = [&](std::size_t r, std::size_t c) {
    return x.exponents[r / x.tile_rows * x_across + c / x.tile_cols];
  };
  for (std::size_t t = 0; t < y.exponents.size(); ++t) {
    const std::size_t row0 = t / across * tile_rows, row1 = std::min(x.rows, row0 + tile_rows);
    const std::size_t col0 = t % across * tile_cols, col1 = std::min(x.cols, col0 + tile_cols);
    double amax = 0;
    int largest = own(row0, col0);
    for (std::size_t r = row0; r < row1; ++r)
      for (std::size_t c = col0; c < col1; ++c) {
        amax = std::max(amax, std::fabs(std::ldexp(from.values[x.codes[r * x.cols + c]], own(r, c))));
        largest = std::max(largest, own(r, c));
      }
    int exponent = -127;
    if (rule.empty()) {
      exponent = largest - (to.largest_exponent - from.largest_exponent);
    } else if (amax > 0) {
      exponent = std::ilogb(amax) - to.largest_exponent;
      if (rule == "rceil") {  // least power of two that holds amax without saturation
        while (std::ldexp(to.largest, exponent) < amax) ++exponent;
        while (std::ldexp(to.largest, exponent - 1) >= amax) --exponent;
      } else if (rule != "floor") {
        throw std::invalid_argument("rule " + rule);
      }
    }
    y.exponents[t] = exponent;
    for (std::size_t r = row0; r < row1; ++r)
      for (std::size_t c = col0; c < col1; ++c)
        y.codes[r * x.cols + c] =
            nearest_code(to, std::ldexp(from.values[x.codes[r * x.cols + c]], own(r, c) - exponent));
  }
  return y;
}

}  // namespace ng_oracle
