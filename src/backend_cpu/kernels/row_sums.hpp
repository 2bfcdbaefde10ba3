// SPDX-License-Identifier: Apache-2.0
//
// The order of FP32 sums over one row: 8 interleaved chains (element mod 8), each in ascending order, then pairwise,
// ((0+1)+(2+3)) + ((4+5)+(6+7)). It fills one vector register and is as easily written on any device. Always inlined:
// included by files that are compiled once per instruction set.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng::cpu {

constexpr int kRowChains = 8;

/// The pairwise end of a sum.
NG_HD float pairwise(const float* sum) {
  return add_rn(add_rn(add_rn(sum[0], sum[1]), add_rn(sum[2], sum[3])),
                add_rn(add_rn(sum[4], sum[5]), add_rn(sum[6], sum[7])));
}

/// sum a*b by fma chains from +0.
NG_HD float dot_of_chains(const float* a, const float* b, std::int64_t n) {
  float sum[kRowChains] = {};
  const std::int64_t whole = n - n % kRowChains;
  for (std::int64_t i = 0; i < whole; i += kRowChains)
    for (int lane = 0; lane < kRowChains; ++lane) sum[lane] = fma_rn(a[i + lane], b[i + lane], sum[lane]);
  for (std::int64_t i = whole; i < n; ++i) sum[i - whole] = fma_rn(a[i], b[i], sum[i - whole]);
  return pairwise(sum);
}

/// sum x by addition chains from +0.
NG_HD float sum_of_chains(const float* x, std::int64_t n) {
  float sum[kRowChains] = {};
  const std::int64_t whole = n - n % kRowChains;
  for (std::int64_t i = 0; i < whole; i += kRowChains)
    for (int lane = 0; lane < kRowChains; ++lane) sum[lane] = add_rn(sum[lane], x[i + lane]);
  for (std::int64_t i = whole; i < n; ++i) sum[i - whole] = add_rn(sum[i - whole], x[i]);
  return pairwise(sum);
}

/// The largest of `start` and n elements. The order does not matter: NaN is passed over unless it is `start`, and
/// either zero may come out where both are largest.
NG_HD float largest_of(const float* x, std::int64_t n, float start) {
  float best[kRowChains];
  for (float& b : best) b = start;
  const std::int64_t whole = n - n % kRowChains;
  for (std::int64_t i = 0; i < whole; i += kRowChains)
    for (int lane = 0; lane < kRowChains; ++lane) best[lane] = x[i + lane] > best[lane] ? x[i + lane] : best[lane];
  for (std::int64_t i = whole; i < n; ++i) best[0] = x[i] > best[0] ? x[i] : best[0];
  for (int lane = 1; lane < kRowChains; ++lane) best[0] = best[lane] > best[0] ? best[lane] : best[0];
  return best[0];
}

}  // namespace ng::cpu
