// SPDX-License-Identifier: Apache-2.0
//
// FP32 to a code of any format, in integer arithmetic: round with unbounded exponent, then compare with the largest
// code. Bit-exact on host and device. Scaling is the caller's: `value` is already the scaled value.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/element_format.hpp"
#include "narrowgauge/numerics/rounding.hpp"

namespace ng {

namespace encode_detail {

NG_HD constexpr std::uint32_t with_sign(const ElementFormat& f, std::uint32_t magnitude, bool negative) {
  if (f.sign == SignLayout::unsigned_ || !negative) return magnitude;
  if (f.sign == SignLayout::twos_complement) return (0u - magnitude) & ((sign_mask(f) << 1) - 1u);
  return magnitude | sign_mask(f);
}

NG_HD constexpr std::uint32_t nan_result(const ElementFormat& f, NanChoice choice, bool negative) {
  if (f.nan == NanCodes::negative_zero) return nan_code(f);
  if (f.nan != NanCodes::none)
    return choice == NanChoice::cuda ? magnitude_mask(f) : with_sign(f, nan_code(f), negative);
  switch (choice) {
    case NanChoice::largest:
    case NanChoice::cuda:
      return largest_code(f);
    case NanChoice::negated_zero:
      return f.negative_zero && !negative ? sign_mask(f) : 0u;
    case NanChoice::quiet:
    case NanChoice::error:
    case NanChoice::zero:
      break;
  }
  return 0u;
}

NG_HD constexpr std::uint32_t overflow_result(const ElementFormat& f, Overflow choice, bool negative) {
  if (choice == Overflow::saturate) return with_sign(f, largest_code(f), negative);
  if (f.infinity == Infinity::ieee) return with_sign(f, infinity_code(f), negative);
  if (f.nan == NanCodes::negative_zero) return nan_code(f);
  if (f.nan != NanCodes::none) return with_sign(f, nan_code(f), negative);
  return with_sign(f, largest_code(f), negative);
}

}  // namespace encode_detail

/// Code of `value` in format `f` (any but e8m0, whose scales come from scale_rule.hpp and whose casts from
/// cast_to_e8m0). `random`: a draw of choices.random_bits bits, used by stochastic rounding only. Source: numerics.md
/// section 1.
NG_HD constexpr std::uint32_t encode(const ElementFormat& f, const CastChoices& choices, float value,
                                     std::uint32_t random = 0) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t magnitude = bits & kMagnitudeMask;
  const bool negative = (bits >> 31) != 0;
  if (f.mantissa_bits == 23) {  // FP32 itself
    return magnitude > kInfinityBits ? encode_detail::nan_result(f, choices.nan, negative) : bits;
  }

  // 1. FP32 exponent field and significand; subnormals share the field 1 of the smallest normals.
  const std::uint32_t field = magnitude >> 23;
  const std::uint32_t significand = (magnitude & 0x007fffffu) | (field != 0 ? 0x00800000u : 0u);
  const int exponent_field = field != 0 ? static_cast<int>(field) : 1;
  // 2. Distance to the format's smallest binade: above it the exponent grows, below it more bits are dropped.
  const int above = exponent_field - (127 + smallest_exponent(f));
  const int binade = above > 0 ? above : 0;
  const int lost = 23 - f.mantissa_bits + (above < 0 ? -above : 0);
  // 3. Round. The leading one of the result adds itself to the exponent field, so does a carry.
  const std::uint32_t binade_code = static_cast<std::uint32_t>(binade) << f.mantissa_bits;
  const std::uint32_t rounded =
      round_significand(significand, lost, negative, choices.rounding, choices.random_bits, random, binade_code);
  const std::uint32_t code = binade_code + rounded;

  if (magnitude > kInfinityBits) return encode_detail::nan_result(f, choices.nan, negative);
  if (code > largest_code(f) || magnitude == kInfinityBits)
    return encode_detail::overflow_result(f, choices.overflow, negative);
  if (code == 0) {
    const bool keeps_sign = f.negative_zero && (choices.zero_sign == ZeroSign::keep ||
                                                (choices.zero_sign == ZeroSign::exact_positive && magnitude != 0));
    return keeps_sign && negative ? sign_mask(f) : 0u;
  }
  return encode_detail::with_sign(f, code, negative);
}

/// A cast to E8M0 as ml_dtypes does it: zero, negative, non-finite and anything above 2^127 after rounding give 0xFF;
/// nearest, ties up; FP32 subnormals give 0 up to 2^-127 and 1 above. Scale rules do not use it.
NG_HD constexpr std::uint32_t cast_to_e8m0(float value) {
  const std::uint32_t bits = bits_of(value);
  if (bits == 0 || bits >= kInfinityBits) return 0xffu;  // sign bit set, NaN and infinity included
  if (bits < 0x00800000u) return bits <= 0x00400000u ? 0u : 1u;
  return (bits + 0x00400000u) >> 23;
}

}  // namespace ng
