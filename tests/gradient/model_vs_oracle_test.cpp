// SPDX-License-Identifier: Apache-2.0
//
// Claim: the program's model computes the losses, the router's choices and every gradient that the double-precision
// oracle computes, for every combination of the model's first options and every pair of its later ones, several
// sequences, sequences longer than a key tile of attention, and micro-batches whose gradients add up. FP32 everywhere.
// Alone: ctest -R model_vs_oracle
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "gradient/option_cases.hpp"
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
// as many backward: 30, and 42 with latent attention, which has 2 more norms and 4 more products; head and loss 10). A
// stage is a chain of at most n fma (n = 80: the longest attention row; 12 to 30 elsewhere) whose roundings add like a
// random walk: sqrt(n) u at most, relative to the size of the stage's terms. Independent stages add in quadrature:
// sqrt(30 S) u for one element; the largest of 1e5 elements lies 4.5 deviations out. Norms over small residuals and
// sharp softmaxes multiply relative errors: a factor of 4 (the parameters are N(0, 0.3^2), and a norm of rows of size
// 0.3 multiplies by 3). Two layers: S = 70, 825 u; of latent attention: 956 u. Relative to |g| plus the root mean
// square of the tensor: an element that is a small difference of large terms has the error of its terms, which have the
// size of the tensor.
double gradient_unit(const ModelConfig& c) {
  const double stages = static_cast<double>(c.layers * (c.mla.present() ? 42 : 30) + 10);
  return 4.0 * 4.5 * std::sqrt(30.0 * stages) * 0x1p-24;
}
// Losses: half as many stages, values of size 1 to 5 (relative to 1 + |loss|).
double loss_unit(const ModelConfig& c) {
  return 0.5 * gradient_unit(c);
}

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
  const std::string attention = c.mla.present()                        ? "latent"
                                : c.qk_norm == ng_oracle::QkNorm::none ? "grouped"
                                : c.qk_norm == ng_oracle::QkNorm::head ? "qk_norm head"
                                                                       : "qk_norm full";
  return {"option kv_heads " + std::to_string(c.kv_heads) + "/" + std::to_string(c.heads),
          std::string("option head ") + (c.tied_head ? "tied" : "untied"),
          "option shared " + std::to_string(c.shared_experts),
          "option dense " + std::to_string(c.dense_layers),
          std::string("option weights ") + (c.renormalize ? "renormalized" : "raw"),
          "option top " + std::to_string(c.top_k),
          "option attention " + attention,
          std::string("option gate ") + (c.gate == ng_oracle::Gate::softmax ? "softmax" : "sigmoid"),
          "option groups " + std::to_string(c.route_groups),
          std::string("option bias ") + (c.bias_rate > 0.0 ? "yes" : "no"),
          std::string("option balance ") + (c.balance == ng_oracle::Balance::batch ? "batch" : "sequence"),
          std::string("option ") + (c.capacity_factor == 0.0                 ? "dropless"
                                    : c.drop == ng_oracle::Drop::probability ? "drop by probability"
                                                                             : "drop by position")};
}

/// "gradient fc1" of "layer.0/fc1".
std::string kind_of(const std::string& parameter) {
  return "gradient " + parameter.substr(parameter.find('/') + 1);
}

/// Largest error of a gradient in units of the tolerance; `at` is where.
double worst_error(const std::vector<float>& actual, const std::vector<double>& expected, double unit,
                   std::size_t* at) {
  double square = 0.0;
  for (const double g : expected) square += g * g;
  const double size = std::sqrt(square / static_cast<double>(expected.size()));
  double worst = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error =
        std::abs(static_cast<double>(actual[i]) - expected[i]) / (unit * (std::abs(expected[i]) + size));
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
  for (const auto& [name, gradient] : actual.gradients) EXPECT_TRUE(expected.contains(name)) << name;
  for (const auto& [name, gradient] : expected) {
    if (name.ends_with("router_bias")) {  // moved by the load, not by the loss
      EXPECT_FALSE(actual.gradients.contains(name)) << name;
      continue;
    }
    ASSERT_TRUE(actual.gradients.contains(name)) << name;
    const std::vector<float>& got = actual.gradients.at(name);
    ASSERT_EQ(got.size(), gradient.size()) << name;
    std::size_t at = 0;
    const double worst = worst_error(got, gradient, gradient_unit(config), &at);
    EXPECT_LE(worst, 1.0) << name << "[" << at << "] is " << got[at] << ", expected " << gradient[at];
    Worst::note(kind_of(name), worst);
    for (const std::string& option : options_of(config)) Worst::note(option, worst);
  }
}

void expect_losses(const ProgramResult& actual, const ng_oracle::LossParts& expected, const ModelConfig& config) {
  const double unit = loss_unit(config);
  // Choices: relative errors of `unit` in two scores cannot change them.
  ASSERT_GT(expected.router_margin, 2.0 * unit) << "take another seed: a token is undecided between two experts";
  EXPECT_EQ(actual.decisions.experts, expected.decisions.experts);
  EXPECT_EQ(actual.decisions.kept, expected.decisions.kept);
  ASSERT_EQ(actual.token_losses.size(), expected.token_losses.size());
  double worst = 0.0;
  for (std::size_t t = 0; t < expected.token_losses.size(); ++t) {
    const double loss = expected.token_losses[t];
    const double error = std::abs(static_cast<double>(actual.token_losses[t]) - loss) / (unit * (1.0 + loss));
    EXPECT_LE(error, 1.0) << "token " << t << ": " << actual.token_losses[t] << ", expected " << loss;
    worst = std::max(worst, error);
  }
  Worst::note("token losses", worst);
  const double aux = std::abs(actual.aux - expected.aux) / (unit * expected.aux);
  const double z = std::abs(actual.z - expected.z) / (unit * expected.z);
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
  const auto [parameters, ids, targets] = ng_test::inputs_of(c);
  const auto [parts, gradients] = loss_and_gradients(c.config, parameters, ids, targets, c.B, c.T);
  Program program(ng_test::program_config(c.config), "f32");
  program.load(parameters);
  program.model.set_row_alignment(row_alignment);
  const ProgramResult result = program.train(ids, targets, c.B, c.T);
  expect_losses(result, parts, c.config);
  expect_gradients(result, gradients, c.config);
}

class ModelVsOracle : public testing::TestWithParam<Case> {};

TEST_P(ModelVsOracle, LossesChoicesAndGradients) {
  expect_as_oracle(GetParam());
}

INSTANTIATE_TEST_SUITE_P(AllOptions, ModelVsOracle, testing::ValuesIn(ng_test::all_cases()), ng_test::CaseName());
INSTANTIATE_TEST_SUITE_P(Options, ModelVsOracle, testing::ValuesIn(ng_test::option_cases()), ng_test::CaseNumber());

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
    expect_as_oracle(ng_test::with_clear_router(c));
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
    expect_as_oracle(ng_test::with_clear_router(c));
  }
}

/// Three sequences of a case, trained as two and one.
struct Step {
  Case part;
  std::int64_t tokens() const { return 3 * part.T; }
  ng_test::Inputs inputs() const { return ng_test::inputs_of(with_sequences(3)); }
  Case with_sequences(std::int64_t count) const {
    Case c = part;
    c.B = count;
    return c;
  }

  ProgramResult train(Program& program) const {
    const ng_test::Inputs in = inputs();
    program.load(in.parameters);
    ProgramResult last;
    std::int32_t micro_batch = 0;
    for (const auto& [first, sequences] : {std::pair<std::int64_t, std::int64_t>{0, 2}, {2, 1}})
      last = program.train(tokens_of(in.ids, first, sequences), tokens_of(in.targets, first, sequences), sequences,
                           part.T, tokens(), first * part.T, micro_batch++);
    return last;
  }
  Ids tokens_of(const Ids& ids, std::int64_t first, std::int64_t sequences) const {
    return Ids(ids.begin() + first * part.T, ids.begin() + (first + sequences) * part.T);
  }
};

// Cross entropy is divided by the tokens of the step; auxiliary and z loss of a micro-batch, which are means over its
// own tokens, count by its share of the step.
TEST(ModelVsOracleMicroBatches, AddUp) {
  for (const bool renormalize : {false, true}) {
    Step step{rich_case(renormalize)};
    step.part = ng_test::with_clear_router(step.with_sequences(3));
    const auto [parameters, ids, targets] = step.inputs();
    Parameters expected;
    for (const auto& [first, sequences] : {std::pair<std::int64_t, std::int64_t>{0, 2}, {2, 1}}) {
      const auto gradients = loss_and_gradients(step.part.config, parameters, step.tokens_of(ids, first, sequences),
                                                step.tokens_of(targets, first, sequences), sequences, step.part.T)
                                 .gradients;
      for (const auto& [name, gradient] : gradients) {
        std::vector<double>& sum = expected[name];
        sum.resize(gradient.size(), 0.0);
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(sequences) / 3.0 * gradient[i];
      }
    }
    Program program(ng_test::program_config(step.part.config), "f32");
    expect_gradients(step.train(program), expected, step.part.config);
  }
}

// Where balance and capacity know the sequence only, the step is one thing however it is cut.
TEST(ModelVsOracleMicroBatches, ChangeNothingWhereTheScopeIsTheSequence) {
  for (Case c : ng_test::option_cases()) {
    SCOPED_TRACE(c.config.name);
    c.config.balance = ng_oracle::Balance::sequence;
    Step step{c};
    step.part = ng_test::with_clear_router(step.with_sequences(3));
    const auto [parameters, ids, targets] = step.inputs();
    const auto expected = loss_and_gradients(c.config, parameters, ids, targets, 3, c.T).gradients;
    Program program(ng_test::program_config(c.config), "f32");
    expect_gradients(step.train(program), expected, c.config);
  }
}

}  // namespace
