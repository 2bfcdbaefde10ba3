// SPDX-License-Identifier: Apache-2.0
//
// Measures of record_measures.hpp.
#include "record_measures.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "conversions.hpp"

namespace ng_oracle {
namespace {

using Real = long double;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

bool usable(float scale) {
  return scale > 0 && !std::isinf(scale);
}

Real log2_of(float scale) {
  return std::log2(Real{scale});
}

// log2 of the decode scale of every element; NaN where it has none.
std::vector<Real> element_logs(const Quantized& q, const BlockSpec& spec) {
  const std::size_t tile_rows = spec.tile_rows == 0 ? q.rows : spec.tile_rows;
  const std::size_t tile_cols = spec.tile_cols == 0 ? q.cols : spec.tile_cols;
  std::vector<Real> logs;
  for (std::size_t r = 0; r < q.rows; ++r) {
    for (std::size_t c = 0; c < q.cols; ++c) {
      const float scale = q.scales[r / tile_rows * q.scale_cols + c / tile_cols];
      const float whole = q.two_level ? q.tensor_scale : 1.0F;
      logs.push_back(usable(scale) && usable(whole) ? log2_of(scale) + log2_of(whole) : Real{kNan});
    }
  }
  return logs;
}

std::vector<Real> sorted_logs(const std::vector<float>& scales) {
  std::vector<Real> logs;
  for (const float scale : scales) {
    if (usable(scale)) logs.push_back(log2_of(scale));
  }
  std::sort(logs.begin(), logs.end());
  return logs;
}

}  // namespace

double row_column_scale_gap(const std::vector<float>& x, std::size_t rows, std::size_t cols, const BlockSpec& row,
                            const BlockSpec& column) {
  const std::vector<Real> along_rows = element_logs(quantize(x, rows, cols, row), row);
  const Quantized turned = quantize(transposed(x, rows, cols), cols, rows, column);
  const std::vector<Real> along_columns = transposed(element_logs(turned, column), cols, rows);
  Real sum = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Real gap = std::fabs(along_rows[i] - along_columns[i]);
    if (std::isnan(gap)) continue;
    sum += gap;
    ++count;
  }
  return count == 0 ? kNan : static_cast<double>(sum / static_cast<Real>(count));
}

double transpose_error(const std::vector<float>& x, std::size_t rows, std::size_t cols, const BlockSpec& row,
                       const std::vector<std::size_t>& splits, bool published) {
  const Quantized q = quantize(x, rows, cols, row);
  Pow2Tensor source{row.element, rows, cols, 1, row.tile_cols, q.codes, {}};
  for (const float scale : q.scales) source.exponents.push_back(static_cast<int>(std::lround(std::log2(scale))));
  const std::vector<std::size_t> extents = splits.empty() ? std::vector<std::size_t>{rows} : splits;
  const Transposed t = scaling_aware_transpose(source, extents, published);
  const Format& element = format(row.element);
  Real error = 0, power = 0;
  for (std::size_t c = 0; c < cols; ++c) {
    std::size_t begin = 0, block = 0;
    for (const std::size_t extent : extents) {
      for (std::size_t r = begin; r < begin + extent; ++r) {
        const std::size_t column = block + (r - begin) / row.tile_cols;
        const Real value = std::ldexp(static_cast<Real>(decode(element, t.codes[c * rows + r])),
                                      t.exponents[c * t.scale_cols + column]);
        const Real before = q.decoded[r * cols + c];
        error += (value - before) * (value - before);
        power += Real{x[r * cols + c]} * Real{x[r * cols + c]};
      }
      begin += extent;
      block += (extent + row.tile_cols - 1) / row.tile_cols;
    }
  }
  return power == 0 ? 0 : static_cast<double>(error / power);
}

Drift scale_drift(const PlacedScales& now, const PlacedScales& then) {
  Real sum = 0;
  std::size_t common = 0, changed = 0, measured = 0;
  for (const auto& [place, scale] : now) {
    const auto old = then.find(place);
    if (old == then.end()) continue;
    ++common;
    if (bits_of(scale) != bits_of(old->second)) ++changed;
    if (!usable(scale) || !usable(old->second)) continue;
    ++measured;
    sum += std::fabs(log2_of(scale) - log2_of(old->second));
  }
  return {measured == 0 ? kNan : static_cast<double>(sum / static_cast<Real>(measured)),
          common == 0 ? kNan : static_cast<double>(changed) / static_cast<double>(common)};
}

double scale_distance(const std::vector<float>& a, const std::vector<float>& b) {
  const std::vector<Real> x = sorted_logs(a), y = sorted_logs(b);
  if (x.empty() || y.empty()) return kNan;
  Real sum = 0;
  const std::size_t n = x.size() * y.size();
  for (std::size_t i = 0; i < n; ++i) sum += std::fabs(x[i / y.size()] - y[i / x.size()]);
  return static_cast<double>(sum / static_cast<Real>(n));
}

double mean_log2(const std::vector<float>& scales) {
  Real sum = 0;
  const std::vector<Real> logs = sorted_logs(scales);
  for (const Real log : logs) sum += log;
  return logs.empty() ? kNan : static_cast<double>(sum / static_cast<Real>(logs.size()));
}

Dot dot(const std::vector<float>& a, const std::vector<float>& b) {
  Dot result;
  for (std::size_t k = 0; k < a.size(); ++k) {
    result.sum += Real{a[k]} * Real{b[k]};
    result.absolute += std::fabs(Real{a[k]} * Real{b[k]});
  }
  return result;
}

}  // namespace ng_oracle
