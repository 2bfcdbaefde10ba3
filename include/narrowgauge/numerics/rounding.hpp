// SPDX-License-Identifier: Apache-2.0
//
// The named choices of a conversion to a narrow format, and rounding itself: a significand loses its low bits.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/host_device.hpp"

namespace ng {

/// `half_up`: ties to +infinity (MS-AMP's kernel). `stochastic`: see round_significand.
enum class Rounding : std::uint8_t { nearest_even, nearest_away, toward_zero, half_up, stochastic };

/// What a magnitude above the largest becomes, infinity included. `nonfinite`: infinity, else NaN, each with the sign;
/// a format with neither saturates.
enum class Overflow : std::uint8_t { saturate, nonfinite };

/// What NaN becomes. In a format with NaN: `quiet` keeps the sign and drops the payload, `cuda` writes 0x7F without
/// sign for FP8. In a format without NaN: `error` (the caller is told; the code is 0), `largest` (CUDA: largest
/// without sign), `zero` (Transformer Engine's reference), `negated_zero` (ml_dtypes: zero with the opposite sign).
enum class NanChoice : std::uint8_t { quiet, cuda, error, largest, zero, negated_zero };

/// Sign of a zero result. `exact_positive`: an input of either zero gives +0, a negative value that rounds to zero
/// keeps its sign (Transformer Engine's reference, microxcaling).
enum class ZeroSign : std::uint8_t { keep, exact_positive, positive };

struct CastChoices {
  Rounding rounding = Rounding::nearest_even;
  std::uint8_t random_bits = 0;  ///< 8, 16 or 32 when rounding is stochastic
  Overflow overflow = Overflow::saturate;
  NanChoice nan = NanChoice::quiet;
  ZeroSign zero_sign = ZeroSign::keep;

  friend constexpr bool operator==(const CastChoices&, const CastChoices&) = default;
};

/// significand / 2^lost rounded to an integer; lost >= 1, significand < 2^24. `random` is a draw of `random_bits` bits:
/// with f = the discarded fraction, the result is the upper neighbour iff floor(f * 2^b) + random >= 2^b (numerics.md
/// section 1; b = 8 is Blackwell's cvt.rs for E2M1). The mean over all draws is below |x| by less than step / 2^b, and
/// not at all where f * 2^b is an integer, as whenever lost <= b: for E2M1 with b = 32 down to |x| = 2^-10. "Even" is
/// about the code: `added` is what the caller adds to the result to form it, odd only in formats without mantissa bits.
NG_HD constexpr std::uint32_t round_significand(std::uint32_t significand, int lost, bool negative, Rounding rounding,
                                                int random_bits, std::uint32_t random, std::uint32_t added = 0) {
  const int shift = lost < 25 ? lost : 25;  // beyond 25 every significand is below half a unit
  const std::uint32_t floor = significand >> shift;
  switch (rounding) {
    case Rounding::nearest_even:
      return (significand + ((1u << (shift - 1)) - 1u) + ((floor + added) & 1u)) >> shift;
    case Rounding::nearest_away:
      return (significand + (1u << (shift - 1))) >> shift;
    case Rounding::half_up:
      return (significand + (1u << (shift - 1)) - (negative ? 1u : 0u)) >> shift;
    case Rounding::toward_zero:
      return floor;
    case Rounding::stochastic:
      break;
  }
  const std::uint32_t rest = significand - (floor << shift);
  const int down = lost - random_bits;
  const std::uint32_t fraction = down >= 0 ? rest >> (down < 31 ? down : 31) : rest << -down;
  const std::uint32_t carry =
      random_bits == 32 ? (fraction + random < fraction ? 1u : 0u) : (fraction + random) >> (random_bits & 31);
  return floor + carry;
}

}  // namespace ng
