// SPDX-License-Identifier: Apache-2.0
//
// Claim: the statistical parts give the numbers of printed tables, of calculation by hand and of Boost.
// Alone:
// build/release/bin/unit_study
// --gtest_filter='StudentT.*:Holm.*:PooledNoise.*:MatchedDifference.*:MovingAverage.*:BlockBootstrap.*:Interval.*'
#include "narrowgauge/study/statistics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <random>

#include "narrowgauge/base/error.hpp"
#include "study_support.hpp"

namespace ng {
namespace {

TEST(StudentT, QuantilesOfThePrintedTable) {
  // Rounded to three decimals in every statistics book.
  EXPECT_NEAR(student_t_quantile(0.95, 1), 12.706, 5e-4);
  EXPECT_NEAR(student_t_quantile(0.95, 4), 2.776, 5e-4);
  EXPECT_NEAR(student_t_quantile(0.99, 5), 4.032, 5e-4);
  EXPECT_NEAR(student_t_quantile(0.95, 1e7), boost::math::quantile(boost::math::normal(), 0.975), 1e-5);
}

TEST(StudentT, PIsTheInverseOfTheQuantile) {
  for (const double degrees : {1.0, 2.0, 5.0, 30.0}) {
    for (const double confidence : {0.5, 0.9, 0.95, 0.999}) {
      const double t = student_t_quantile(confidence, degrees);
      EXPECT_NEAR(student_t_two_sided_p(t, degrees), 1 - confidence, 1e-12);
      EXPECT_NEAR(student_t_two_sided_p(-t, degrees), 1 - confidence, 1e-12);
    }
  }
  EXPECT_EQ(student_t_two_sided_p(std::numeric_limits<double>::infinity(), 3), 0);
  EXPECT_THROW((void)student_t_quantile(1.0, 3), UserError);
  EXPECT_THROW((void)student_t_quantile(0.95, 0), UserError);
}

TEST(StudentT, IntervalOfTwoValuesIsWide) {
  // Mean 0.2, standard error 0.1, one degree of freedom: 0.2 -+ 12.7062 * 0.1.
  const std::vector<double> values = {0.1, 0.3};
  const Interval i = student_t_interval(values, 0.95);
  EXPECT_NEAR(i.low, -1.07062, 1e-5);
  EXPECT_NEAR(i.high, 1.47062, 1e-5);
  EXPECT_TRUE(std::isinf(student_t_interval(std::vector<double>{1.0}, 0.95).high));
  EXPECT_TRUE(std::isnan(student_t_interval({}, 0.95).low));
}

TEST(StudentT, IntervalAgreesWithBoost) {
  const std::vector<double> values = {0.3, -1.2, 2.2, 0.7, 0.05, 1.9};
  const double se = sample_sd(values) / std::sqrt(6.0);
  const double t = boost::math::quantile(boost::math::students_t(5), 0.995);
  EXPECT_NEAR(student_t_interval(values, 0.99).high, mean_of(values) + t * se, 1e-12);
}

TEST(Holm, ByHand) {
  // Sorted 0.01 0.03 0.04: 3 * 0.01, 2 * 0.03, then max(0.06, 0.04).
  EXPECT_EQ(holm_adjust(std::vector<double>{0.01, 0.04, 0.03}), (std::vector<double>{0.03, 0.06, 0.06}));
  EXPECT_EQ(holm_adjust(std::vector<double>{0.7, 0.8}), (std::vector<double>{1, 1}));
  EXPECT_TRUE(holm_adjust({}).empty());
}

TEST(PooledNoise, ByHand) {
  // Arm means 0 2 2, seed means 1 5/3, grand 4/3: residuals +-1/3 -+2/3 +-1/3, sum of squares 4/3 over 2 degrees.
  const auto [sd, degrees] = pooled_difference_sd({{0, 0}, {1, 3}, {2, 2}});
  EXPECT_NEAR(sd, std::sqrt(4.0 / 3.0), 1e-12);
  EXPECT_EQ(degrees, 2);
  // With one arm beside the baseline it is the standard deviation of the differences (0.2, 0.6).
  const auto [two, one] = pooled_difference_sd({{1, 2}, {1.2, 2.6}});
  EXPECT_NEAR(two, sample_sd(std::vector<double>{0.2, 0.6}), 1e-12);
  EXPECT_EQ(one, 1);
  EXPECT_TRUE(std::isnan(pooled_difference_sd({{1, 2}}).first));
}

TEST(MatchedDifference, OnlyEqualStepsWithFiniteLosses) {
  RunCurve base, other;
  base.step = {1, 2, 3, 5};
  base.loss = {4, 3, NAN, 1};
  other.step = {2, 3, 4, 5};
  other.loss = {3.5, 3, 2, 1.25};
  const Curve d = matched_difference(base, other);
  EXPECT_EQ(d.step, (std::vector<double>{2, 5}));
  EXPECT_EQ(d.value, (std::vector<double>{0.5, 0.25}));
}

TEST(MovingAverage, NarrowAtTheStartOneSidedAtTheEnd) {
  const std::vector<double> values = {0, 3, 6, 9, 30};
  EXPECT_EQ(moving_average(values, 3), (std::vector<double>{0, 3, 6, 15, 19.5}));
  EXPECT_EQ(moving_average(values, 1), values);
  EXPECT_TRUE(moving_average({}, 5).empty());
}

TEST(BlockBootstrap, SameSeedSameBytesAndPlausibleWidth) {
  std::mt19937_64 engine(7);
  std::normal_distribution<double> normal(1.0, 2.0);
  std::vector<double> values(400);
  for (double& v : values) v = normal(engine);
  const Interval a = block_bootstrap_mean(values, 0.95, 2000, 1), b = block_bootstrap_mean(values, 0.95, 2000, 1);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_NE(a.low, block_bootstrap_mean(values, 0.95, 2000, 2).low);
  // Independent values: 2 * 1.96 * sd / sqrt(n). Blocks of 20 estimate that from 400 values to about a quarter.
  const double expected = 2 * 1.96 * sample_sd(values) / 20;
  EXPECT_NEAR(a.high - a.low, expected, 0.25 * expected);
  EXPECT_LT(a.low, mean_of(values));
  EXPECT_GT(a.high, mean_of(values));
}

TEST(BlockBootstrap, BlocksKeepCorrelationAlong) {
  // Values that repeat ten times hold a tenth of the information: the interval has to be about sqrt(10) wider than
  // for the same values in random order.
  std::mt19937_64 engine(3);
  std::normal_distribution<double> normal;
  std::vector<double> values(1000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 10 == 0 ? normal(engine) : values[i - 1];
  const Interval along = block_bootstrap_mean(values, 0.95, 1000, 1);
  std::shuffle(values.begin(), values.end(), engine);
  const Interval mixed = block_bootstrap_mean(values, 0.95, 1000, 1);
  EXPECT_GT(along.high - along.low, 2 * (mixed.high - mixed.low));
}

TEST(BlockBootstrap, Edges) {
  const Interval constant = block_bootstrap_mean(std::vector<double>(9, 0.25), 0.95, 100, 1);
  EXPECT_EQ(constant.low, 0.25);
  EXPECT_EQ(constant.high, 0.25);
  EXPECT_TRUE(std::isnan(block_bootstrap_mean({}, 0.95, 100, 1).low));
  EXPECT_EQ(block_bootstrap_mean(std::vector<double>{3.0}, 0.95, 100, 1).high, 3.0);
}

TEST(Interval, CoversTheTruthAsOftenAsItSays) {
  // Baseline and one arm, three seeds: the interval is an exact t interval of the paired differences. 4000 studies:
  // standard error of the rate 0.0035, so four of them either side.
  std::mt19937_64 engine(11);
  std::normal_distribution<double> normal;
  int covered = 0;
  const int trials = 4000;
  for (int i = 0; i < trials; ++i) {
    std::vector<std::vector<double>> losses(2, std::vector<double>(3));
    for (std::size_t s = 0; s < 3; ++s) {
      const double seed = normal(engine);
      losses[0][s] = 3 + 0.01 * seed + 0.003 * normal(engine);
      losses[1][s] = 3.02 + 0.01 * seed + 0.003 * normal(engine);
    }
    const Judgement j = judge(test::study_of(losses));
    covered += j.arms[0].interval.low < 0.02 && j.arms[0].interval.high > 0.02;
  }
  EXPECT_NEAR(covered / static_cast<double>(trials), 0.95, 4 * 0.0035);
}

}  // namespace
}  // namespace ng
