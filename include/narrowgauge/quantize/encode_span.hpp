// SPDX-License-Identifier: Apache-2.0
//
// Many elements to codes at once: the arithmetic of encode.hpp without branches, one text for a single element and for
// packs of eight. Equal to the scalar form for every input (unit test). For formats of at most 8 bits with a sign bit;
// others take encode() itself.
#pragma once

#include <cstddef>
#include <cstdint>

#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/quantize/lanes.hpp"

namespace ng {

/// What the rare inputs become, decided once per tensor. Index 1: negative inputs.
struct SpecialCodes {
  std::uint32_t nan[2];
  std::uint32_t overflow[2];
  std::uint32_t zero_input[2];  ///< the scaled value is a zero
  std::uint32_t rounds_to_zero[2];
};

NG_HD constexpr SpecialCodes special_codes(const ElementFormat& f, const CastChoices& choices) {
  SpecialCodes codes{};
  for (int negative = 0; negative < 2; ++negative) {
    const std::uint32_t sign = negative != 0 ? kSignBit : 0u;
    CastChoices down = choices;
    down.rounding = Rounding::toward_zero;
    codes.nan[negative] = encode(f, choices, float_of(kQuietNanBits | sign));
    codes.overflow[negative] = encode(f, choices, float_of(kInfinityBits | sign));
    codes.zero_input[negative] = encode(f, choices, float_of(sign));
    codes.rounds_to_zero[negative] = encode(f, down, float_of(1u | sign));
  }
  return codes;
}

/// FP32 bits of the largest finite value of a format whose exponents FP32 holds as normals.
NG_HD constexpr std::uint32_t largest_value_bits(const ElementFormat& f) {
  const std::uint32_t code = largest_code(f);
  const std::uint32_t mantissa = code & ((1u << f.mantissa_bits) - 1u);
  const int exponent = static_cast<int>(code >> f.mantissa_bits) - f.bias;
  return static_cast<std::uint32_t>(exponent + 127) << 23 | mantissa << (23 - f.mantissa_bits);
}

/// Packs count codes of four bits, one per byte, two to a byte; an odd last one gets a zero partner.
NG_HD void pack_nibbles(const std::uint8_t* codes, std::size_t count, std::uint8_t* packed) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {  // eight codes in a word, neighbours merged three times
    std::uint64_t word;
    __builtin_memcpy(&word, codes + i, sizeof word);
    word = (word | word >> 4) & 0x00ff00ff00ff00ffull;
    word = (word | word >> 8) & 0x0000ffff0000ffffull;
    const std::uint32_t bytes = static_cast<std::uint32_t>(word | word >> 16);
    __builtin_memcpy(packed + i / 2, &bytes, sizeof bytes);
  }
  for (; i + 1 < count; i += 2) packed[i / 2] = static_cast<std::uint8_t>(codes[i] | codes[i + 1] << 4);
  if (i < count) packed[i / 2] = codes[i];
}

/// The formats that the packed form serves.
NG_HD constexpr bool has_packed_encode(const ElementFormat& f) {
  return bit_count(f) <= 8 && f.sign == SignLayout::sign_magnitude && f.mantissa_bits >= 1;
}

/// What is known of all inputs of a call. `plain`: no NaN among inputs and products (factors are finite too), overflow
/// saturates, zeros keep their sign. `plain_exact_positive`: the same, but a scaled value that is a zero gives +0.
enum class Inputs : std::uint8_t { any, plain, plain_exact_positive };

/// Codes of already scaled values, given as FP32 bits; `draw` of `random_bits` bits is used by stochastic rounding.
template <class L, FormatId kFormat, Rounding kRounding, Inputs kInputs>
NG_HD typename L::U encode_branchless(const SpecialCodes& special, int random_bits, const typename L::U& bits,
                                      const typename L::U& draw) {
  using U = typename L::U;
  using I = typename L::I;
  constexpr ElementFormat f = kFormatOf<kFormat>;
  static_assert(has_packed_encode(f) && smallest_exponent(f) > -100);
  constexpr int kSmallestField = 127 + smallest_exponent(f);
  constexpr int kShift = 23 - f.mantissa_bits;
  constexpr std::uint32_t kSign = sign_mask(f);
  const U magnitude = bits & kMagnitudeMask;
  const U sign = (bits >> (31 - magnitude_bit_count(f))) & kSign;
  U code;
  if constexpr (kRounding == Rounding::nearest_even) {
    // An addition that leaves exactly the wanted bits rounds to nearest even by itself: add 2^(exponent of the kept
    // bits + 23), the exponent being that of the value or of the smallest binade, whichever is larger.
    // 1. Bound the magnitude: the largest value where overflow saturates, else a value that still overflows.
    constexpr std::uint32_t kBound =
        kInputs != Inputs::any ? largest_value_bits(f) : static_cast<std::uint32_t>(128 + largest_exponent(f)) << 23;
    const U bounded = lane_min(magnitude, kBound);
    // 2. The binade, not below the smallest.
    constexpr std::uint32_t kSmallest = static_cast<std::uint32_t>(kSmallestField) << 23;
    const U exponent = bounded & kInfinityBits;
    const U binade = lane_max(exponent, kSmallest);
    // 3. Round, take the kept bits, add the binade's codes.
    const U align = binade + (static_cast<std::uint32_t>(kShift) << 23);
    const U kept = lane_bits(lane_add(lane_float(bounded), lane_float(align))) - align;
    code = kept + ((binade - kSmallest) >> kShift);
  } else {
    const U field = magnitude >> 23;
    const I above = lane_signed(field) - kSmallestField;
    const I binade = select(above > 0, above, I{});
    const U lost = lane_unsigned(binade - above) + static_cast<std::uint32_t>(kShift);
    const U shift = lane_min(lost, 25u);
    // FP32 subnormals get a leading one that they do not have: they are far below every format's values.
    const U significand = (magnitude & 0x007fffffu) | 0x00800000u;
    const U floor = significand >> shift;
    U up;
    if constexpr (kRounding == Rounding::stochastic) {
      const U rest = significand - (floor << shift);
      if (random_bits == 32) {
        // The 32-bit fraction, by a left shift or a right one, carries where it is above the draw's complement.
        const I left = 32 - lane_signed(lost);
        const U up_by = lane_unsigned(select(left > 0, left, I{}));
        const U down_by = lane_min(lane_unsigned(select(left < 0, -left, I{})), 31u);
        const U fraction = (rest << up_by) >> down_by;
        up = select(lane_signed(fraction ^ kSignBit) > lane_signed(draw ^ kMagnitudeMask), U{} + 1u, U{});
      } else {  // random_bits <= 16 <= kShift: the fraction is always a right shift
        const U down_wide = lost - static_cast<std::uint32_t>(random_bits);
        const U down = select(lane_signed(down_wide) > 31, U{} + 31u, down_wide);
        up = ((rest >> down) + draw) >> static_cast<std::uint32_t>(random_bits);
      }
    } else {
      const U half_bit = (significand >> (shift - 1u)) & 1u;
      if constexpr (kRounding == Rounding::toward_zero) {
        up = U{};
      } else if constexpr (kRounding == Rounding::nearest_away) {
        up = half_bit;
      } else {  // half_up: a negative tie goes toward zero
        const U below = significand & (((U{} + 1u) << (shift - 1u)) - 1u);
        up = select((below == 0u) & (sign != 0u), U{}, half_bit);
      }
    }
    code = (lane_unsigned(binade) << f.mantissa_bits) + floor + up;
  }
  if constexpr (kInputs != Inputs::any) {
    constexpr std::uint32_t kLargest = largest_code(f);
    const U bounded = kRounding == Rounding::nearest_even ? code : lane_min(code, kLargest);
    return bounded | (kInputs == Inputs::plain ? sign : select(magnitude == 0u, U{}, sign));
  }
  U result = code | sign;
  const U zero = select(magnitude == 0u, U{} + special.zero_input[1], U{} + special.rounds_to_zero[1]);
  result = select(result == kSign, zero, result);
  const U overflow = select(sign != 0u, U{} + special.overflow[1], U{} + special.overflow[0]);
  result = select(lane_signed(code) > static_cast<std::int32_t>(largest_code(f)), overflow, result);
  const U nan = select(sign != 0u, U{} + special.nan[1], U{} + special.nan[0]);
  return select(lane_signed(magnitude) > static_cast<std::int32_t>(kInfinityBits), nan, result);
}

#if defined(__GNUC__) && !defined(__CUDACC__)

namespace encode_span_detail {

struct OneFactor {
  float value;
  NG_HD float at(std::size_t) const { return value; }
  NG_HD EightLanes::F lanes(std::size_t) const { return EightLanes::F{} + value; }
};
struct FactorPerElement {
  const float* values;
  NG_HD float at(std::size_t i) const { return values[i]; }
  NG_HD EightLanes::F lanes(std::size_t i) const {
    EightLanes::F result;
    load_lanes(values + i, result);
    return result;
  }
};

}  // namespace encode_span_detail

/// codes[i] = code of x[i] * factor (one FP32 multiply); factors are not negative. draws: one per element, of an
/// unsigned type that holds random_bits, for stochastic rounding, else unused.
template <FormatId kFormat, Rounding kRounding, Inputs kInputs, class Factor, class Draw>
NG_HD void encode_span(const SpecialCodes& special, int random_bits, const float* x, const Factor& factor,
                       const Draw* draws, std::uint8_t* codes, std::size_t count) {
  const SpecialCodes local = special;
  constexpr std::size_t kPack = 4 * kLanes;
  std::size_t i = 0;
  for (; i + kPack <= count; i += kPack) {
    std::uint32_t wide[kPack];
    for (std::size_t j = 0; j < kPack; j += kLanes) {
      EightLanes::F value;
      load_lanes(x + i + j, value);
      EightLanes::U draw{};
      if constexpr (kRounding == Rounding::stochastic) {
        std::uint32_t widened[kLanes];
        for (int lane = 0; lane < kLanes; ++lane) widened[lane] = draws[i + j + static_cast<std::size_t>(lane)];
        load_lanes(widened, draw);
      }
      EightLanes::U scaled = lane_bits(value * factor.lanes(i + j));
      if constexpr (kInputs == Inputs::any)  // a NaN made by the multiply takes the sign of x
        scaled = (scaled & kMagnitudeMask) | (lane_bits(value) & kSignBit);
      store_lanes(encode_branchless<EightLanes, kFormat, kRounding, kInputs>(local, random_bits, scaled, draw),
                  wide + j);
    }
    std::uint8_t narrow[kPack];  // a local array: the compiler narrows it without fear of aliases
    for (std::size_t j = 0; j < kPack; ++j) narrow[j] = static_cast<std::uint8_t>(wide[j]);
    __builtin_memcpy(codes + i, narrow, kPack);
  }
  for (; i < count; ++i) {
    const std::uint32_t draw = kRounding == Rounding::stochastic ? draws[i] : 0u;
    codes[i] = static_cast<std::uint8_t>(encode_branchless<OneLane, kFormat, kRounding, kInputs>(
        local, random_bits, bits_of(scaled_by_factor(x[i], factor.at(i))), draw));
  }
}

/// Largest magnitude bits of x[0..count): amax as FP32 bits, NaN and infinity included.
NG_HD std::uint32_t amax_span(const float* x, std::size_t count) {
  std::size_t i = 0;
  std::uint32_t largest = 0;
  if (count >= kLanes) {
    EightLanes::U lanes{};
    for (; i + kLanes <= count; i += kLanes) {
      EightLanes::F value;
      load_lanes(x + i, value);
      lanes = lane_max(lanes, lane_bits(value) & kMagnitudeMask);
    }
    for (int distance = 4; distance > 0; distance /= 2) {
      const EightLanes::I index = EightLanes::I{0, 1, 2, 3, 4, 5, 6, 7} ^ distance;
      lanes = lane_max(lanes, shuffle_lanes(lanes, index));
    }
    largest = lanes[0];
  }
  for (; i < count; ++i) {
    const std::uint32_t magnitude = magnitude_bits(x[i]);
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

#endif

}  // namespace ng
