// SPDX-License-Identifier: Apache-2.0
//
// The correctly rounded dot product: products are summed as integers of 2,048 bits that span every product of six FP32
// numbers, scales multiply the sum of the values that share them, and one rounding ends it. For the host.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "narrowgauge/numerics/tensor_core_product.hpp"

namespace ng {

namespace exact_detail {
__extension__ typedef unsigned __int128 Wide;
}

/// A non-negative integer times 2^kLowest.
class FixedPoint {
  using Wide = exact_detail::Wide;

 public:
  static constexpr int kWords = 32;
  static constexpr int kLowest = -960;  // six factors of 2^-149 and room; 2^1088 above

  void clear() { words_.fill(0); }

  /// Adds value * 2^exponent.
  void add(std::uint64_t value, int exponent) {
    const int at = exponent - kLowest;
    const Wide shifted = static_cast<Wide>(value) << (at % 64);
    auto word = static_cast<std::size_t>(at / 64);
    Wide carry = shifted;
    while (carry != 0) {
      const Wide sum = static_cast<Wide>(words_[word]) + static_cast<std::uint64_t>(carry);
      words_[word++] = static_cast<std::uint64_t>(sum);
      carry = (carry >> 64) + (sum >> 64);
    }
  }

  void subtract(const FixedPoint& other) {  // other <= this
    std::uint64_t borrow = 0;
    for (std::size_t i = 0; i < kWords; ++i) {
      const Wide wanted = static_cast<Wide>(other.words_[i]) + borrow;
      borrow = wanted > words_[i] ? 1 : 0;
      words_[i] -= static_cast<std::uint64_t>(wanted);
    }
  }

  /// Adds other * factor * 2^exponent.
  void add_scaled(const FixedPoint& other, std::uint64_t factor, int exponent) {
    for (std::size_t i = 0; i < kWords; ++i) {
      if (other.words_[i] == 0) continue;
      const Wide product = static_cast<Wide>(other.words_[i]) * factor;
      const int at = kLowest + static_cast<int>(i) * 64 + exponent;
      if (static_cast<std::uint64_t>(product) != 0) add_or_cut(static_cast<std::uint64_t>(product), at);
      if ((product >> 64) != 0) add_or_cut(static_cast<std::uint64_t>(product >> 64), at + 64);
    }
  }

  bool less_than(const FixedPoint& other) const {
    return std::lexicographical_compare(words_.rbegin(), words_.rend(), other.words_.rbegin(), other.words_.rend());
  }

  /// Rounded to nearest even to `precision` bits, at most those of a type with this smallest normal exponent, as FP32
  /// magnitude bits.
  std::uint32_t rounded(int precision, int smallest_exponent) const {
    int top = kWords - 1;
    while (top >= 0 && words_[static_cast<std::size_t>(top)] == 0) --top;
    if (top < 0) return 0;
    const int highest = top * 64 + accumulator_detail::highest_bit(words_[static_cast<std::size_t>(top)]);
    const int last = std::max(highest + kLowest, smallest_exponent) - (precision - 1) - kLowest;
    std::uint64_t kept = 0;
    for (int i = highest; i >= last; --i) kept = kept * 2 + (bit(i) ? 1 : 0);
    bool rest = false;
    for (int i = 0; i < last - 1 && !rest; ++i) rest = bit(i);
    if (bit(last - 1) && (rest || (kept & 1) != 0)) ++kept;
    const auto sum = static_cast<std::int64_t>(kept);  // at most 25 bits: exact from here
    return accumulator_detail::rounded_sum(sum, last + kLowest, StepResult::fp32_toward_zero, 24);
  }

 private:
  bool bit(int i) const { return (words_[static_cast<std::size_t>(i / 64)] >> (i % 64) & 1) != 0; }
  /// Low words that a negative exponent takes below the lowest bit are zero: sums are whole multiples of what they
  /// hold.
  void add_or_cut(std::uint64_t value, int exponent) {
    if (exponent < kLowest) {
      value >>= kLowest - exponent;
      exponent = kLowest;
    }
    add(value, exponent);
  }

  std::array<std::uint64_t, kWords> words_{};
};

/// What IEEE 754 says of a product of several factors, and its exact value.
struct ScaleFactors {
  bool nan = false, infinite = false, zero = false, negative = false;
  std::uint64_t significand[2] = {1, 1};  ///< of up to two factors each
  int exponent = 0;
  int count = 0;

  void multiply(float value) {
    const std::uint32_t bits = bits_of(value);
    const AlignedNumber n = aligned_number(bits, -126);
    nan = nan || n.nan || (n.infinite && zero) || (infinite && n.significand == 0 && !n.infinite && !n.nan);
    infinite = infinite || n.infinite;
    zero = zero || (n.significand == 0 && !n.infinite && !n.nan);
    negative = negative != n.negative;
    significand[count++ / 2] *= n.significand;
    exponent += n.exponent - 23;
  }
};

/// Sum of the products of one element, with IEEE 754's specials; an exact sum of zero is +0.
class ExactProduct {
 public:
  void start() {
    for (FixedPoint* sum : {&positive_, &negative_}) sum->clear();
    nan_ = plus_ = minus_ = false;
  }

  /// Products of `count` values that share their scales.
  void add(const float* a, const float* b, std::int64_t count, const ScaleFactors& scales) {
    block_positive_.clear();
    block_negative_.clear();
    for (std::int64_t k = 0; k < count; ++k) {
      const AlignedNumber x = aligned_number(bits_of(a[k]), -126), y = aligned_number(bits_of(b[k]), -126);
      const std::uint64_t product = static_cast<std::uint64_t>(x.significand) * y.significand;
      const bool minus = (x.negative != y.negative) != scales.negative;
      if (x.nan || y.nan || x.infinite || y.infinite || scales.nan || scales.infinite) {
        const bool infinite = x.infinite || y.infinite || scales.infinite;
        const bool zero = (x.significand == 0 && !x.infinite) || (y.significand == 0 && !y.infinite) || scales.zero;
        if (x.nan || y.nan || scales.nan || (infinite && zero))
          nan_ = true;
        else
          (minus ? minus_ : plus_) = true;
      } else if (product != 0 && !scales.zero) {
        (minus ? block_negative_ : block_positive_).add(product, x.exponent + y.exponent - 46);
      }
    }
    if (scales.nan || scales.infinite || scales.zero) return;
    add_block(block_positive_, scales, positive_);
    add_block(block_negative_, scales, negative_);
  }

  /// In `output`, as an FP32 number.
  float result(ProductOutput output) {
    if (nan_ || (plus_ && minus_))
      return output_value(output, output == ProductOutput::f32 ? kTensorCoreNanBits : 0x7fffu);
    if (plus_ || minus_) return float_of(kInfinityBits | (minus_ ? kSignBit : 0u));
    const bool minus = positive_.less_than(negative_);
    FixedPoint& larger = minus ? negative_ : positive_;
    larger.subtract(minus ? positive_ : negative_);
    const bool half = output == ProductOutput::f16;
    std::uint32_t magnitude = larger.rounded(output == ProductOutput::bf16 ? 8 : half ? 11 : 24, half ? -14 : -126);
    if (half && magnitude > bits_of(65504.0f)) magnitude = kInfinityBits;
    return float_of(magnitude == 0 ? 0u : magnitude | (minus ? kSignBit : 0u));
  }

 private:
  static void add_block(const FixedPoint& block, const ScaleFactors& scales, FixedPoint& to) {
    FixedPoint scaled;
    scaled.add_scaled(block, scales.significand[0], 0);
    to.add_scaled(scaled, scales.significand[1], scales.exponent);
  }

  FixedPoint positive_, negative_, block_positive_, block_negative_;
  bool nan_ = false, plus_ = false, minus_ = false;
};

}  // namespace ng
