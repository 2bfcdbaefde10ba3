// SPDX-License-Identifier: Apache-2.0
//
// What a number format is: field widths, bias, and which codes are special. A format is one literal of this type
// (format_catalog.hpp holds them all); encode.hpp and decode.hpp read nothing else.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/host_device.hpp"

namespace ng {

enum class Infinity : std::uint8_t { none, ieee };

/// Which codes are NaN. `ieee`: exponent field all ones, mantissa not zero. `all_ones`: only the code whose magnitude
/// bits are all ones (E4M3, E8M0). `negative_zero`: only the sign bit alone (the FNUZ family).
enum class NanCodes : std::uint8_t { none, ieee, all_ones, negative_zero };

/// `sign_magnitude`: a sign bit above the magnitude. `twos_complement`: MX int8. `unsigned_`: scales only.
enum class SignLayout : std::uint8_t { sign_magnitude, twos_complement, unsigned_ };

struct ElementFormat {
  std::uint8_t exponent_bits;
  std::uint8_t mantissa_bits;
  std::int16_t bias;
  SignLayout sign;
  bool subnormals;     ///< exponent field 0 holds zero and subnormals; otherwise it is an ordinary binade (E8M0)
  bool negative_zero;  ///< the format can write -0
  Infinity infinity;
  NanCodes nan;

  friend constexpr bool operator==(const ElementFormat&, const ElementFormat&) = default;
};
static_assert(sizeof(ElementFormat) == 10);

NG_HD constexpr int magnitude_bit_count(const ElementFormat& f) {
  return f.exponent_bits + f.mantissa_bits;
}
NG_HD constexpr int bit_count(const ElementFormat& f) {
  return magnitude_bit_count(f) + (f.sign == SignLayout::unsigned_ ? 0 : 1);
}
NG_HD constexpr std::uint32_t magnitude_mask(const ElementFormat& f) {
  return static_cast<std::uint32_t>((1ull << magnitude_bit_count(f)) - 1);
}
NG_HD constexpr std::uint32_t sign_mask(const ElementFormat& f) {
  return f.sign == SignLayout::unsigned_ ? 0u : 1u << magnitude_bit_count(f);
}

/// Exponent of the smallest binade: of the smallest normal number (and of the subnormals below it).
NG_HD constexpr int smallest_exponent(const ElementFormat& f) {
  return f.subnormals ? 1 - f.bias : -f.bias;
}

/// Code of infinity without its sign; meaningful when the format has one.
NG_HD constexpr std::uint32_t infinity_code(const ElementFormat& f) {
  return ((1u << f.exponent_bits) - 1u) << f.mantissa_bits;
}

/// Code of the largest finite magnitude.
NG_HD constexpr std::uint32_t largest_code(const ElementFormat& f) {
  if (f.nan == NanCodes::ieee) return infinity_code(f) - 1u;
  return f.nan == NanCodes::all_ones ? magnitude_mask(f) - 1u : magnitude_mask(f);
}

/// Code of the quiet NaN without its sign; meaningful when the format has NaN.
NG_HD constexpr std::uint32_t nan_code(const ElementFormat& f) {
  if (f.nan == NanCodes::ieee) return infinity_code(f) | (1u << (f.mantissa_bits - 1));
  return f.nan == NanCodes::all_ones ? magnitude_mask(f) : sign_mask(f);
}

/// Bits after the leading one of a number in the top binade: one mantissa bit of int8 is its leading one.
NG_HD constexpr int fraction_bits(const ElementFormat& f) {
  return f.exponent_bits == 0 ? f.mantissa_bits - 1 : f.mantissa_bits;
}

/// floor(log2(largest finite magnitude)): "E" of the scale rules (numerics.md section 2; OCP MX v1.0 section 6.3).
NG_HD constexpr int largest_exponent(const ElementFormat& f) {
  if (f.exponent_bits == 0) return smallest_exponent(f) - 1;  // int8: 127/64 lies in [1, 2)
  return static_cast<int>(largest_code(f) >> f.mantissa_bits) - f.bias;
}

}  // namespace ng
