// SPDX-License-Identifier: Apache-2.0
//
// FP32 as bits: the vocabulary of everything that decides codes and scales in integer arithmetic.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/host_device.hpp"

namespace ng {

constexpr std::uint32_t kSignBit = 0x80000000u;
constexpr std::uint32_t kMagnitudeMask = 0x7fffffffu;
constexpr std::uint32_t kInfinityBits = 0x7f800000u;
constexpr std::uint32_t kQuietNanBits = 0x7fc00000u;
constexpr std::uint32_t kLargestFiniteBits = 0x7f7fffffu;
constexpr float kLargestFinite = 3.40282346638528859812e+38f;

NG_HD constexpr std::uint32_t bits_of(float value) {
  return __builtin_bit_cast(std::uint32_t, value);
}
NG_HD constexpr float float_of(std::uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}

NG_HD constexpr std::uint32_t magnitude_bits(float value) {
  return bits_of(value) & kMagnitudeMask;
}
NG_HD constexpr bool is_nan_bits(std::uint32_t bits) {
  return (bits & kMagnitudeMask) > kInfinityBits;
}
NG_HD constexpr bool is_finite_bits(std::uint32_t bits) {
  return (bits & kMagnitudeMask) < kInfinityBits;
}

/// 2^exponent as FP32, exact for -149 <= exponent <= 127; outside that range the caller has erred.
NG_HD constexpr float power_of_two(int exponent) {
  return exponent >= -126 ? float_of(static_cast<std::uint32_t>(exponent + 127) << 23)
                          : float_of(1u << (exponent + 149));
}

/// floor(log2(magnitude)) of a positive finite FP32 given by its bits, subnormals included.
NG_HD constexpr int exponent_of_bits(std::uint32_t magnitude) {
  if (magnitude >= 0x00800000u) return static_cast<int>(magnitude >> 23) - 127;
  int exponent = -150;
  for (std::uint32_t rest = magnitude; rest != 0; rest >>= 1) ++exponent;
  return exponent;
}

/// The 24-bit significand of a positive finite FP32, normalised to [2^23, 2^24), subnormals included.
NG_HD constexpr std::uint32_t significand_of_bits(std::uint32_t magnitude) {
  if (magnitude >= 0x00800000u) return (magnitude & 0x007fffffu) | 0x00800000u;
  std::uint32_t significand = magnitude;
  while (significand != 0 && significand < 0x00800000u) significand <<= 1;
  return significand;
}

}  // namespace ng
