// SPDX-License-Identifier: Apache-2.0
//
// A code of any format to the FP32 number that it means; exact. NaN codes give the quiet NaN with the code's sign
// (E8M0 and FNUZ: 0x7FC00000, FNUZ with the sign that its only NaN code carries).
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/element_format.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng {

namespace decode_detail {

NG_HD constexpr bool is_nan(const ElementFormat& f, std::uint32_t code, std::uint32_t magnitude) {
  switch (f.nan) {
    case NanCodes::none:
      return false;
    case NanCodes::ieee:
      return magnitude > infinity_code(f);
    case NanCodes::all_ones:
      return magnitude == magnitude_mask(f);
    case NanCodes::negative_zero:
      return code == sign_mask(f);
  }
  return false;
}

}  // namespace decode_detail

NG_HD float decode(const ElementFormat& f, std::uint32_t code) {
  if (f.sign == SignLayout::twos_complement) {
    const int width = bit_count(f);
    const int integer = static_cast<int>(code) - ((code & sign_mask(f)) != 0 ? 1 << width : 0);
    return mul_rn(static_cast<float>(integer), power_of_two(smallest_exponent(f) - f.mantissa_bits));
  }
  const std::uint32_t magnitude = code & magnitude_mask(f);
  const std::uint32_t sign = (code & sign_mask(f)) != 0 ? kSignBit : 0u;
  if (decode_detail::is_nan(f, code, magnitude)) return float_of(kQuietNanBits | sign);
  if (f.infinity == Infinity::ieee && magnitude == infinity_code(f)) return float_of(kInfinityBits | sign);
  const int field = static_cast<int>(magnitude >> f.mantissa_bits);
  const std::uint32_t mantissa = magnitude & ((1u << f.mantissa_bits) - 1u);
  if (field == 0 && f.subnormals) {
    if (f.bias == 127) return float_of(sign | mantissa << (23 - f.mantissa_bits));  // FP32's own subnormals
    return float_of(
        sign | bits_of(mul_rn(static_cast<float>(mantissa), power_of_two(smallest_exponent(f) - f.mantissa_bits))));
  }
  const int exponent = field - f.bias;
  const std::uint32_t above = mantissa << (23 - f.mantissa_bits);
  if (exponent < -126) return float_of(sign | (0x00800000u | above) >> (-126 - exponent));  // E8M0 code 0: 2^-127
  return float_of(sign | static_cast<std::uint32_t>(exponent + 127) << 23 | above);
}

}  // namespace ng
