// SPDX-License-Identifier: Apache-2.0
//
// exp, exp2, log, sigmoid, rsqrt in FP32 and exp, log, log2, sin/cos, normal quantile in FP64, written on ieee_rn: library
// versions differ between hosts and devices, these do not. Accuracy (unit test against long double): FP32 within
// 2 units in the last place, FP64 within 4, over the ranges that the functions name.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng {

namespace elementary_detail {

/// value * 2^n with two exact factors, so that subnormal results round once at the end. |n| <= 252.
NG_HD float scale_by_power(float value, int n) {
  const int half = n / 2;
  return mul_rn(mul_rn(value, power_of_two(half)), power_of_two(n - half));
}

NG_HD double power_of_two_double(int n) {
  return __builtin_bit_cast(double, static_cast<std::uint64_t>(n + 1023) << 52);
}

}  // namespace elementary_detail

/// 2^x. Overflow gives infinity, underflow 0, NaN NaN.
NG_HD float exp2_rn(float x) {
  const float bounded = x > 200.0f ? 200.0f : x < -200.0f ? -200.0f : x;
  const float shifted = add_rn(bounded, 12582912.0f);  // 1.5 * 2^23: rounds to an integer
  const int n = static_cast<int>(bits_of(shifted) & 0x007fffffu) - 0x00400000;
  const float r = sub_rn(bounded, sub_rn(shifted, 12582912.0f));
  // 2^r on [-1/2, 1/2]: Taylor coefficients ln(2)^k / k!; the truncated term is below 2^-27.
  float p = 1.5252733804e-5f;
  p = fma_rn(p, r, 1.5403530393e-4f);
  p = fma_rn(p, r, 1.3333558146e-3f);
  p = fma_rn(p, r, 9.6181291076e-3f);
  p = fma_rn(p, r, 5.5504108665e-2f);
  p = fma_rn(p, r, 2.4022650696e-1f);
  p = fma_rn(p, r, 6.9314718056e-1f);
  p = fma_rn(p, r, 1.0f);
  const float result = elementary_detail::scale_by_power(p, n);
  return x == x ? result : x;
}

/// e^x. The product x * log2(e) is carried in two pieces.
NG_HD float exp_rn(float x) {
  const float bounded = x > 150.0f ? 150.0f : x < -150.0f ? -150.0f : x;
  const float shifted = fma_rn(bounded, 1.44269504f, 12582912.0f);
  const float whole = sub_rn(shifted, 12582912.0f);
  const int n = static_cast<int>(bits_of(shifted) & 0x007fffffu) - 0x00400000;
  float r = fma_rn(whole, -0.693145752f, bounded);  // ln 2 in two pieces (Cody and Waite)
  r = fma_rn(whole, -1.42860677e-6f, r);
  float p = 1.9841270e-4f;  // Taylor: 1/7! ... ; the truncated term is below 2^-27
  p = fma_rn(p, r, 1.3888889e-3f);
  p = fma_rn(p, r, 8.3333333e-3f);
  p = fma_rn(p, r, 4.1666668e-2f);
  p = fma_rn(p, r, 1.6666667e-1f);
  p = fma_rn(p, r, 5.0e-1f);
  p = fma_rn(p, r, 1.0f);
  p = fma_rn(p, r, 1.0f);
  const float result = elementary_detail::scale_by_power(p, n);
  return x == x ? result : x;
}

/// Natural logarithm of a positive number; 0 gives -infinity, negative numbers NaN.
NG_HD float log_rn(float x) {
  if (!(x > 0.0f)) return x == 0.0f ? float_of(kInfinityBits | kSignBit) : float_of(kQuietNanBits);
  if (bits_of(x) >= kInfinityBits) return x;
  int exponent = exponent_of_bits(bits_of(x));
  const std::uint32_t significand = significand_of_bits(bits_of(x));
  float m = float_of(0x3f800000u | (significand & 0x007fffffu));  // [1, 2)
  if (m > 1.41421354f) {
    m = mul_rn(m, 0.5f);
    ++exponent;
  }
  // log m = 2 atanh(s), s = (m-1)/(m+1); written as f - s*(f - R) to keep the leading term exact.
  const float f = sub_rn(m, 1.0f);
  const float s = div_rn(f, add_rn(f, 2.0f));
  const float z = mul_rn(s, s);
  float series = 0.22222222f;
  series = fma_rn(series, z, 0.28571429f);
  series = fma_rn(series, z, 0.40000001f);
  series = fma_rn(series, z, 0.66666669f);
  const float rest = mul_rn(z, series);  // 2 atanh(s) - 2s, over s
  const float half_square = mul_rn(mul_rn(0.5f, f), f);
  const float low = fma_rn(s, add_rn(half_square, rest), mul_rn(static_cast<float>(exponent), 1.42860677e-6f));
  const float high = mul_rn(static_cast<float>(exponent), 0.693145752f);
  return add_rn(high, sub_rn(f, sub_rn(half_square, low)));
}

/// 1 / (1 + e^-x).
NG_HD float sigmoid_rn(float x) {
  return div_rn(1.0f, add_rn(1.0f, exp_rn(-x)));
}

/// 1 / sqrt(x), two roundings.
NG_HD float rsqrt_rn(float x) {
  return div_rn(1.0f, sqrt_rn(x));
}

/// e^x for |x| <= 700.
NG_HD double exp_rn(double x) {
  const double shifted = fma_rn(x, 1.4426950408889634, 6755399441055744.0);
  const double whole = sub_rn(shifted, 6755399441055744.0);
  double r = fma_rn(whole, -0.693147180369123816490, x);
  r = fma_rn(whole, -1.90821492927058770002e-10, r);
  double p = 1.0;
  for (int k = 14; k >= 1; --k) p = fma_rn(mul_rn(p, r), div_rn(1.0, static_cast<double>(k)), 1.0);
  return mul_rn(p, elementary_detail::power_of_two_double(static_cast<int>(whole)));
}

/// A positive normal number as 2^exponent times a factor in (sqrt(1/2), sqrt(2)], and the factor's natural logarithm.
struct SplitLogarithm {
  int exponent;
  double log_factor;
};
NG_HD SplitLogarithm split_log_rn(double x) {
  const std::uint64_t bits = __builtin_bit_cast(std::uint64_t, x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double m = __builtin_bit_cast(double, (bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
  if (m > 1.4142135623730951) {
    m = mul_rn(m, 0.5);
    ++exponent;
  }
  const double s = div_rn(sub_rn(m, 1.0), add_rn(m, 1.0));
  const double z = mul_rn(s, s);
  double series = 0.0;
  for (int k = 23; k >= 3; k -= 2) series = fma_rn(series, z, div_rn(2.0, static_cast<double>(k)));
  return {exponent, fma_rn(mul_rn(series, z), s, mul_rn(2.0, s))};
}

/// Natural logarithm of a positive normal number.
NG_HD double log_rn(double x) {
  const SplitLogarithm split = split_log_rn(x);
  const double n = static_cast<double>(split.exponent);
  return add_rn(mul_rn(n, 0.693147180369123816490), fma_rn(n, 1.90821492927058770002e-10, split.log_factor));
}

/// Logarithm of a positive normal number to base 2; exact for powers of two.
NG_HD double log2_rn(double x) {
  const SplitLogarithm split = split_log_rn(x);
  return fma_rn(split.log_factor, 1.4426950408889634074, static_cast<double>(split.exponent));
}

struct SineCosine {
  double sine;
  double cosine;
};

/// sin and cos of x, |x| <= 10^6 (absolute error: pi/2 is carried in three pieces).
NG_HD SineCosine sine_cosine_rn(double x) {
  const double shifted = fma_rn(x, 0.63661977236758134308, 6755399441055744.0);
  const double whole = sub_rn(shifted, 6755399441055744.0);
  double r = fma_rn(whole, -1.57079632673412561417e+00, x);
  r = fma_rn(whole, -6.07710050630396597660e-11, r);
  r = fma_rn(whole, -2.02226624879595063154e-21, r);
  const double z = mul_rn(r, r);
  double s = 1.0;
  double c = 1.0;
  for (int k = 9; k >= 1; --k) {
    s = fma_rn(mul_rn(s, z), div_rn(-1.0, static_cast<double>((2 * k) * (2 * k + 1))), 1.0);
    c = fma_rn(mul_rn(c, z), div_rn(-1.0, static_cast<double>((2 * k - 1) * (2 * k))), 1.0);
  }
  s = mul_rn(s, r);
  const int quadrant = static_cast<int>(static_cast<std::int64_t>(whole) & 3);
  if (quadrant == 0) return {s, c};
  if (quadrant == 1) return {c, -s};
  if (quadrant == 2) return {-s, -c};
  return {-c, s};
}

/// Standard normal number from two 32-bit draws by Box and Muller: sqrt(-2 ln u) cos(2 pi v), u = (a + 1/2) / 2^32,
/// v = (b + 1/2) / 2^32.
NG_HD double normal_from_bits(std::uint32_t a, std::uint32_t b) {
  const double u = mul_rn(add_rn(static_cast<double>(a), 0.5), 2.3283064365386963e-10);
  const double v = mul_rn(add_rn(static_cast<double>(b), 0.5), 2.3283064365386963e-10);
  const double radius = sqrt_rn(mul_rn(-2.0, log_rn(u)));
  return mul_rn(radius, sine_cosine_rn(mul_rn(6.283185307179586477, v)).cosine);
}

}  // namespace ng
