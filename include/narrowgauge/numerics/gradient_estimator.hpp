// SPDX-License-Identifier: Apache-2.0
//
// The differentiable gradient estimator (DGE; arXiv 2501.17116 equations 7, 8 and 22): the derivative of a smooth
// stand-in for rounding, by which the weight gradient is multiplied element by element. The forward pass keeps the hard
// quantizer. Any element format: its grid gives the intervals. Straight-through needs no arithmetic and is the default
// of a recipe.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/elementary.hpp"
#include "narrowgauge/numerics/encode.hpp"

namespace ng {

enum class EstimatorKind : std::uint8_t { straight_through, differentiable };

/// Factor of an element beyond the largest grid point, where the paper is silent: `zero`, the formula of the last
/// interval continued (`last_interval`), or `one` (straight-through, never normalized). MS-AMP's kernel has `zero`
/// above and `last_interval` below.
enum class EstimatorBeyond : std::uint8_t { zero, last_interval, one };

/// Whether factors are divided by their mean under the clip, so that a uniform weight keeps its gradient's size.
enum class EstimatorMean : std::uint8_t { as_published, normalized };

struct EstimatorSpec {
  EstimatorKind kind = EstimatorKind::straight_through;
  EstimatorBeyond beyond = EstimatorBeyond::zero;
  EstimatorMean mean = EstimatorMean::as_published;
  float k = 5.0f;     ///< at least 1; 1 is straight-through within the grid
  float clip = 3.0f;  ///< largest factor, before the division by the mean; positive, finite

  friend constexpr bool operator==(const EstimatorSpec&, const EstimatorSpec&) = default;
};

namespace estimator_detail {

/// (1/k) u^(1/k - 1), at most `clip`; u >= 0. FP64: each operation rounded once, exp and log of elementary.hpp.
NG_HD double clipped_power(double k, double clip, double u) {
  if (u == 0.0) return k == 1.0 ? (clip < 1.0 ? clip : 1.0) : clip;  // the pole
  const double inverse = div_rn(1.0, k);
  const double value = mul_rn(inverse, exp_rn(mul_rn(sub_rn(inverse, 1.0), log_rn(u))));
  return value < clip ? value : clip;
}

}  // namespace estimator_detail

/// Mean of the clipped derivative over a uniform interval: c u* + 1 - u*^(1/k), where the clip begins at
/// u* = (k c)^(-k/(k-1)). 0.5935 for k = 5, c = 3. FP64.
NG_HD double estimator_mean(const EstimatorSpec& spec) {
  const double k = static_cast<double>(spec.k);
  const double clip = static_cast<double>(spec.clip);
  const double product = mul_rn(k, clip);
  if (product <= 1.0 || k == 1.0) return clip < 1.0 ? clip : 1.0;
  const double log_u = mul_rn(-log_rn(product), div_rn(k, sub_rn(k, 1.0)));
  return add_rn(mul_rn(clip, exp_rn(log_u)), sub_rn(1.0, exp_rn(div_rn(log_u, k))));
}

/// What every element of a tensor shares.
struct EstimatorConstants {
  double mean = 1.0;      ///< factors are divided by this
  float largest = 0.0f;   ///< largest grid point
  float last_low = 0.0f;  ///< grid point below it
};

NG_HD EstimatorConstants estimator_constants(const ElementFormat& f, const EstimatorSpec& spec) {
  EstimatorConstants c;
  if (spec.mean == EstimatorMean::normalized) c.mean = estimator_mean(spec);
  c.largest = decode(f, largest_code(f));
  c.last_low = decode(f, largest_code(f) - 1u);
  return c;
}

/// Factor of the gradient of one weight, `x` the weight as the encoder sees it (scaled, before rounding): with [lo, hi]
/// the grid interval that holds |x| and d = hi - lo, min((1/k)|2(|x| - lo)/d - 1|^(1/k - 1), clip) / mean, computed in
/// FP64 and rounded once to FP32. Even in x; at a grid point both intervals give 1/k. NaN gives NaN. Straight-through
/// gives 1. Formats with a sign (any but e8m0).
NG_HD float estimator_factor(const ElementFormat& f, const EstimatorSpec& spec, const EstimatorConstants& constants,
                             float x) {
  if (spec.kind == EstimatorKind::straight_through) return 1.0f;
  const std::uint32_t bits = magnitude_bits(x);
  if (bits > kInfinityBits) return float_of(kQuietNanBits);
  const float magnitude = float_of(bits);
  float low = constants.last_low;
  float high = constants.largest;
  if (magnitude > constants.largest) {
    if (spec.beyond == EstimatorBeyond::zero) return 0.0f;
    if (spec.beyond == EstimatorBeyond::one) return 1.0f;
    if (bits == kInfinityBits) return spec.k == 1.0f ? static_cast<float>(div_rn(1.0, constants.mean)) : 0.0f;
  } else if (magnitude < constants.last_low) {
    CastChoices down;
    down.rounding = Rounding::toward_zero;
    const std::uint32_t code = encode(f, down, magnitude);
    low = decode(f, code);
    high = decode(f, code + 1u);
  }
  const double step = sub_rn(static_cast<double>(high), static_cast<double>(low));
  const double offset = sub_rn(static_cast<double>(magnitude), static_cast<double>(low));
  const double u = sub_rn(div_rn(mul_rn(2.0, offset), step), 1.0);
  const double value =
      estimator_detail::clipped_power(static_cast<double>(spec.k), static_cast<double>(spec.clip), u < 0.0 ? -u : u);
  return static_cast<float>(div_rn(value, constants.mean));
}

}  // namespace ng
