// SPDX-License-Identifier: Apache-2.0
//
// Claim: the oracle's gradient (scalar tape) is the derivative of the oracle's loss, for every parameter tensor and
// every combination of the model's first options and every pair of its later ones. Alone: ctest -R oracle_gradient
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "gradient/cases.hpp"
#include "gradient/option_cases.hpp"
#include "oracle/model_oracle.hpp"

namespace {

using namespace ng_oracle;

class OracleGradient : public testing::TestWithParam<ng_test::Case> {};

// Tolerance. Step h = 1e-4 on parameters of size 0.3. Rounding: the total is about 3 and computed to about 10 units in
// the last place, 5e-15; the five-point formula multiplies that by at most 18 / 12h = 15000: 7.5e-11. Truncation:
// h^4/30 times the fifth derivative. The loss turns over a distance s = 0.05 of a parameter at the sharpest (a small
// residual before a norm), where that derivative is g / s^4: 1e-16 / 30 * 1.6e5 = 5e-13 g; 1e-8 g leaves room for
// sharper corners.
TEST_P(OracleGradient, TapeEqualsFiniteDifference) {
  const auto& [config, B, T, seed] = GetParam();
  const Parameters parameters = random_parameters(config, seed, 0.3);
  const auto ids = random_ids(B * T, config.vocabulary, seed + 1000);
  const auto targets = random_ids(B * T, config.vocabulary, seed + 2000);
  const auto [parts, gradients] = loss_and_gradients(config, parameters, ids, targets, B, T);

  // The tape's forward is the plain forward.
  EXPECT_EQ(parts.total, loss(config, parameters, ids, targets, B, T).total);
  ASSERT_EQ(gradients.size(), parameters.size());

  SCOPED_TRACE(config.name);
  std::mt19937_64 generator(seed);
  for (const auto& [name, gradient] : gradients) {
    if (name.ends_with("router_bias")) {  // it moves decisions only
      EXPECT_EQ(gradient, std::vector<double>(gradient.size(), 0.0)) << name;
      continue;
    }
    ASSERT_EQ(gradient.size(), parameters.at(name).size()) << name;
    std::vector<std::size_t> samples{generator() % gradient.size()};
    // The largest entry too: an unlucky sample may be zero (an expert or a token that is not used).
    const auto largest = std::max_element(gradient.begin(), gradient.end(),
                                          [](double a, double b) { return std::abs(a) < std::abs(b); });
    samples.push_back(static_cast<std::size_t>(largest - gradient.begin()));
    EXPECT_GT(std::abs(*largest), 1e-6) << name << " has no gradient: this case tests nothing";
    for (std::size_t i : samples) {
      const double difference =
          finite_difference(config, parameters, ids, targets, B, T, parts.decisions, name, i, 1e-4);
      EXPECT_NEAR(gradient[i], difference, 1e-8 * std::abs(gradient[i]) + 1e-10) << name << "[" << i << "]";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllOptions, OracleGradient, testing::ValuesIn(ng_test::all_cases()), ng_test::CaseName());
INSTANTIATE_TEST_SUITE_P(Options, OracleGradient, testing::ValuesIn(ng_test::option_cases()), ng_test::CaseNumber());

}  // namespace
