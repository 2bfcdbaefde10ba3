// SPDX-License-Identifier: Apache-2.0
//
// Outlier clamping and compensation (OCC; arXiv 2501.17116 equation 9 and section 3.2): values beyond two quantiles are
// clamped to them, what they lose is a sparse residual in a wider format. Two-sided on signed values. Sorting, memory
// and sparse layout are the backend's; here is what decides bits.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng {

/// A value's place in the order of a sort, as an unsigned integer: ascending numbers, -0 before +0, infinities at the
/// ends.
NG_HD constexpr std::uint32_t sort_key(float value) {
  const std::uint32_t bits = bits_of(value);
  return (bits & kSignBit) != 0 ? ~bits : bits | kSignBit;
}
NG_HD constexpr float value_of_sort_key(std::uint32_t key) {
  return float_of((key & kSignBit) != 0 ? key & kMagnitudeMask : ~key);
}

/// Ranks, in `count` >= 1 sorted values, of the two bounds: floor((1 - quantile) * count) and floor(quantile * count),
/// each operation rounded to FP64 (MS-AMP's int((1-a)*H), int(a*H)). 20 and 2027 for 0.99 of 2048.
struct OutlierRanks {
  std::int64_t low;
  std::int64_t high;
};
NG_HD OutlierRanks outlier_ranks(double quantile, std::int64_t count) {
  const double n = static_cast<double>(count);
  const std::int64_t low = static_cast<std::int64_t>(mul_rn(sub_rn(1.0, quantile), n));
  const std::int64_t high = static_cast<std::int64_t>(mul_rn(quantile, n));
  return {low < count ? low : count - 1, high < count ? high : count - 1};
}

/// The key of rank `rank` (0: the smallest) of `count` > rank keys, key(i) the i-th in any order: the bits of the
/// answer one after the other, from the highest, each by a count of the keys that agree so far.
template <class Keys>
NG_HD std::uint32_t key_at_rank(std::int64_t count, std::int64_t rank, const Keys& key) {
  std::uint32_t answer = 0;
  for (int bit = 31; bit >= 0; --bit) {
    std::int64_t below = 0;
    for (std::int64_t i = 0; i < count; ++i) below += key(i) >> bit == answer >> bit ? 1 : 0;
    if (rank < below) continue;
    rank -= below;
    answer |= 1u << bit;
  }
  return answer;
}

/// Bounds of one scope. A scope that holds a NaN is not clamped: its bounds are the infinities.
struct OutlierBounds {
  float low = float_of(kInfinityBits | kSignBit);
  float high = float_of(kInfinityBits);
};

NG_HD float clamp_outlier(const OutlierBounds& bounds, float x) {
  return x > bounds.high ? bounds.high : x < bounds.low ? bounds.low : x;
}
NG_HD bool is_outlier(const OutlierBounds& bounds, float x) {
  return x > bounds.high || x < bounds.low;
}

constexpr FormatId residual_format(OutlierResidual residual) {
  return residual == OutlierResidual::e4m3   ? FormatId::e4m3
         : residual == OutlierResidual::e5m2 ? FormatId::e5m2
                                             : FormatId::bf16;
}

/// Code of an outlier's residual: fp32(x - clamped) to the residual's format, nearest even, without a scale; overflow
/// saturates. Where x and its bound have one sign and differ by at most a factor of 2 the difference is exact.
NG_HD std::uint32_t residual_code(const ElementFormat& format, const OutlierBounds& bounds, float x) {
  return encode(format, CastChoices{}, sub_rn(x, clamp_outlier(bounds, x)));
}

/// One term of the compensation product: fma(residual, weight, sum).
NG_HD float add_compensation(float sum, float residual, float weight) {
  return fma_rn(residual, weight, sum);
}

}  // namespace ng
