// SPDX-License-Identifier: Apache-2.0
//
// The outlier split by sorting.
#include "outliers.hpp"

#include <algorithm>
#include <cmath>

#include "exact.hpp"
#include "formats.hpp"

namespace ng_oracle {
namespace {

/// Clamps x[first, last) to two of its own sorted values; false where it holds a NaN.
bool bounds_of(const std::vector<float>& x, std::size_t first, std::size_t last, double quantile, float& low,
               float& high) {
  std::vector<float> sorted(x.begin() + static_cast<std::ptrdiff_t>(first),
                            x.begin() + static_cast<std::ptrdiff_t>(last));
  for (const float v : sorted) {
    if (std::isnan(v)) return false;
  }
  std::sort(sorted.begin(), sorted.end(), [](float a, float b) {
    if (a == b) return std::signbit(a) && !std::signbit(b);  // -0 before +0
    return a < b;
  });
  const double n = static_cast<double>(sorted.size());
  const auto rank = [&](double r) { return std::min(static_cast<std::size_t>(std::floor(r)), sorted.size() - 1); };
  low = sorted[rank((1.0 - quantile) * n)];
  high = sorted[rank(quantile * n)];
  return true;
}

}  // namespace

OutlierSplit split_outliers(const std::vector<float>& x, std::size_t rows, std::size_t cols, double quantile,
                            bool whole, const std::string& format_name) {
  OutlierSplit split;
  split.clamped = x;
  split.residual.assign(x.size(), 0.0F);
  split.row_pointers.push_back(0);
  float low = 0, high = 0;
  bool bounded = whole && !x.empty() && bounds_of(x, 0, x.size(), quantile, low, high);
  for (std::size_t r = 0; r < rows; ++r) {
    if (!whole) bounded = cols > 0 && bounds_of(x, r * cols, (r + 1) * cols, quantile, low, high);
    for (std::size_t c = 0; bounded && c < cols; ++c) {
      const std::size_t i = r * cols + c;
      if (!(x[i] < low) && !(x[i] > high)) continue;
      split.clamped[i] = x[i] < low ? low : high;
      if (format_name.empty()) continue;
      const Format& f = format(format_name);
      const std::uint32_t code = encode(f, f32_sub(x[i], split.clamped[i])).value();
      split.residual[i] = float_of(decode_f32_bits(f, code));
      split.columns.push_back(static_cast<std::int32_t>(c));
      split.codes.push_back(code);
    }
    split.row_pointers.push_back(static_cast<std::int64_t>(split.columns.size()));
  }
  return split;
}

void add_compensation(const OutlierSplit& split, std::size_t rows, std::size_t cols, const std::vector<float>& weight,
                      std::size_t n, std::vector<float>& out) {
  for (std::size_t m = 0; m < rows; ++m) {
    for (std::size_t j = 0; j < n; ++j) {
      for (std::int64_t i = split.row_pointers[m]; i < split.row_pointers[m + 1]; ++i) {
        const std::size_t k = static_cast<std::size_t>(split.columns[static_cast<std::size_t>(i)]);
        out[m * n + j] = std::fma(split.residual[m * cols + k], weight[j * cols + k], out[m * n + j]);
      }
    }
  }
}

}  // namespace ng_oracle
