// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of encode.hpp without branches, for formats that are known at run time only: what depends on the
// format and the cast alone is a handful of constants. Equal to encode() for every input that is not NaN
// (tests/parity).
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"

namespace ng::cuda::fast {

/// `any`: neither of the two quick ways; encode() itself.
enum class EncodeWay : std::uint8_t { nearest, stochastic, any };

/// Which negative results keep their sign bit, or that they have none but are two's complements.
enum class NegativeCodes : std::uint8_t { all, of_nonzero_codes, twos_complement };

/// Formats with instructions of their own: packed_codes.hpp.
enum class PackedFormat : std::uint8_t { none, e2m1, e4m3, e5m2 };

struct EncodeConstants {
  EncodeWay way = EncodeWay::any;
  PackedFormat packed = PackedFormat::none;
  NegativeCodes negative = NegativeCodes::all;
  std::uint8_t random_bits = 0;
  std::uint8_t code_shift = 0;  ///< from FP32's mantissa to the format's
  std::uint8_t sign_shift = 0;  ///< from FP32's sign to the format's
  float zero = -0.0f;           ///< added to scaled values: -0 changes nothing, +0 takes the sign of zeros
  std::uint32_t sign_mask = 0;
  std::uint32_t largest = 0;   ///< FP32 bits of the largest value
  std::uint32_t smallest = 0;  ///< and of the power of two that begins the smallest binade
  std::uint32_t align = 0;     ///< added to a binade: the power of two whose neighbours are as far apart as codes, or
                               ///< as the 2^random_bits parts of their distance
};

inline EncodeConstants encode_constants(const QuantizerSpec& spec) {
  const ElementFormat& f = spec.element;
  const CastChoices& cast = spec.cast;
  EncodeConstants c;
  if (f.mantissa_bits < 1 || f.sign == SignLayout::unsigned_ || !f.subnormals || smallest_exponent(f) <= -100) return c;
  if (cast.overflow != Overflow::saturate && (f.infinity != Infinity::none || f.nan != NanCodes::none)) return c;
  if (spec.scale_format != ScaleFormat::none && spec.application != ScaleApplication::multiply) return c;
  const int shift = 23 - f.mantissa_bits;
  int align = shift;
  if (cast.rounding == Rounding::nearest_even) {
    c.way = EncodeWay::nearest;
  } else if (cast.rounding == Rounding::stochastic && f.mantissa_bits + cast.random_bits <= 22) {
    c.way = EncodeWay::stochastic;
    align -= cast.random_bits;
  } else {
    return c;
  }
  const bool negative_zero = f.negative_zero && cast.zero_sign != ZeroSign::positive;
  c.negative = f.sign == SignLayout::twos_complement ? NegativeCodes::twos_complement
               : negative_zero                       ? NegativeCodes::all
                                                     : NegativeCodes::of_nonzero_codes;
  c.zero = cast.zero_sign == ZeroSign::keep ? -0.0f : 0.0f;
  c.random_bits = cast.random_bits;
  c.code_shift = static_cast<std::uint8_t>(shift);
  c.sign_shift = static_cast<std::uint8_t>(31 - magnitude_bit_count(f));
  c.sign_mask = sign_mask(f);
  c.largest = bits_of(scale_detail::largest_value(f));
  c.smallest = static_cast<std::uint32_t>(127 + smallest_exponent(f)) << 23;
  c.align = static_cast<std::uint32_t>(align) << 23;
  return c;
}

/// Magnitude of the code of a scaled value, c.zero added, given by its bits, no NaN; beside it the sign of the value.
/// `random`: a draw of c.random_bits bits. with_negative_codes makes codes of it.
template <EncodeWay kWay>
NG_HD std::uint32_t quick_code(const EncodeConstants& c, std::uint32_t bits, std::uint32_t random) {
  static_assert(kWay != EncodeWay::any);
  const std::uint32_t magnitude = bits & kMagnitudeMask;
  // 1. The magnitude, saturated, and the power of two that begins its binade, not below the smallest.
  const std::uint32_t bounded = magnitude < c.largest ? magnitude : c.largest;
  const std::uint32_t exponent = bounded & kInfinityBits;
  const std::uint32_t binade = exponent > c.smallest ? exponent : c.smallest;
  // 2. An addition to a power of two that is larger leaves exactly the wanted bits, rounded to nearest even.
  const std::uint32_t align = binade + c.align;
  const float sum = add_rn(float_of(bounded), float_of(align));
  std::uint32_t kept = bits_of(sum) - align;
  if constexpr (kWay == EncodeWay::stochastic) {
    // Cut instead: one less where it was rounded up. Then the draw, and what it carries.
    kept -= sub_rn(sum, float_of(align)) > float_of(bounded) ? 1u : 0u;
    kept = (kept + random) >> c.random_bits;
  }
  // 3. The binade's codes.
  return (kept + ((binade - c.smallest) >> c.code_shift)) | (bits >> c.sign_shift & c.sign_mask);
}

/// What quick_code left to do, for all codes of a word of kBits each, where c.negative is not `all`.
template <int kBits>
NG_HD std::uint32_t with_negative_codes(const EncodeConstants& c, std::uint32_t word) {
  constexpr std::uint32_t kMask = (1u << kBits) - 1u;
  std::uint32_t result = 0;
  for (int at = 0; at < 32; at += kBits) {
    const std::uint32_t code = word >> at & kMask;
    const std::uint32_t magnitude = code & ~c.sign_mask;
    const bool negative = code != magnitude;
    const std::uint32_t complement = negative ? 0u - magnitude : magnitude;
    const std::uint32_t kept = magnitude == 0 ? 0u : code;
    result |= ((c.negative == NegativeCodes::twos_complement ? complement : kept) & kMask) << at;
  }
  return result;
}

}  // namespace ng::cuda::fast
