// SPDX-License-Identifier: Apache-2.0
//
// The estimator by its definition.
#include "estimator.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ng_oracle {

long double dge_mean(const EstimatorChoices& c) {
  if (c.k == 1 || c.k * c.clip <= 1) return std::min(1.0L, c.clip);
  // The antiderivative of (1/k) u^(1/k-1) is u^(1/k); the clip holds below `from`.
  const long double from = std::pow(c.k * c.clip, -c.k / (c.k - 1));
  return c.clip * from + (1 - std::pow(from, 1 / c.k));
}

long double dge_factor(const Format& f, const EstimatorChoices& c, float x) {
  if (std::isnan(x)) return std::numeric_limits<long double>::quiet_NaN();
  const double magnitude = std::fabs(static_cast<double>(x));
  if (magnitude > f.largest) {
    if (c.beyond == Beyond::zero) return 0;
    if (c.beyond == Beyond::one) return 1;
  }
  // The interval: two neighbours of the table; the last two for what lies beyond.
  std::size_t high = 1;
  while (high + 1 < f.magnitudes.size() && f.magnitudes[high] < magnitude) ++high;
  const long double lo = f.magnitudes[high - 1];
  const long double hi = f.magnitudes[high];
  const long double u = std::fabs(2 * (static_cast<long double>(magnitude) - lo) / (hi - lo) - 1);
  long double factor = c.k == 1 ? 1 : std::pow(u, 1 / c.k - 1) / c.k;  // u = 0: infinity, clipped below
  factor = std::min(factor, c.clip);
  return c.normalize ? factor / dge_mean(c) : factor;
}

}  // namespace ng_oracle
