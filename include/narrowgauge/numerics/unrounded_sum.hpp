// SPDX-License-Identifier: Apache-2.0
//
// A sum of doubles without rounding: an integer multiple of 2^-1074 wide enough for every double. The order and the
// grouping of the terms change no bit, so parts (rows, micro-batches, ranks) add up to the whole however it was cut.
// Host only.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace ng {

/// Equal sums are equal bytes. Up to 2^77 terms.
class UnroundedSum {
 public:
  constexpr UnroundedSum() = default;
  UnroundedSum(double value) { *this += value; }  // NOLINT(google-explicit-constructor): a sum of one term

  UnroundedSum& operator+=(double value) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    const bool negative = (bits >> 63) != 0;
    const auto exponent = static_cast<int>(bits >> 52 & 0x7ff);
    std::uint64_t significand = bits & ((std::uint64_t{1} << 52) - 1);
    if (exponent == 0x7ff) {
      specials_ |= significand != 0 ? kNan : negative ? kMinusInfinity : kPlusInfinity;
      return *this;
    }
    if (exponent != 0) significand |= std::uint64_t{1} << 52;
    const int shift = exponent == 0 ? 0 : exponent - 1;
    const auto word = static_cast<std::size_t>(shift / 64);
    const int offset = shift % 64;
    const std::uint64_t low = significand << offset;
    const std::uint64_t high = offset == 0 ? 0 : significand >> (64 - offset);
    if (negative) {
      subtract_at(word, low);
      subtract_at(word + 1, high);
    } else {
      add_at(word, low);
      add_at(word + 1, high);
    }
    return *this;
  }

  UnroundedSum& operator+=(const UnroundedSum& other) {
    std::uint64_t carry = 0;
    for (std::size_t i = 0; i < kWords; ++i) {
      const std::uint64_t sum = words_[i] + carry;
      const bool first = sum < carry;
      words_[i] = sum + other.words_[i];
      carry = first || words_[i] < sum ? 1 : 0;
    }
    specials_ |= other.specials_;
    return *this;
  }

  /// Rounded once, to nearest even. NaN for a NaN or infinities of both signs among the terms; a sum of zero is +0.
  double value() const {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const bool both = (specials_ & kPlusInfinity) != 0 && (specials_ & kMinusInfinity) != 0;
    if ((specials_ & kNan) != 0 || both) return std::numeric_limits<double>::quiet_NaN();
    if (specials_ != 0) return (specials_ & kPlusInfinity) != 0 ? kInfinity : -kInfinity;
    const bool negative = words_[kWords - 1] >> 63 != 0;
    std::array<std::uint64_t, kWords> magnitude = words_;
    if (negative) {
      bool carry = true;
      for (std::uint64_t& word : magnitude) {
        word = ~word + (carry ? 1 : 0);
        carry = carry && word == 0;
      }
    }
    std::size_t top = kWords - 1;
    while (top > 0 && magnitude[top] == 0) --top;
    if (magnitude[top] == 0) return 0.0;
    const int highest = static_cast<int>(top) * 64 + 63 - std::countl_zero(magnitude[top]);
    const int lowest = highest > 52 ? highest - 52 : 0;
    std::uint64_t kept = 0;
    for (int i = highest; i >= lowest; --i) kept = kept << 1 | bit(magnitude, i);
    if (lowest > 0 && bit(magnitude, lowest - 1) != 0) {
      bool up = (kept & 1) != 0;  // a tie goes to even
      for (int i = 0; i < lowest - 1 && !up; ++i) up = bit(magnitude, i) != 0;
      if (up) ++kept;
    }
    const double result = std::ldexp(static_cast<double>(kept), lowest - 1074);
    return negative ? -result : result;
  }
  operator double() const { return value(); }  // NOLINT(google-explicit-constructor): it stands for its value

 private:
  static constexpr std::size_t kWords = 34;  // 2,098 bits of a double's range, a sign and room
  static constexpr std::uint64_t kNan = 1, kPlusInfinity = 2, kMinusInfinity = 4;

  static std::uint64_t bit(const std::array<std::uint64_t, kWords>& words, int i) {
    return words[static_cast<std::size_t>(i / 64)] >> (i % 64) & 1;
  }
  void add_at(std::size_t word, std::uint64_t value) {
    while (value != 0 && word < kWords) {
      words_[word] += value;
      value = words_[word++] < value ? 1 : 0;
    }
  }
  void subtract_at(std::size_t word, std::uint64_t value) {
    while (value != 0 && word < kWords) {
      const bool borrow = words_[word] < value;
      words_[word++] -= value;
      value = borrow ? 1 : 0;
    }
  }

  std::array<std::uint64_t, kWords> words_{};  // two's complement, lowest first
  std::uint64_t specials_ = 0;
};

}  // namespace ng
