// SPDX-License-Identifier: Apache-2.0
//
// Claim: an UnroundedSum is the exact sum of its terms, rounded once at the end, whatever their order and grouping.
// Judged by integer sums in 128 bits and by sums whose result is known. Alone: ctest -R unit_unrounded_sum
#include "narrowgauge/numerics/unrounded_sum.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>
#include <vector>

#include "narrowgauge/numerics/sum_limbs.hpp"

namespace ng {
namespace {

__extension__ typedef __int128 Wide;
__extension__ typedef unsigned __int128 Magnitude;

/// Nearest even double of an integer.
double rounded(Wide value) {
  const bool negative = value < 0;
  auto magnitude = static_cast<Magnitude>(negative ? -value : value);
  int shift = 0;
  bool sticky = false, half = false;
  while (magnitude >> 53 != 0) {
    sticky = sticky || half;
    half = (magnitude & 1) != 0;
    magnitude >>= 1;
    ++shift;
  }
  if (half && (sticky || (magnitude & 1) != 0)) ++magnitude;
  const double result = std::ldexp(static_cast<double>(magnitude), shift);
  return negative ? -result : result;
}

TEST(UnroundedSum, IsTheIntegerSumRoundedOnce) {
  std::mt19937_64 engine(1);
  for (int trial = 0; trial < 2000; ++trial) {
    const int scale = static_cast<int>(engine() % 1900) - 1000;  // from among the subnormals to 2^950
    Wide exact = 0;
    UnroundedSum sum;
    const int terms = 1 + static_cast<int>(engine() % 40);
    for (int i = 0; i < terms; ++i) {
      const auto significand = static_cast<std::int64_t>(engine() >> 11);
      const int shift = static_cast<int>(engine() % 60);
      const bool negative = (engine() & 1) != 0;
      Wide term = static_cast<Wide>(significand) << shift;
      if (negative) term = -term;
      exact += term;
      sum += std::ldexp(static_cast<double>(negative ? -significand : significand), shift + std::max(scale, -1074));
    }
    EXPECT_EQ(sum.value(), std::ldexp(rounded(exact), std::max(scale, -1074))) << trial;
  }
}

TEST(UnroundedSum, OrderAndGroupingChangeNoByte) {
  std::mt19937_64 engine(2);
  std::vector<double> terms;
  while (terms.size() < 3000) {
    const double term = std::bit_cast<double>(engine());  // of every size and sign
    if (std::isfinite(term)) terms.push_back(term);
  }
  UnroundedSum forward;
  for (const double term : terms) forward += term;
  for (int trial = 0; trial < 20; ++trial) {
    std::shuffle(terms.begin(), terms.end(), engine);
    UnroundedSum parts[3];
    for (std::size_t i = 0; i < terms.size(); ++i) parts[engine() % 3] += terms[i];
    parts[0] += parts[2];
    parts[1] += parts[0];
    EXPECT_EQ(std::memcmp(&parts[1], &forward, sizeof forward), 0);
    for (const double term : terms) parts[1] += -term;
    EXPECT_EQ(parts[1].value(), 0.0);
  }
}

TEST(UnroundedSum, SmallBesideLarge) {
  UnroundedSum sum;
  sum += 1e300;
  sum += 0x1p-1074;
  EXPECT_EQ(sum.value(), 1e300);
  sum += -1e300;
  EXPECT_EQ(sum.value(), 0x1p-1074);
  EXPECT_EQ(UnroundedSum(-3.5).value(), -3.5);
  UnroundedSum tie = 0x1p53;  // to even
  tie += 1.0;
  EXPECT_EQ(tie.value(), 0x1p53);
  tie += 0x1p-1074;
  EXPECT_EQ(tie.value(), 0x1p53 + 2);
  UnroundedSum many = std::numeric_limits<double>::max();
  many += std::numeric_limits<double>::max();
  EXPECT_TRUE(std::isinf(many.value()));
  many += -std::numeric_limits<double>::max();
  EXPECT_EQ(many.value(), std::numeric_limits<double>::max());
}

TEST(UnroundedSum, SpecialsFollowIeee) {
  const double infinity = std::numeric_limits<double>::infinity();
  UnroundedSum sum = 1.0;
  sum += infinity;
  EXPECT_EQ(sum.value(), infinity);
  sum += -infinity;
  EXPECT_TRUE(std::isnan(sum.value()));
  UnroundedSum nan = std::nan("");
  EXPECT_TRUE(std::isnan(nan.value()));
  EXPECT_FALSE(std::signbit(UnroundedSum(-0.0).value()));
}

// The form that many threads add to: parts of a sum, word by word.
TEST(UnroundedSum, LimbsAreTheSameSum) {
  std::mt19937_64 engine(3);
  for (int trial = 0; trial < 50; ++trial) {
    SumLimbs parts[3] = {};
    UnroundedSum expected;
    for (int i = 0; i < 2000; ++i) {
      const auto bits = static_cast<std::uint64_t>(engine());
      const std::uint64_t exponent = (bits >> 52 & 0x7ff) % (1023 + 512);  // below 2^512
      const double term = std::bit_cast<double>((bits & 0x800fffffffffffffull) | exponent << 52);
      expected += term;
      parts[engine() % 3].add(term);
    }
    const double specials[] = {-0.0, 0x1p-1074, std::nan(""), HUGE_VAL, -HUGE_VAL};
    for (int i = 0; i < trial % 5 * 3; ++i) {
      expected += specials[i % 5];
      parts[i % 3].add(specials[i % 5]);
    }
    for (int w = 0; w < SumLimbs::kWords; ++w) parts[0].word[w] += parts[1].word[w] + parts[2].word[w];
    const UnroundedSum sum = unrounded(parts[0]);
    EXPECT_EQ(std::memcmp(&sum, &expected, sizeof sum), 0) << trial;
  }
}

}  // namespace
}  // namespace ng
