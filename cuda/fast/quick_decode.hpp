// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of decode.hpp without branches, for formats that are known at run time only. Equal to decode() for
// every code that is a finite number (tests/parity).
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/element_format.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng::cuda::fast {

struct DecodeConstants {
  bool quick = false;  ///< otherwise decode() itself
  bool integer = false;
  std::uint8_t shift = 0;  ///< from the format's mantissa to FP32's
  std::uint8_t sign_shift = 0;
  std::uint32_t sign_mask = 0;
  bool one_not_a_number = false;  ///< the sign bit alone has to leave the quick way
  std::uint32_t largest = 0;      ///< as all codes with a larger magnitude have
  float scale = 1.0f;             ///< of a code read as FP32, or as an integer
};

inline DecodeConstants decode_constants(const ElementFormat& f) {
  DecodeConstants c;
  c.sign_mask = sign_mask(f);
  c.sign_shift = static_cast<std::uint8_t>(31 - magnitude_bit_count(f));
  if (f.sign == SignLayout::twos_complement) {
    c.quick = c.integer = true;
    c.largest = ~0u;
    c.scale = power_of_two(smallest_exponent(f) - f.mantissa_bits);
    return c;
  }
  if (f.sign != SignLayout::sign_magnitude || !f.subnormals || f.bias < 0 || bit_count(f) > 16) return c;
  c.quick = true;
  c.shift = static_cast<std::uint8_t>(23 - f.mantissa_bits);
  c.largest = largest_code(f);
  c.one_not_a_number = f.nan == NanCodes::negative_zero;
  c.scale = power_of_two(127 - f.bias);
  return c;
}

/// The number of a code that does not have to leave the quick way.
NG_HD float quick_value(const DecodeConstants& c, std::uint32_t code) {
  const std::uint32_t sign = code & c.sign_mask;
  if (c.integer) return mul_rn(static_cast<float>(static_cast<int>(code) - 2 * static_cast<int>(sign)), c.scale);
  const float magnitude = mul_rn(float_of((code ^ sign) << c.shift), c.scale);
  return float_of(bits_of(magnitude) | sign << c.sign_shift);
}

}  // namespace ng::cuda::fast
