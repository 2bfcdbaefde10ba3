// SPDX-License-Identifier: Apache-2.0
//
// Claim: one training step of the double-precision oracle and of the program (recipe f32, arithmetic ieee) is the step
// that PyTorch computes in float64 with the same weights, and that the published code of five models computes: losses,
// decisions of the routers, every gradient.
// torch_one_step.py compares with a live PyTorch. Alone: ctest -R torch_golden
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "gradient/production.hpp"
#include "training/torch_golden.hpp"

namespace {

using ng_test::TorchGolden;

// Tolerance in units of one rounding u, 2^-24 for FP32 and 2^-53 for FP64, of a gradient relative to |g| plus the root
// mean square of its tensor. tests/gradient/model_vs_oracle_test.cpp derives the form. Here: 3 layers of at most 42
// stages forward and back (latent attention has 6 products and 4 norms), head and loss: 136 stages; chains of at most
// 40 terms (the vocabulary); the largest of 1e5 elements 4.5 deviations out; norms and softmaxes multiply by 4:
// sqrt(136 * 40) * 4.5 * 4 = 1328, rounded up. (PyTorch's own float32 run lies within 51 and 261 of its float64 run:
// the files' attribute float32_gradient_error.) Losses: half the stages, relative to 1 + |loss|.
constexpr double kGradientUnits = 1536.0;
constexpr double kLossUnits = kGradientUnits / 2;
constexpr double kSingle = 0x1p-24;
constexpr double kDouble = 0x1p-53;
/// One rounding of PyTorch.
double unit_of(const TorchGolden& golden) {
  return golden.metadata.at("arithmetic") == "float64" ? kDouble : kSingle;
}

/// A step to be judged.
struct Step {
  double loss = 0.0, aux_loss = 0.0, z_loss = 0.0;
  std::vector<double> token_loss;
  ng_oracle::Parameters gradients;
};

void expect_step(const TorchGolden& golden, const Step& step, double unit) {
  double worst_loss = 0.0, worst_gradient = 0.0;
  const auto expect_loss = [&](double actual, double expected, const std::string& what) {
    const double units = std::abs(actual - expected) / (unit * (1.0 + std::abs(expected)));
    EXPECT_LE(units, kLossUnits) << what << " is " << actual << ", expected " << expected;
    worst_loss = std::max(worst_loss, units);
  };
  expect_loss(step.loss, golden.loss, "loss");
  expect_loss(step.aux_loss, golden.aux_loss, "auxiliary loss");
  expect_loss(step.z_loss, golden.z_loss, "z loss");
  ASSERT_EQ(step.token_loss.size(), golden.token_loss.size());
  for (std::size_t t = 0; t < golden.token_loss.size(); ++t)
    expect_loss(step.token_loss[t], golden.token_loss[t], "loss of token " + std::to_string(t));

  for (const auto& [name, expected] : golden.gradients) {
    ASSERT_TRUE(step.gradients.contains(name)) << name;
    const std::vector<double>& actual = step.gradients.at(name);
    ASSERT_EQ(actual.size(), expected.size()) << name;
    double square = 0.0;
    for (const double g : expected) square += g * g;
    const double size = std::sqrt(square / static_cast<double>(expected.size()));
    EXPECT_GT(size, 1e-6) << name << " has no gradient: this tests nothing";
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double units = std::abs(actual[i] - expected[i]) / (unit * (std::abs(expected[i]) + size));
      EXPECT_LE(units, kGradientUnits) << name << "[" << i << "] is " << actual[i] << ", expected " << expected[i];
      worst_gradient = std::max(worst_gradient, units);
    }
  }
  std::printf("%-29s losses within %.1f, gradients within %.1f units\n", golden.name.c_str(), worst_loss,
              worst_gradient);
}

void expect_decisions(const TorchGolden& golden, const ng_oracle::RouterDecisions& decisions) {
  if (!golden.metadata.at("source").starts_with("PyTorch")) return;  // transformers does not tell them in our order
  EXPECT_EQ(decisions.experts, golden.decisions.experts);
  EXPECT_EQ(decisions.kept, golden.decisions.kept);
}

class TorchGoldenFiles : public testing::TestWithParam<std::string> {};

TEST_P(TorchGoldenFiles, OracleStep) {
  const TorchGolden golden = ng_test::read_torch_golden(GetParam());
  const auto [parts, gradients] = loss_and_gradients(oracle_config(golden), golden.weights, golden.ids, golden.targets,
                                                     golden.sequences, golden.length);
  EXPECT_GT(parts.router_margin, 1e-4);
  expect_decisions(golden, parts.decisions);
  expect_step(golden, {parts.cross_entropy, parts.aux, parts.z, parts.token_losses, gradients},
              kDouble + unit_of(golden));
}

TEST_P(TorchGoldenFiles, ProgramStep) {
  const TorchGolden golden = ng_test::read_torch_golden(GetParam());
  const auto config = ng::ModelConfig::from_text(golden.name + ".toml", golden.metadata.at("model"));
  ng_test::Program program(config, "f32");
  program.load(golden.weights);
  const ng_test::ProgramResult result = program.train(golden.ids, golden.targets, golden.sequences, golden.length);
  expect_decisions(golden, result.decisions);
  Step step;
  step.token_loss.assign(result.token_losses.begin(), result.token_losses.end());
  for (const double loss : step.token_loss) step.loss += loss / static_cast<double>(step.token_loss.size());
  step.aux_loss = result.aux;
  step.z_loss = result.z;
  for (const auto& [name, gradient] : result.gradients) step.gradients[name].assign(gradient.begin(), gradient.end());
  expect_step(golden, step, kSingle + unit_of(golden));
}

INSTANTIATE_TEST_SUITE_P(All, TorchGoldenFiles, testing::ValuesIn(ng_test::torch_golden_names()),
                         [](const auto& file) { return file.param; });

TEST(TorchGolden, CoverWhatTheyShould) {
  EXPECT_EQ(ng_test::torch_golden_names(),
            (std::vector<std::string>{"one_step_capacity_position", "one_step_capacity_probability",
                                      "one_step_gqa_sigmoid", "one_step_gqa_softmax", "one_step_mla_sigmoid",
                                      "one_step_mla_softmax", "one_step_qk_norm_full", "one_step_qk_norm_head",
                                      "published_deepseek_v2", "published_deepseek_v3", "published_mixtral",
                                      "published_olmoe", "published_qwen3_moe"}));
}

}  // namespace
