// SPDX-License-Identifier: Apache-2.0
//
// The RMS norm of one row and its gradients in FP32: sums over the row, then what one element needs of them. Rows are
// anything with `row[i]`.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/elementary.hpp"
#include "narrowgauge/numerics/row_sums.hpp"

namespace ng {

/// From the row sum of squares of n elements: 1 / sqrt(mean + epsilon).
NG_HD float rms_norm_rstd(float sum_of_squares, float epsilon, std::int64_t n) {
  return rsqrt_rn(add_rn(div_rn(sum_of_squares, static_cast<float>(n)), epsilon));
}

/// The same from the row.
template <class X>
NG_HD float rms_norm_rstd_of(X x, float epsilon, std::int64_t n) {
  return rms_norm_rstd(dot_of_chains(x, x, n), epsilon, n);
}

/// One element of the result.
NG_HD float rms_norm_value(float x, float rstd, float gain) {
  return mul_rn(mul_rn(x, rstd), gain);
}

/// One step of a chain over the row whose sum, over n, is the `mean` of rms_norm_gradient.
NG_HD float rms_norm_mean_step(float sum, float x, float gain, float rstd, float dy) {
  return fma_rn(mul_rn(dy, gain), mul_rn(x, rstd), sum);
}

/// That mean, from the row.
template <class X, class Gain, class Dy>
NG_HD float rms_norm_mean_of(X x, Gain gain, float rstd, Dy dy, std::int64_t n) {
  return div_rn(dot_of_chains(ProductRow<Dy, Gain>{dy, gain}, ScaledRow<X>{x, rstd}, n), static_cast<float>(n));
}

/// One element of the gradient of x.
NG_HD float rms_norm_gradient(float x, float gain, float rstd, float dy, float mean) {
  return mul_rn(rstd, fma_rn(-mul_rn(x, rstd), mean, mul_rn(dy, gain)));
}

/// One step of the chain down the rows that is the gradient of a gain.
NG_HD float rms_norm_gain_step(float d_gain, float x, float rstd, float dy) {
  return fma_rn(dy, mul_rn(x, rstd), d_gain);
}

}  // namespace ng
