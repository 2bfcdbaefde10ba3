// SPDX-License-Identifier: Apache-2.0
//
// Measures that compare scales, records and products, by their definitions and by other ways than the program's:
// distances between distributions from their quantiles, drifts from maps, products in long double. std only.
#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "blocks.hpp"

namespace ng_oracle {

/// mean over elements |log2 of the decode scale along rows - along columns|; x [rows, cols], `column` as quantizer of
/// the transpose. NaN where no element has both.
double row_column_scale_gap(const std::vector<float>& x, std::size_t rows, std::size_t cols, const BlockSpec& row,
                            const BlockSpec& column);

/// sum (D(T(Q x)) - D(Q x))^2 / sum x^2; E4M3 tiles 1 x T with power-of-two scales.
double transpose_error(const std::vector<float>& x, std::size_t rows, std::size_t cols, const BlockSpec& row,
                       const std::vector<std::size_t>& splits, bool published);

/// Scales by place.
using PlacedScales = std::map<long, float>;
struct Drift {
  double mean = 0;       ///< of |log2 now - log2 then| where both are positive and finite; NaN if nowhere
  double flip_rate = 0;  ///< share of common places whose bits differ; NaN if there are none
};
Drift scale_drift(const PlacedScales& now, const PlacedScales& then);

/// First Wasserstein distance of the log2 of positive finite scales, as the mean distance of equal quantiles.
double scale_distance(const std::vector<float>& a, const std::vector<float>& b);
/// Mean of log2 over positive finite scales.
double mean_log2(const std::vector<float>& scales);

/// sum over k of a[k] b[k], and of |a[k] b[k]|, in long double.
struct Dot {
  long double sum = 0, absolute = 0;
};
Dot dot(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace ng_oracle
