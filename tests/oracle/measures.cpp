// SPDX-License-Identifier: Apache-2.0
//
// Measures of measures.hpp in long double.
#include "measures.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ng_oracle {
namespace {

using Real = long double;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Real square(Real x) {
  return x * x;
}

double ratio(Real a, Real b, double if_zero) {
  return b == 0 ? if_zero : static_cast<double>(a / b);
}

double relative_mse(const std::vector<float>& x, const std::vector<float>& d) {
  Real error = 0;
  Real power = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    error += square(Real{d[i]} - Real{x[i]});
    power += square(Real{x[i]});
  }
  return ratio(error, power, 0);
}

}  // namespace

Measures measure(const std::vector<float>& x, const Quantized& q, const BlockSpec& spec) {
  Real error = 0, power = 0, decoded_power = 0, dot = 0, shift = 0, absolute = 0;
  std::size_t nonzero = 0, underflowed = 0, saturated = 0;
  Measures m;
  const std::size_t tile_rows = spec.tile_rows == 0 ? q.rows : spec.tile_rows;
  const std::size_t tile_cols = spec.tile_cols == 0 ? q.cols : spec.tile_cols;
  for (std::size_t r = 0; r < q.rows; ++r) {
    for (std::size_t c = 0; c < q.cols; ++c) {
      const Real a = x[r * q.cols + c];
      const Real d = q.decoded[r * q.cols + c];
      error += square(d - a);
      power += square(a);
      decoded_power += square(d);
      dot += a * d;
      absolute += std::fabs(a);
      if (a > 0) shift += d - a;
      if (a < 0) shift -= d - a;
      m.max_abs_error = std::max(m.max_abs_error, static_cast<double>(std::fabs(d - a)));
      if (a != 0) {
        ++nonzero;
        if (d == 0) ++underflowed;
        m.max_rel_error = std::max(m.max_rel_error, static_cast<double>(std::fabs((d - a) / a)));
      }
      if (std::fabs(a) > Real{q.largest[r / tile_rows * q.scale_cols + c / tile_cols]}) ++saturated;
    }
  }
  m.rel_mse = ratio(error, power, 0);
  m.sqnr_db = power == 0   ? kNan
              : error == 0 ? std::numeric_limits<double>::infinity()
                           : static_cast<double>(-10 * std::log10(error / power));
  m.cosine = power == 0 || decoded_power == 0 ? kNan : static_cast<double>(dot / std::sqrt(decoded_power * power));
  m.bias = ratio(shift, absolute, 0);
  m.underflow_rate = ratio(static_cast<Real>(underflowed), static_cast<Real>(nonzero), kNan);
  m.saturation_rate = ratio(static_cast<Real>(saturated), static_cast<Real>(x.size()), kNan);

  Real sum = 0;
  std::size_t count = 0;
  m.scale_log2_min = m.scale_log2_max = kNan;
  for (const float s : q.scales) {
    if (!(s > 0) || std::isinf(s)) continue;
    const double log = static_cast<double>(std::log2(Real{s}));
    sum += log;
    m.scale_log2_min = count == 0 ? log : std::min(m.scale_log2_min, log);
    m.scale_log2_max = count == 0 ? log : std::max(m.scale_log2_max, log);
    ++count;
  }
  m.scale_log2_mean = ratio(sum, static_cast<Real>(count), kNan);
  return m;
}

DoubleQuantization double_quantization(const std::vector<float>& x, std::size_t rows, std::size_t cols,
                                       const BlockSpec& row, const BlockSpec& column) {
  const std::vector<float> once = quantize(x, rows, cols, row).decoded;
  const std::vector<float> original = transposed(x, rows, cols);
  const std::vector<float> twice = quantize(transposed(once, rows, cols), cols, rows, column).decoded;
  const std::vector<float> direct = quantize(original, cols, rows, column).decoded;
  Real error = 0, power = 0;
  std::size_t changed = 0;
  for (std::size_t i = 0; i < original.size(); ++i) {
    error += square(Real{twice[i]} - Real{direct[i]});
    power += square(Real{original[i]});
    if (twice[i] != direct[i]) ++changed;
  }
  DoubleQuantization result;
  result.error = ratio(error, power, 0);
  result.excess = relative_mse(original, twice) - relative_mse(original, direct);
  result.changed = ratio(static_cast<Real>(changed), static_cast<Real>(original.size()), kNan);
  return result;
}

}  // namespace ng_oracle
