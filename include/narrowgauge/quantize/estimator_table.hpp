// SPDX-License-Identifier: Apache-2.0
//
// The factors of numerics/gradient_estimator.hpp without its exponential, logarithm and divisions: 14 FP64 operations
// instead of about 150, and the same bits. A power of a number near a table's point is a short series; where its last
// bits leave the FP32 rounding in doubt, or an input is rare, the caller is sent to estimator_factor (Ziv's strategy).
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/gradient_estimator.hpp"

namespace ng {

constexpr int kEstimatorPoints = 16;   ///< of the binade [1, 2)
constexpr int kEstimatorBinades = 32;  ///< u in [2^-31, 2)
constexpr int kEstimatorTerms = 9;     ///< of the series

/// What every element of a tensor shares. Plain data.
struct EstimatorTable {
  double inverse[kEstimatorPoints];  ///< 1 / point
  double power[kEstimatorPoints];    ///< (1/k) point^(1/k - 1) / mean
  double binade[kEstimatorBinades];  ///< 2^((1/k - 1) e), e = index - 31
  double series[kEstimatorTerms];    ///< binomial coefficients of 1/k - 1
  double clip_low, clip_high;        ///< clip / mean, less and more than what is in doubt
  float clipped;                     ///< the factor where the clip holds
  float beyond;                      ///< above `largest`, NaN where the caller decides
  float largest;
  std::uint32_t smallest_field;  ///< FP32 exponent field of the format's smallest binade
  int mantissa_bits;
};

/// What the table serves: formats of sign and magnitude with subnormals and at least one mantissa bit; k up to 1000, so
/// that no factor is subnormal.
NG_HD constexpr bool has_estimator_table(const ElementFormat& f, const EstimatorSpec& spec) {
  return spec.kind == EstimatorKind::differentiable && f.sign == SignLayout::sign_magnitude && f.subnormals &&
         f.mantissa_bits >= 1 && bit_count(f) <= 8 && spec.k <= 1000.0f;
}

inline EstimatorTable estimator_table(const ElementFormat& f, const EstimatorSpec& spec,
                                      const EstimatorConstants& constants) {
  EstimatorTable t{};
  const double inverse_k = div_rn(1.0, static_cast<double>(spec.k));
  const double exponent = sub_rn(inverse_k, 1.0);
  for (int i = 0; i < kEstimatorPoints; ++i) {
    const double point = 1.0 + (2.0 * i + 1.0) / (2.0 * kEstimatorPoints);
    t.inverse[i] = div_rn(1.0, point);
    t.power[i] = div_rn(mul_rn(inverse_k, exp_rn(mul_rn(exponent, log_rn(point)))), constants.mean);
  }
  for (int i = 0; i < kEstimatorBinades; ++i)
    t.binade[i] = exp_rn(mul_rn(mul_rn(exponent, static_cast<double>(i + 1 - kEstimatorBinades)), log_rn(2.0)));
  t.series[0] = 1.0;
  for (int n = 1; n < kEstimatorTerms; ++n)
    t.series[n] = div_rn(mul_rn(t.series[n - 1], sub_rn(exponent, static_cast<double>(n - 1))), static_cast<double>(n));
  const double clip = div_rn(static_cast<double>(spec.clip), constants.mean);
  t.clip_low = clip * (1.0 - 0x1p-38);
  t.clip_high = clip * (1.0 + 0x1p-38);
  t.clipped = static_cast<float>(clip);
  t.beyond = spec.beyond == EstimatorBeyond::zero  ? 0.0f
             : spec.beyond == EstimatorBeyond::one ? 1.0f
                                                   : float_of(kQuietNanBits);
  t.largest = constants.largest;
  t.smallest_field = static_cast<std::uint32_t>(127 + smallest_exponent(f));
  t.mantissa_bits = f.mantissa_bits;
  return t;
}

/// The factor of x into `factor` and true, or false where estimator_factor must be asked. `lookup` is `t` too, in
/// memory that is fast to look up in.
/// 1. |x| in units of its grid step, all of which are powers of two, and f its exact distance from the nearest integer:
///    |u| = 1 - 2 f, rounded once as there (2 offset / step is exact there).
/// 2. |u| = point (1 + r) 2^e with |r| <= 1/33: u^(1/k - 1) is the product of two table entries and nine terms of the
///    binomial series, whose rest is below r^9 < 2^-45. With the rounding of 14 operations: within 2^-44.
/// 3. estimator_factor's own value, from FP64 exp and log within 4 units of their last place and |log u| < 22, is
/// within
///    2^-45. So both round alike where the bits below FP32 are further than 2^-40 from a tie, and from the clip.
NG_HD bool estimator_factor_of_table(const EstimatorTable& t, const EstimatorTable& lookup, float x, float& factor) {
  const std::uint32_t bits = magnitude_bits(x);
  if (bits > bits_of(t.largest)) {
    factor = t.beyond;
    return bits <= kInfinityBits && t.beyond == t.beyond;
  }
  std::uint32_t field = bits >> 23;
  field = field > t.smallest_field ? field : t.smallest_field;
  const float steps =
      mul_rn(float_of(bits), float_of((254u - field + static_cast<std::uint32_t>(t.mantissa_bits)) << 23));
  const float nearest = sub_rn(add_rn(steps, 8388608.0f), 8388608.0f);  // steps < 2^22: 2^23 leaves no fraction
  const float distance = float_of(magnitude_bits(sub_rn(steps, nearest)));
  const double u = fma_rn(-2.0, static_cast<double>(distance), 1.0);
  const std::uint64_t u_bits = __builtin_bit_cast(std::uint64_t, u);
  const int binade = static_cast<int>(u_bits >> 52) - 1023 + kEstimatorBinades - 1;
  if (binade < 0) return false;
  const std::uint32_t point = static_cast<std::uint32_t>(u_bits >> 48) & 15u;
  const double m = __builtin_bit_cast(double, (u_bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
  const double r = fma_rn(m, lookup.inverse[point], -1.0);
  double series = t.series[kEstimatorTerms - 1];
  for (int n = kEstimatorTerms - 2; n >= 0; --n) series = fma_rn(series, r, t.series[n]);
  const double value = mul_rn(mul_rn(lookup.power[point], lookup.binade[binade]), series);
  if (value >= t.clip_high) {
    factor = t.clipped;
    return true;
  }
  factor = static_cast<float>(value);
  // Bits below FP32's last: far from a tie, 2^28 of 2^29.
  const std::uint32_t below = static_cast<std::uint32_t>(__builtin_bit_cast(std::uint64_t, value)) & 0x1fffffffu;
  constexpr std::uint32_t kDoubt = 1u << 13;  // 2^-39 of a number in [1, 2)
  return value <= t.clip_low && below - (0x10000000u - kDoubt) > 2u * kDoubt;
}

}  // namespace ng
