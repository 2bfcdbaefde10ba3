// SPDX-License-Identifier: Apache-2.0
//
// Matrices on which block quantizers are judged: ordinary ones and every kind that has broken somebody's kernel.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "oracle/exact.hpp"

namespace ng_test {

inline const std::vector<std::string>& matrix_kinds() {
  static const std::vector<std::string> kinds = {"normal",    "wide",     "zero",     "zero_tail", "signed_zeros",
                                                 "subnormal", "smallest", "huge",     "outlier",   "ties",
                                                 "powers",    "any_bits", "with_inf", "with_nan",  "one_value"};
  return kinds;
}

/// A [rows, cols] matrix; only `with_inf` and `with_nan` hold values that are not finite.
inline std::vector<float> matrix(const std::string& kind, std::size_t rows, std::size_t cols, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  const auto below = [&](std::uint32_t n) { return static_cast<int>(engine() % n); };
  std::vector<float> x(rows * cols);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float g = normal(engine);
    float& v = x[i];
    v = g;
    if (kind == "wide") v = std::ldexp(g, below(60) - 30);
    if (kind == "zero") v = 0;
    if (kind == "zero_tail" && i % cols >= cols / 2) v = 0;
    if (kind == "signed_zeros") v = below(3) == 0 ? -0.0F : below(3) == 0 ? 0.0F : g * 0x1p-3F;
    if (kind == "subnormal") v = below(8) == 0 ? std::copysign(0.0F, g) : g * 0x1p-130F;
    if (kind == "smallest") v = std::copysign(static_cast<float>(below(4)) * 0x1p-149F, g);
    if (kind == "huge") v = std::copysign(std::numeric_limits<float>::max() * (1 - std::fabs(g) / 8), g);
    if (kind == "outlier" && below(40) == 0) v = g * 5000;
    if (kind == "ties") v = static_cast<float>(below(129) - 64) / 8;
    if (kind == "powers") v = std::copysign(std::ldexp(1.0F, below(40) - 20), g);
    if (kind == "any_bits") {
      do {
        v = ng_oracle::float_of(static_cast<std::uint32_t>(engine()));
      } while (!std::isfinite(v));
    }
    if (kind == "one_value") v = 0.1F;
  }
  for (std::size_t i = 0; !x.empty() && i < 1 + x.size() / 100; ++i) {
    const std::size_t at = engine() % x.size();
    if (kind == "with_inf") x[at] = std::copysign(std::numeric_limits<float>::infinity(), normal(engine));
    if (kind == "with_nan") x[at] = std::copysign(std::nanf(""), normal(engine));
  }
  return x;
}

}  // namespace ng_test
