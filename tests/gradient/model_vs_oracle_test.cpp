// SPDX-License-Identifier: Apache-2.0
//
// Claim: the program's model computes the losses, the router's choices and every gradient that the double-precision
// oracle computes, for every combination of model options, several sequences, sequences longer than a key tile of
// attention, and micro-batches whose gradients add up. FP32 everywhere. Alone: ctest -R model_vs_oracle
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "gradient/cases.hpp"
#include "gradient/production.hpp"

namespace {

using ng_oracle::LossAndGradients;
using ng_oracle::ModelConfig;
using ng_oracle::Parameters;
using ng_test::Case;
using ng_test::Program;
using ng_test::ProgramResult;
using Ids = std::vector<std::int64_t>;

// Tolerance. u = 2^-24 is one FP32 rounding. A gradient passes through S stages forward and back (embedding to loss and
// back: per layer 2 norms, 4 or 6 products, rotation, scores, softmax, weighted sum, SwiGLU, router, 2 residuals, and
// as many backward: 30; with head and loss 70 for two layers). A stage is a chain of at most n fma (n = 80: the longest
// attention row; 12 to 30 elsewhere) whose roundings add like a random walk: sqrt(n) u at most, relative to the size of
// the stage's terms. Independent stages add in quadrature: sqrt(70 * 30) u = 46 u for one element; the largest of 1e5
// elements lies 4.5 deviations out: 206 u. Norms over small residuals and sharp softmaxes multiply relative errors: a
// factor of 4 (the parameters are N(0, 0.3^2), and a norm of rows of size 0.3 multiplies by 3): 824 u, rounded to 1024
// u. Relative to |g| plus the root mean square of the tensor: an element that is a small difference of large terms has
// the error of its terms, which have the size of the tensor.
constexpr double kUnit = 1024.0 * 0x1p-24;
// Losses: half as many stages, values of size 1 to 5 (relative to 1 + |loss|).
constexpr double kLossUnit = 0.5 * kUnit;

/// Worst error in units of the tolerance by what it belongs to; printed at the end.
class Worst : public testing::Environment {
 public:
  static std::map<std::string, double>& table() {
    static std::map<std::string, double> worst;
    return worst;
  }
  static void note(const std::string& what, double error) {
    double& worst = table()[what];
    worst = std::max(worst, error);
  }
  void TearDown() override {
    std::printf("worst error in units of the tolerance (1: it just passes)\n");
    for (const auto& [what, error] : table()) std::printf("  %-28s %.4f\n", what.c_str(), error);
  }
};
const testing::Environment* const kWorst = testing::AddGlobalTestEnvironment(new Worst);

std::vector<std::string> options_of(const ModelConfig& c) {
  return {"option kv_heads " + std::to_string(c.kv_heads) + "/" + std::to_string(c.heads),
          std::string("option head ") + (c.tied_head ? "tied" : "untied"),
          "option shared " + std::to_string(c.shared_experts),
          "option dense " + std::to_string(c.dense_layers),
          std::string("option weights ") + (c.renormalize ? "renormalized" : "raw"),
          "option top " + std::to_string(c.top_k)};
}

/// "gradient fc1" of "layer.0/fc1".
std::string kind_of(const std::string& parameter) {
  return "gradient " + parameter.substr(parameter.find('/') + 1);
}

/// Largest error of a gradient in units of the tolerance; `at` is where.
double worst_error(const std::vector<float>& actual, const std::vector<double>& expected, std::size_t* at) {
  double square = 0.0;
  for (const double g : expected) square += g * g;
  const double size = std::sqrt(square / static_cast<double>(expected.size()));
  double worst = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error =
        std::abs(static_cast<double>(actual[i]) - expected[i]) / (kUnit * (std::abs(expected[i]) + size));
    // Where the oracle has no gradient at all (an expert without tokens) there must be none.
    const double units = expected[i] == 0.0 && actual[i] == 0.0f ? 0.0 : error;
    if (!(units <= worst)) {
      worst = units;
      *at = i;
    }
  }
  return worst;
}

void expect_gradients(const ProgramResult& actual, const Parameters& expected, const ModelConfig& config) {
  ASSERT_EQ(actual.gradients.size(), expected.size());
  for (const auto& [name, gradient] : expected) {
    const std::vector<float>& got = actual.gradients.at(name);
    ASSERT_EQ(got.size(), gradient.size()) << name;
    std::size_t at = 0;
    const double worst = worst_error(got, gradient, &at);
    EXPECT_LE(worst, 1.0) << name << "[" << at << "] is " << got[at] << ", expected " << gradient[at];
    Worst::note(kind_of(name), worst);
    for (const std::string& option : options_of(config)) Worst::note(option, worst);
  }
}

void expect_losses(const ProgramResult& actual, const ng_oracle::LossParts& expected) {
  // Choices: relative errors of kLossUnit in two probabilities cannot change them.
  ASSERT_GT(expected.router_margin, 2.0 * kLossUnit) << "take another seed: a token is undecided between two experts";
  EXPECT_EQ(actual.decisions.experts, expected.decisions.experts);
  EXPECT_EQ(actual.decisions.kept, expected.decisions.kept);
  ASSERT_EQ(actual.token_losses.size(), expected.token_losses.size());
  double worst = 0.0;
  for (std::size_t t = 0; t < expected.token_losses.size(); ++t) {
    const double loss = expected.token_losses[t];
    const double error = std::abs(static_cast<double>(actual.token_losses[t]) - loss) / (kLossUnit * (1.0 + loss));
    EXPECT_LE(error, 1.0) << "token " << t << ": " << actual.token_losses[t] << ", expected " << loss;
    worst = std::max(worst, error);
  }
  Worst::note("token losses", worst);
  const double aux = std::abs(actual.aux - expected.aux) / (kLossUnit * expected.aux);
  const double z = std::abs(actual.z - expected.z) / (kLossUnit * expected.z);
  if (expected.aux != 0.0) {
    EXPECT_LE(aux, 1.0) << actual.aux << ", expected " << expected.aux;
    Worst::note("auxiliary loss", aux);
  }
  if (expected.z != 0.0) {
    EXPECT_LE(z, 1.0) << actual.z << ", expected " << expected.z;
    Worst::note("z loss", z);
  }
}

void expect_as_oracle(const Case& c, std::int64_t row_alignment = 32) {
  const Parameters parameters = random_parameters(c.config, c.seed, 0.3);
  const Ids ids = ng_oracle::random_ids(c.B * c.T, c.config.vocabulary, c.seed + 1000);
  const Ids targets = ng_oracle::random_ids(c.B * c.T, c.config.vocabulary, c.seed + 2000);
  const auto [parts, gradients] = loss_and_gradients(c.config, parameters, ids, targets, c.B, c.T);
  Program program(ng_test::program_config(c.config), "f32");
  program.load(parameters);
  program.model.set_row_alignment(row_alignment);
  const ProgramResult result = program.train(ids, targets, c.B, c.T);
  expect_losses(result, parts);
  expect_gradients(result, gradients, c.config);
}

class ModelVsOracle : public testing::TestWithParam<Case> {};

TEST_P(ModelVsOracle, LossesChoicesAndGradients) {
  expect_as_oracle(GetParam());
}

INSTANTIATE_TEST_SUITE_P(AllOptions, ModelVsOracle, testing::ValuesIn(ng_test::all_cases()), ng_test::CaseName());

/// Grouped heads, one dense layer, shared experts, top 2.
Case rich_case(bool renormalize) {
  for (const Case& c : ng_test::all_cases())
    if (c.config.kv_heads == 2 && c.config.shared_experts == 2 && c.config.dense_layers == 1 && c.config.top_k == 2 &&
        c.config.renormalize == renormalize && !c.config.tied_head)
      return c;
  throw std::logic_error("no such case");
}

TEST(ModelVsOracleShapes, OneTokenAndFullContextAndManySequences) {
  for (const auto& [B, T] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {1, 8}, {7, 3}}) {
    SCOPED_TRACE(std::to_string(B) + " sequences of " + std::to_string(T));
    Case c = rich_case(true);
    c.B = B;
    c.T = T;
    expect_as_oracle(c);
  }
}

TEST(ModelVsOracleShapes, RowAlignments) {
  for (const std::int64_t alignment : {1, 16, 32, 128}) {
    SCOPED_TRACE(alignment);
    expect_as_oracle(rich_case(false), alignment);
  }
}

TEST(ModelVsOracleShapes, SequencesLongerThanAKeyTileOfAttention) {
  for (const std::int64_t kv_heads : {1, 2}) {
    Case c = rich_case(true);
    c.config.heads = 2;
    c.config.kv_heads = kv_heads;
    c.config.head_dim = 6;
    c.config.context = 80;
    c.B = 1;
    c.T = 80;
    c.seed = 900 + static_cast<std::uint64_t>(kv_heads);
    expect_as_oracle(c);
  }
}

// Cross entropy is divided by the tokens of the step; auxiliary and z loss of a micro-batch, which are means over its
// own tokens, count by its share of the step.
TEST(ModelVsOracleShapes, MicroBatchesAddUp) {
  for (const bool renormalize : {false, true}) {
    const Case c = rich_case(renormalize);
    const Parameters parameters = random_parameters(c.config, c.seed, 0.3);
    const std::int64_t T = c.T, step_tokens = 3 * T;
    const Ids ids = ng_oracle::random_ids(step_tokens, c.config.vocabulary, c.seed + 3000);
    const Ids targets = ng_oracle::random_ids(step_tokens, c.config.vocabulary, c.seed + 4000);
    Program program(ng_test::program_config(c.config), "f32");
    program.load(parameters);
    Parameters expected;
    ProgramResult last;
    std::int32_t micro_batch = 0;
    for (const auto& [first, sequences] : {std::pair<std::int64_t, std::int64_t>{0, 2}, {2, 1}}) {
      const Ids part_ids(ids.begin() + first * T, ids.begin() + (first + sequences) * T);
      const Ids part_targets(targets.begin() + first * T, targets.begin() + (first + sequences) * T);
      const auto [parts, gradients] = loss_and_gradients(c.config, parameters, part_ids, part_targets, sequences, T);
      const double share = static_cast<double>(sequences) / 3.0;
      for (const auto& [name, gradient] : gradients) {
        std::vector<double>& sum = expected[name];
        sum.resize(gradient.size(), 0.0);
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += share * gradient[i];
      }
      last = program.train(part_ids, part_targets, sequences, T, step_tokens, first * T, micro_batch++);
      expect_losses(last, parts);
    }
    expect_gradients(last, expected, c.config);
  }
}

}  // namespace
