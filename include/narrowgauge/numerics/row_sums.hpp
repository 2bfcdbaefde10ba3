// SPDX-License-Identifier: Apache-2.0
//
// The order of FP32 sums over one row: 8 interleaved chains (element mod 8), each in ascending order, then pairwise,
// ((0+1)+(2+3)) + ((4+5)+(6+7)). It fills one vector register and is as easily written on any device. Rows are
// anything with `row[i]`: pointers, rows of a view (on a device), or the rows that are computed while they are read,
// below.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng {

constexpr int kRowChains = 8;

/// The pairwise end of a sum.
NG_HD float pairwise(const float* sum) {
  return add_rn(add_rn(add_rn(sum[0], sum[1]), add_rn(sum[2], sum[3])),
                add_rn(add_rn(sum[4], sum[5]), add_rn(sum[6], sum[7])));
}

/// sum a*b of n elements by fma chains from +0.
template <class A, class B>
NG_HD float dot_of_chains(A a, B b, std::int64_t n) {
  float sum[kRowChains] = {};
  const std::int64_t whole = n - n % kRowChains;
  for (std::int64_t i = 0; i < whole; i += kRowChains)
    for (int lane = 0; lane < kRowChains; ++lane) sum[lane] = fma_rn(a[i + lane], b[i + lane], sum[lane]);
  for (int lane = 0; lane < kRowChains - 1; ++lane) {  // constant numbers of chains: they stay in registers
    if (whole + lane >= n) break;
    sum[lane] = fma_rn(a[whole + lane], b[whole + lane], sum[lane]);
  }
  return pairwise(sum);
}

/// sum x of n elements by addition chains from +0.
template <class X>
NG_HD float sum_of_chains(X x, std::int64_t n) {
  float sum[kRowChains] = {};
  const std::int64_t whole = n - n % kRowChains;
  for (std::int64_t i = 0; i < whole; i += kRowChains)
    for (int lane = 0; lane < kRowChains; ++lane) sum[lane] = add_rn(sum[lane], x[i + lane]);
  for (int lane = 0; lane < kRowChains - 1; ++lane) {  // constant numbers of chains: they stay in registers
    if (whole + lane >= n) break;
    sum[lane] = add_rn(sum[lane], x[whole + lane]);
  }
  return pairwise(sum);
}

/// The larger of the largest so far and the next element: NaN is passed over unless it came first.
NG_HD float larger_of(float best, float next) {
  return next > best ? next : best;
}

/// The largest of `start` and n elements. The order does not matter: NaN is passed over unless it is `start`, and
/// either zero may come out where both are largest.
template <class X>
NG_HD float largest_of(X x, std::int64_t n, float start) {
  float best[kRowChains];
  for (float& b : best) b = start;
  const std::int64_t whole = n - n % kRowChains;
  for (std::int64_t i = 0; i < whole; i += kRowChains)
    for (int lane = 0; lane < kRowChains; ++lane) best[lane] = larger_of(best[lane], x[i + lane]);
  for (std::int64_t i = whole; i < n; ++i) best[0] = larger_of(best[0], x[i]);
  for (int lane = 1; lane < kRowChains; ++lane) best[0] = larger_of(best[0], best[lane]);
  return best[0];
}

/// The row factor * x[i].
template <class X>
struct ScaledRow {
  X x;
  float factor;
  NG_HD float operator[](std::int64_t i) const { return mul_rn(x[i], factor); }
};

/// The row a[i] * b[i].
template <class A, class B>
struct ProductRow {
  A a;
  B b;
  NG_HD float operator[](std::int64_t i) const { return mul_rn(a[i], b[i]); }
};

}  // namespace ng
