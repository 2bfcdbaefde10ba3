// SPDX-License-Identifier: Apache-2.0
//
// Integer implementation of the exact numbers of exact.hpp. No floating-point operation of the machine decides a
// rounding: doubles are only taken apart (frexp) and put together (ldexp).
#include "exact.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace ng_oracle {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

int bit_length(Wide x) {
  const auto high = static_cast<std::uint64_t>(x >> 64);
  return high != 0 ? 64 + std::bit_width(high) : std::bit_width(static_cast<std::uint64_t>(x));
}

/// Drops `n` low bits; what was dropped is remembered in sticky.
void drop_bits(Exact& x, int n) {
  if (n <= 0) return;
  if (n >= 128) {
    x.sticky = x.sticky || x.magnitude != 0;
    x.magnitude = 0;
  } else {
    const Wide mask = (Wide{1} << n) - 1;
    x.sticky = x.sticky || (x.magnitude & mask) != 0;
    x.magnitude >>= n;
  }
  x.exponent += n;
}

float signed_zero(bool negative) {
  return negative ? -0.0F : 0.0F;
}

}  // namespace

std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  static_assert(sizeof bits == sizeof value);
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(std::uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

double round_to_grid(const Exact& input, int precision, int lowest, int highest) {
  Exact x = input;
  if (x.magnitude == 0 && !x.sticky) return x.negative ? -0.0 : 0.0;
  // Two spare bits below the kept ones: the half bit and room to tell "half" from "half and more".
  if (bit_length(x.magnitude) < 64 && x.exponent > -1000000) {
    const int up = 64 - bit_length(x.magnitude);
    x.magnitude <<= up;
    x.exponent -= up;
  }
  const int top = bit_length(x.magnitude) + x.exponent;  // value < 2^top
  int quantum = top - precision;
  if (quantum < lowest) quantum = lowest;
  drop_bits(x, quantum - 1 - x.exponent);  // one bit (the half) stays below the quantum
  const bool half = (x.magnitude & 1) != 0;
  Wide kept = x.magnitude >> 1;
  const bool odd = (kept & 1) != 0;
  if (half && (x.sticky || odd)) ++kept;
  const double value = std::ldexp(static_cast<double>(static_cast<std::uint64_t>(kept)), quantum);
  const double limit = std::ldexp(1.0, highest + 1);
  const double result = value >= limit ? std::numeric_limits<double>::infinity() : value;
  return x.negative ? -result : result;
}

float round_to_f32(const Exact& x) {
  return static_cast<float>(round_to_grid(x, 24, -149, 127));
}

float round_to_bf16(float x) {
  if (std::isnan(x) || std::isinf(x)) return x;
  return static_cast<float>(round_to_grid(exact_of(static_cast<double>(x)), 8, -133, 127));
}

Exact exact_of(double x) {
  Exact result;
  result.negative = std::signbit(x);
  if (x == 0) return result;
  int exponent = 0;
  const double fraction = std::frexp(std::fabs(x), &exponent);
  result.magnitude = static_cast<std::uint64_t>(std::ldexp(fraction, 53));
  result.exponent = exponent - 53;
  return result;
}

float f32_add(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return kNan;
  if (std::isinf(a) || std::isinf(b)) {
    if (std::isinf(a) && std::isinf(b) && std::signbit(a) != std::signbit(b)) return kNan;
    return std::isinf(a) ? a : b;
  }
  if (a == 0 && b == 0) return signed_zero(std::signbit(a) && std::signbit(b));
  if (a == 0) return b;
  if (b == 0) return a;
  Exact large = exact_of(static_cast<double>(a));
  Exact small = exact_of(static_cast<double>(b));
  if (std::fabs(a) < std::fabs(b)) {
    const Exact swap = large;
    large = small;
    small = swap;
  }
  // 53-bit magnitudes; lift the larger by 70 bits, then bring the smaller to its exponent.
  large.magnitude <<= 70;
  large.exponent -= 70;
  if (small.exponent >= large.exponent) {
    small.magnitude <<= small.exponent - large.exponent;
    small.exponent = large.exponent;
  } else {
    drop_bits(small, large.exponent - small.exponent);
  }
  Exact sum = large;
  if (large.negative == small.negative) {
    sum.magnitude = large.magnitude + small.magnitude;
    sum.sticky = small.sticky;
  } else {
    // large - (small + cut): take one more away and keep the rest of that unit as sticky.
    sum.magnitude = large.magnitude - small.magnitude - (small.sticky ? 1U : 0U);
    sum.sticky = small.sticky;
    if (sum.magnitude == 0 && !sum.sticky) return 0.0F;
  }
  return round_to_f32(sum);
}

float f32_sub(float a, float b) {
  return f32_add(a, std::isnan(b) ? b : -b);
}

float f32_mul(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return kNan;
  const bool negative = std::signbit(a) != std::signbit(b);
  if (std::isinf(a) || std::isinf(b)) {
    if (a == 0 || b == 0) return kNan;
    return negative ? -kInfinity : kInfinity;
  }
  if (a == 0 || b == 0) return signed_zero(negative);
  const Exact x = exact_of(static_cast<double>(a));
  const Exact y = exact_of(static_cast<double>(b));
  Exact product;
  product.negative = negative;
  product.magnitude = x.magnitude * y.magnitude;  // 106 bits
  product.exponent = x.exponent + y.exponent;
  return round_to_f32(product);
}

float f32_div(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return kNan;
  const bool negative = std::signbit(a) != std::signbit(b);
  if (std::isinf(a)) return std::isinf(b) ? kNan : (negative ? -kInfinity : kInfinity);
  if (std::isinf(b)) return signed_zero(negative);
  if (b == 0) return a == 0 ? kNan : (negative ? -kInfinity : kInfinity);
  if (a == 0) return signed_zero(negative);
  const Exact x = exact_of(static_cast<double>(a));
  const Exact y = exact_of(static_cast<double>(b));
  Exact quotient;
  quotient.negative = negative;
  const Wide numerator = x.magnitude << 70;  // 53 + 70 bits, so the quotient has at least 69
  quotient.magnitude = numerator / y.magnitude;
  quotient.sticky = numerator % y.magnitude != 0;
  quotient.exponent = x.exponent - 70 - y.exponent;
  return round_to_f32(quotient);
}

float f32_min(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return kNan;
  return a < b ? a : b;
}

}  // namespace ng_oracle
