// SPDX-License-Identifier: Apache-2.0
//
// The sum of unrounded_sum.hpp while many threads add to it: 32-bit digits in 64-bit words, so that no carry ever moves
// from word to word and sums of parts are sums of words, in any order.
#pragma once

#include <cmath>
#include <cstdint>

#include "narrowgauge/numerics/host_device.hpp"
#include "narrowgauge/numerics/unrounded_sum.hpp"

namespace ng {

/// Plain data; zero bytes are a sum of nothing. Terms: doubles below 2^512 in magnitude (sums of products of FP32
/// numbers are), infinities and NaN. Up to 2^29 terms.
struct SumLimbs {
  static constexpr int kDigits = 52;  ///< of 32 bits from 2^-1074 on, two's complement each: 50 for a term, and room
  static constexpr int kNan = kDigits, kPlusInfinity = kDigits + 1, kMinusInfinity = kDigits + 2;  ///< counts
  static constexpr int kWords = kDigits + 3;
  unsigned long long word[kWords];

  NG_HD void clear() {
    for (int i = 0; i < kWords; ++i) word[i] = 0;
  }

  NG_HD void add(double value) {
    const auto bits = __builtin_bit_cast(std::uint64_t, value);
    const bool negative = (bits >> 63) != 0;
    const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
    unsigned long long significand = bits & ((std::uint64_t{1} << 52) - 1);
    if (exponent == 0x7ff) {
      word[significand != 0 ? kNan : negative ? kMinusInfinity : kPlusInfinity] += 1;
      return;
    }
    if (exponent != 0) significand |= 1ull << 52;
    const int shift = exponent == 0 ? 0 : exponent - 1;
    const int digit = shift / 32;
    const int offset = shift % 32;
    const unsigned long long low = (significand & 0xffffffffull) << offset;  // below 2^63
    const unsigned long long high = (significand >> 32) << offset;           // below 2^52
    add_digit(digit, low & 0xffffffffull, negative);
    add_digit(digit + 1, (low >> 32) + (high & 0xffffffffull), negative);
    add_digit(digit + 2, high >> 32, negative);
  }

 private:
  NG_HD void add_digit(int digit, unsigned long long value, bool negative) {
    word[digit] += negative ? ~value + 1 : value;
  }
};

/// The same sum for further use; host only.
inline UnroundedSum unrounded(const SumLimbs& limbs) {
  UnroundedSum sum;
  for (int i = 0; i < SumLimbs::kDigits; ++i) {
    const auto digit = static_cast<std::int64_t>(limbs.word[i]);
    if (digit == 0) continue;
    const int exponent = 32 * i - 1074;
    sum += std::ldexp(static_cast<double>(digit >> 32), exponent + 32);  // both halves exact
    sum += std::ldexp(static_cast<double>(digit & 0xffffffff), exponent);
  }
  if (limbs.word[SumLimbs::kNan] != 0) sum += std::nan("");
  if (limbs.word[SumLimbs::kPlusInfinity] != 0) sum += HUGE_VAL;
  if (limbs.word[SumLimbs::kMinusInfinity] != 0) sum += -HUGE_VAL;
  return sum;
}

}  // namespace ng
