// SPDX-License-Identifier: Apache-2.0
//
// A code of one format to the code of the same number times a power of two in another, without decoding to memory: what
// transposes and recodings without a round trip are made of. Integer arithmetic, host and device. Source: numerics.md
// section 4.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"

namespace ng {

/// Code in `to` of value(code in `from`) * 2^shift, rounded once. Formats whose values lie between 2^-30 and 2^30 (all
/// of at most 8 bits but e8m0): there FP32 holds the product for every shift that does not end in zero or overflow
/// anyway, and the shift is an addition to its exponent field.
NG_HD std::uint32_t shifted_code(const ElementFormat& from, const ElementFormat& to, const CastChoices& choices,
                                 std::uint32_t code, int shift) {
  const std::uint32_t bits = bits_of(decode(from, code));
  const std::uint32_t magnitude = bits & kMagnitudeMask;
  if (magnitude == 0 || magnitude >= kInfinityBits) return encode(to, choices, float_of(bits));
  const int bounded = shift < -90 ? -90 : shift > 90 ? 90 : shift;
  return encode(to, choices, float_of(bits + static_cast<std::uint32_t>(bounded) * 0x00800000u));
}

/// The code times 2^-k in its own format, k >= 0: nearest even into the subnormals; signs, infinities and NaN stay.
NG_HD std::uint32_t lowered_code(const ElementFormat& f, std::uint32_t code, int k) {
  CastChoices choices;
  choices.overflow = Overflow::nonfinite;
  return shifted_code(f, f, choices, code, -k);
}

/// The same as the kernel that FP8-Flow-MoE released does it (arXiv 2511.02302, its Algorithm 1): exponent field 0
/// gives code 0; the field drops by k; below 1 it becomes 0 while the mantissa stays unshifted. NaN is not special.
NG_HD constexpr std::uint32_t lowered_code_published(const ElementFormat& f, std::uint32_t code, int k) {
  const std::uint32_t mantissa = code & ((1u << f.mantissa_bits) - 1u);
  const int field = static_cast<int>((code & magnitude_mask(f)) >> f.mantissa_bits);
  if (field == 0) return 0;
  const int left = field - k;
  return (code & sign_mask(f)) | (left < 1 ? 0u : static_cast<std::uint32_t>(left) << f.mantissa_bits) | mantissa;
}

}  // namespace ng
