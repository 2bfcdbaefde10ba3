// SPDX-License-Identifier: Apache-2.0
//
// Claim: log2_rn of FP32 numbers lies within 4 units in the last place of log2 in long double, grows with its argument,
// and is exact for powers of two. Alone: ctest -R numerics_logarithm
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "narrowgauge/numerics/elementary.hpp"

namespace {

TEST(Logarithm, WithinFourUnits) {
  double worst = 0;
  for (std::uint32_t bits = 1; bits < ng::kInfinityBits; bits += 2039) {
    const double x = static_cast<double>(ng::float_of(bits));
    const long double expected = std::log2(static_cast<long double>(x));
    if (expected == 0) continue;
    const long double unit = std::ldexp(1.0L, std::ilogb(expected) - 52);
    const long double error = std::fabs(static_cast<long double>(ng::log2_rn(x)) - expected) / unit;
    worst = std::max(worst, static_cast<double>(error));
  }
  EXPECT_LE(worst, 4.0);
}

TEST(Logarithm, GrowsNearOne) {
  double before = -1.0;
  for (std::uint32_t bits = 0x3f7f0000u; bits < 0x3f810000u; ++bits) {
    const double here = ng::log2_rn(static_cast<double>(ng::float_of(bits)));
    ASSERT_LT(before, here) << bits;
    before = here;
  }
}

TEST(Logarithm, PowersOfTwoAreExact) {
  for (int n = -149; n < 128; ++n) EXPECT_EQ(ng::log2_rn(std::ldexp(1.0, n)), n);
}

}  // namespace
