// SPDX-License-Identifier: Apache-2.0
//
// Claim: the optimizer oracle follows its definition: values worked out by hand and properties of AdamW, clipping and
// the two schedules. Alone: ctest -R optimizer_oracle
#include <gtest/gtest.h>

#include <cmath>

#include "oracle/optimizer_oracle.hpp"

namespace {

using namespace ng_oracle;

constexpr double kRounding = 1e-13;  // a handful of operations on numbers of size 1

TEST(OptimizerOracle, FirstTwoUpdatesByHand) {
  const AdamW settings{0.1, 0.5, 0.75, 0.01, 0.2};
  std::vector<double> m{0}, v{0}, p{2};
  adamw_update(settings, 1, {4}, m, v, p);
  // m = 2, v = 4; unbiased: 4 and 16; 4 / (4 + 0.01); decay 0.2 * 2.
  EXPECT_NEAR(m[0], 2.0, kRounding);
  EXPECT_NEAR(v[0], 4.0, kRounding);
  const double p1 = 2 - 0.1 * (4 / 4.01 + 0.4);
  EXPECT_NEAR(p[0], p1, kRounding);
  adamw_update(settings, 2, {-1}, m, v, p);
  // m = 1 - 0.5 = 0.5, v = 3 + 0.25 = 3.25; corrections 1 - 0.25 = 0.75 and 1 - 0.5625 = 0.4375.
  EXPECT_NEAR(m[0], 0.5, kRounding);
  EXPECT_NEAR(v[0], 3.25, kRounding);
  EXPECT_NEAR(p[0], p1 - 0.1 * ((0.5 / 0.75) / (std::sqrt(3.25 / 0.4375) + 0.01) + 0.2 * p1), kRounding);
}

TEST(OptimizerOracle, DecayIsDecoupledFromTheGradientsSize) {
  // With gradient 0 only the decay acts, geometrically.
  std::vector<double> m{0}, v{0}, p{3};
  for (int t = 1; t <= 10; ++t) adamw_update({0.1, 0.9, 0.95, 1e-8, 0.5}, t, {0}, m, v, p);
  EXPECT_NEAR(p[0], 3 * std::pow(0.95, 10), kRounding);
  // A constant gradient moves by lr a step whatever its size (eps aside, which is 1e-8 of the smallest below).
  for (double g : {1.0, 1e3, -7.0}) {
    std::vector<double> m2{0}, v2{0}, p2{0};
    for (int t = 1; t <= 10; ++t) adamw_update({0.01, 0.9, 0.95, 1e-8, 0}, t, {g}, m2, v2, p2);
    EXPECT_NEAR(p2[0], g > 0 ? -0.1 : 0.1, 2e-9);
  }
}

TEST(OptimizerOracle, Clipping) {
  EXPECT_NEAR(global_norm({{3, 0}, {-4}}), 5.0, kRounding);
  EXPECT_EQ(clip_factor(0.5, 1.0), 1.0);
  EXPECT_NEAR(clip_factor(5.0, 1.0), 1.0 / 5.000001, kRounding);
  EXPECT_EQ(clip_factor(5.0, 0.0), 1.0);
}

TEST(OptimizerOracle, RouterBiasMovesTowardEvenCounts) {
  std::vector<double> bias{0, 0.5, -0.25, 0};
  update_router_bias(0.125, {1, 7, 4, 4}, bias);  // mean 4
  EXPECT_EQ(bias, (std::vector<double>{0.125, 0.375, -0.25, 0}));
  update_router_bias(0.125, {5, 4, 4, 4}, bias);  // mean 4.25: no count is even
  EXPECT_EQ(bias, (std::vector<double>{0, 0.5, -0.125, 0.125}));
}

TEST(OptimizerOracle, Cosine) {
  EXPECT_NEAR(cosine_rate(0, 110, 10, 2.0, 0.1), 0.2, kRounding);
  EXPECT_NEAR(cosine_rate(9, 110, 10, 2.0, 0.1), 2.0, kRounding);
  EXPECT_NEAR(cosine_rate(10, 110, 10, 2.0, 0.1), 2.0, kRounding);
  EXPECT_NEAR(cosine_rate(60, 110, 10, 2.0, 0.1), 1.1, kRounding);
  EXPECT_NEAR(cosine_rate(110, 110, 10, 2.0, 0.1), 0.2, kRounding);
  EXPECT_NEAR(cosine_rate(0, 110, 0, 2.0, 0.1), 2.0, kRounding);
  for (int step = 11; step < 110; ++step)
    EXPECT_LT(cosine_rate(step, 110, 10, 2.0, 0.1), cosine_rate(step - 1, 110, 10, 2.0, 0.1));
}

TEST(OptimizerOracle, WarmupStableDecay) {
  const auto rate = [](int step, Decay decay) { return wsd_rate(step, 100, 5, 2.0, 0.1, 0.2, decay); };
  for (Decay decay : {Decay::linear, Decay::one_minus_sqrt}) {
    EXPECT_NEAR(rate(0, decay), 0.4, kRounding);
    for (int step = 4; step <= 80; ++step) EXPECT_EQ(rate(step, decay), 2.0) << step;
    EXPECT_LT(rate(81, decay), 2.0);
  }
  EXPECT_NEAR(rate(90, Decay::linear), 2.0 * 0.55, kRounding);
  EXPECT_NEAR(rate(85, Decay::one_minus_sqrt), 2.0 * 0.55, kRounding);
  EXPECT_NEAR(rate(99, Decay::linear), 2.0 * (1 - 0.9 * 0.95), kRounding);
}

}  // namespace
