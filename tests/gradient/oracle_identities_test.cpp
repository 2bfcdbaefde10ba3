// SPDX-License-Identifier: Apache-2.0
//
// Claim: the oracle computes the model that its header defines. It has no twin to be compared with, so it is held to
// identities that follow from the definition and that a mistake in one branch breaks. Alone: ctest -R oracle_identities
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "gradient/cases.hpp"
#include "oracle/model_oracle.hpp"

namespace {

using namespace ng_oracle;
using Ids = std::vector<std::int64_t>;

// Sums here have at most a few hundred terms of size 1: 1e-12 is 4500 units in the last place of 1.
constexpr double kRounding = 1e-12;

struct Problem {
  ModelConfig config;
  Parameters parameters;
  Ids ids, targets;
  std::int64_t B = 2, T = 5;

  LossParts run() const { return loss(config, parameters, ids, targets, B, T); }
};

Problem problem_of(const ModelConfig& config, std::uint64_t seed = 7) {
  Problem p;
  p.config = config;
  p.parameters = random_parameters(config, seed, 0.3);
  p.ids = random_ids(p.B * p.T, config.vocabulary, seed + 1);
  p.targets = random_ids(p.B * p.T, config.vocabulary, seed + 2);
  return p;
}

/// Grouped heads, untied, no shared expert, MoE in both layers, renormalized, top 2.
ModelConfig base_config() {
  ModelConfig config = ng_test::all_cases().front().config;
  config.renormalize = true;
  config.top_k = 2;
  return config;
}

void expect_same_losses(const LossParts& a, const LossParts& b) {
  ASSERT_EQ(a.token_losses.size(), b.token_losses.size());
  for (std::size_t i = 0; i < a.token_losses.size(); ++i)
    EXPECT_NEAR(a.token_losses[i], b.token_losses[i], kRounding) << "token " << i;
}

class OracleIdentity : public testing::TestWithParam<ng_test::Case> {};

TEST_P(OracleIdentity, ChangingATokenChangesNothingBeforeItNorInOtherSequences) {
  Problem p = problem_of(GetParam().config);
  const LossParts before = p.run();
  const std::size_t changed = 3;  // of the first sequence of 5
  p.ids[changed] = (p.ids[changed] + 1) % p.config.vocabulary;
  const LossParts after = p.run();
  for (std::size_t i = 0; i < before.token_losses.size(); ++i) {
    if (i < changed || i >= 5) {
      EXPECT_EQ(before.token_losses[i], after.token_losses[i]) << "token " << i;
    } else {
      EXPECT_GT(std::abs(before.token_losses[i] - after.token_losses[i]), 1e-6) << "token " << i;
    }
  }
}

TEST_P(OracleIdentity, UniformLogitsGiveLogV) {
  Problem p = problem_of(GetParam().config);
  std::fill(p.parameters.at("final_norm").begin(), p.parameters.at("final_norm").end(), 0.0);
  const LossParts parts = p.run();
  for (double l : parts.token_losses) EXPECT_NEAR(l, std::log(11.0), kRounding);
}

TEST_P(OracleIdentity, ZeroRouterTakesLowestExpertsAndHasKnownAuxiliaryLosses) {
  Problem p = problem_of(GetParam().config);
  const double moe_layers = static_cast<double>(p.config.layers - p.config.dense_layers);
  for (auto& [name, values] : p.parameters)
    if (name.ends_with("router")) std::fill(values.begin(), values.end(), 0.0);
  const LossParts parts = p.run();
  for (std::size_t l = 0; l < parts.decisions.experts.size(); ++l)
    for (const auto& chosen : parts.decisions.experts[l])
      for (std::size_t k = 0; k < chosen.size(); ++k) EXPECT_EQ(chosen[k], static_cast<int>(k));
  // P_e = 1/E, so aux = coefficient * E * sum_e f_e / E = coefficient; log sum exp = log E.
  EXPECT_NEAR(parts.aux, moe_layers * p.config.aux_coefficient, kRounding);
  EXPECT_NEAR(parts.z, moe_layers * p.config.z_coefficient * std::pow(std::log(5.0), 2), kRounding);
  EXPECT_NEAR(parts.total, parts.cross_entropy + parts.aux + parts.z, kRounding);
}

TEST_P(OracleIdentity, RenamingExpertsChangesNothing) {
  Problem p = problem_of(GetParam().config);
  const LossParts before = p.run();
  const std::vector<std::size_t> order{3, 0, 4, 2, 1};  // new expert i is old expert order[i]
  for (auto& [name, values] : p.parameters) {
    if (!(name.ends_with("/router") || name.ends_with("/fc1") || name.ends_with("/fc2"))) continue;
    const std::vector<double> old = values;
    const std::size_t size = values.size() / order.size();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = old[order[i / size] * size + i % size];
  }
  const LossParts after = p.run();
  expect_same_losses(before, after);
  EXPECT_NEAR(before.total, after.total, kRounding);
  for (std::size_t l = 0; l < before.decisions.experts.size(); ++l)
    for (std::size_t t = 0; t < before.decisions.experts[l].size(); ++t)
      for (std::size_t k = 0; k < before.decisions.experts[l][t].size(); ++k)
        EXPECT_EQ(static_cast<std::size_t>(before.decisions.experts[l][t][k]),
                  order[static_cast<std::size_t>(after.decisions.experts[l][t][k])]);
}

TEST_P(OracleIdentity, ForcingTheOwnChoicesChangesNothingAndOthersDo) {
  const Problem p = problem_of(GetParam().config);
  const LossParts free = p.run();
  EXPECT_GT(free.router_margin, 0.0);
  EXPECT_EQ(free.total, loss(p.config, p.parameters, p.ids, p.targets, p.B, p.T, &free.decisions).total);
  RouterDecisions other = free.decisions;
  for (auto& layer : other.experts)
    for (auto& chosen : layer)
      for (int& e : chosen) e = (e + 1) % 5;
  EXPECT_NE(free.total, loss(p.config, p.parameters, p.ids, p.targets, p.B, p.T, &other).total);
}

INSTANTIATE_TEST_SUITE_P(AllOptions, OracleIdentity, testing::ValuesIn(ng_test::all_cases()), ng_test::CaseName());

TEST(OracleIdentities, RopeDependsOnlyOnTheDistanceAndTurnsPairsHalfAHeadApart) {
  const std::vector<double> q{0.3, -1.2, 0.7, 0.4, -0.5, 0.9};
  const std::vector<double> k{-0.8, 0.1, 1.1, -0.6, 0.2, 0.35};
  const auto dot_at = [&](std::int64_t tq, std::int64_t tk) {
    auto a = q;
    auto b = k;
    rotate(a, tq, 100.0);
    rotate(b, tk, 100.0);
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  };
  EXPECT_NEAR(dot_at(0, 0), std::inner_product(q.begin(), q.end(), k.begin(), 0.0), kRounding);
  for (std::int64_t shift = 1; shift < 20; ++shift) EXPECT_NEAR(dot_at(5, 2), dot_at(5 + shift, 2 + shift), kRounding);
  EXPECT_GT(std::abs(dot_at(5, 2) - dot_at(2, 5)), 1e-3);
  // Pair i = 1 of D = 6, position 3: angle 3 * 100^(-2/6).
  std::vector<double> unit{0, 1, 0, 0, 0, 0};
  rotate(unit, 3, 100.0);
  const double angle = 3.0 / std::cbrt(100.0);
  EXPECT_NEAR(unit[1], std::cos(angle), kRounding);
  EXPECT_NEAR(unit[4], std::sin(angle), kRounding);
}

// One layer: without queries attention is the mean over the prefix, which does not know the order of the prefix;
// with them, only RoPE tells the order.
TEST(OracleIdentities, OrderOfThePrefixMattersOnlyThroughQueries) {
  ModelConfig config = base_config();
  config.layers = 1;
  Problem p = problem_of(config);
  p.ids[0] = 1;
  p.ids[1] = 2;
  Problem swapped = p;
  std::swap(swapped.ids[0], swapped.ids[1]);
  EXPECT_GT(std::abs(p.run().token_losses[4] - swapped.run().token_losses[4]), 1e-6);
  const std::size_t query_entries = static_cast<std::size_t>(config.heads * config.head_dim * config.hidden);
  for (Problem* each : {&p, &swapped}) std::fill_n(each->parameters.at("layer.0/attn_qkv").begin(), query_entries, 0.0);
  EXPECT_NEAR(p.run().token_losses[4], swapped.run().token_losses[4], kRounding);
}

TEST(OracleIdentities, SameTokenEverywhereGivesTheSameLossEverywhere) {
  Problem p = problem_of(base_config());
  std::fill(p.ids.begin(), p.ids.end(), 4);
  std::fill(p.targets.begin(), p.targets.end(), 6);
  const LossParts parts = p.run();
  for (double l : parts.token_losses) EXPECT_NEAR(l, parts.token_losses[0], kRounding);
}

TEST(OracleIdentities, GroupedHeadsEqualFullHeadsWithRepeatedKeysAndValues) {
  Problem grouped = problem_of(base_config());
  Problem full = grouped;
  full.config.kv_heads = 4;
  const std::size_t head = static_cast<std::size_t>(grouped.config.head_dim * grouped.config.hidden);
  for (auto& [name, values] : full.parameters) {
    if (!name.ends_with("attn_qkv")) continue;
    const std::vector<double> old = values;  // q0 q1 q2 q3 k0 k1 v0 v1
    values.clear();
    for (std::size_t source : {0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7})
      values.insert(values.end(), old.begin() + static_cast<std::ptrdiff_t>(source * head),
                    old.begin() + static_cast<std::ptrdiff_t>((source + 1) * head));
  }
  expect_same_losses(grouped.run(), full.run());
}

TEST(OracleIdentities, TiedHeadEqualsUntiedWithACopyAndItsGradientIsTheSum) {
  ModelConfig config = base_config();
  config.tied_head = true;
  const Problem tied = problem_of(config);
  Problem untied = tied;
  untied.config.tied_head = false;
  untied.parameters["head"] = untied.parameters.at("embedding");
  expect_same_losses(tied.run(), untied.run());
  const auto a = loss_and_gradients(tied.config, tied.parameters, tied.ids, tied.targets, tied.B, tied.T).gradients;
  const auto b =
      loss_and_gradients(untied.config, untied.parameters, untied.ids, untied.targets, untied.B, untied.T).gradients;
  for (std::size_t i = 0; i < a.at("embedding").size(); ++i)
    EXPECT_NEAR(a.at("embedding")[i], b.at("embedding")[i] + b.at("head")[i], kRounding);
}

/// Same parameters, layers 0 and 1 dense with the width and weights of `fc1`, `fc2` given per layer.
Problem dense_twin(const Problem& moe, std::int64_t width, const std::string& fc1, const std::string& fc2) {
  Problem dense = moe;
  dense.config.dense_layers = moe.config.layers;
  dense.config.dense_width = width;
  for (const std::string layer : {"layer.0/", "layer.1/"}) {
    const auto first = [&](const std::string& name) {  // the first expert's share of a stack, or all of a shared one
      const auto& values = moe.parameters.at(layer + name);
      const std::size_t stack = name.starts_with("shared") ? 1 : static_cast<std::size_t>(moe.config.experts);
      return std::vector<double>(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / stack));
    };
    dense.parameters[layer + "dense_fc1"] = first(fc1);
    dense.parameters[layer + "dense_fc2"] = first(fc2);
  }
  std::erase_if(dense.parameters,
                [&](const auto& entry) { return !parameter_shapes(dense.config).contains(entry.first); });
  return dense;
}

TEST(OracleIdentities, EqualExpertsWithRenormalizedWeightsAreADenseLayer) {
  for (int top_k : {1, 2, 3}) {
    ModelConfig config = base_config();
    config.top_k = top_k;
    Problem moe = problem_of(config);
    for (auto& [name, values] : moe.parameters) {
      if (!name.ends_with("/fc1") && !name.ends_with("/fc2")) continue;
      const std::size_t size = values.size() / 5;
      for (std::size_t i = size; i < values.size(); ++i) values[i] = values[i - size];
    }
    expect_same_losses(moe.run(), dense_twin(moe, config.expert_width, "fc1", "fc2").run());
  }
}

TEST(OracleIdentities, SilentExpertsLeaveTheSharedExpertWhichIsADenseLayer) {
  ModelConfig config = base_config();
  config.shared_experts = 2;
  Problem moe = problem_of(config);
  for (auto& [name, values] : moe.parameters)
    if (name.ends_with("/fc2")) std::fill(values.begin(), values.end(), 0.0);
  expect_same_losses(moe.run(), dense_twin(moe, 2 * config.expert_width, "shared_fc1", "shared_fc2").run());
}

TEST(OracleIdentities, RawWeightsOfAllExpertsNeedNoRenormalization) {
  ModelConfig config = base_config();
  config.top_k = config.experts;
  Problem p = problem_of(config);
  const LossParts renormalized = p.run();
  p.config.renormalize = false;
  expect_same_losses(renormalized, p.run());
  p.config.top_k = p.config.experts - 1;
  EXPECT_GT(std::abs(renormalized.total - p.run().total), 1e-6);
}

// Small enough for paper: one token, C = 1, so rmsnorm(x) = x / sqrt(x^2 + eps) * g; all matrices 1x1 or 2x1.
TEST(OracleIdentities, OneTokenOneChannelByHand) {
  ModelConfig c;
  c.vocabulary = 2;
  c.layers = 1;
  c.hidden = 1;
  c.heads = c.kv_heads = 1;
  c.head_dim = 2;
  c.norm_epsilon = 0.5;
  c.experts = 2;
  c.top_k = 1;
  c.expert_width = 1;
  c.renormalize = false;
  c.aux_coefficient = 0.25;
  c.z_coefficient = 0.125;
  Parameters p;
  p["embedding"] = {9.0, 0.7};
  p["layer.0/attn_norm"] = {1.5};
  p["layer.0/attn_qkv"] = {4, 5, 6, 7, 0.2, -0.3};  // one key: the probability is 1, queries and keys are silent
  p["layer.0/attn_out"] = {0.6, 0.9};
  p["layer.0/ffn_norm"] = {0.8};
  p["layer.0/router"] = {-0.4, 1.1};
  p["layer.0/fc1"] = {9, 9, 0.5, -1.3};
  p["layer.0/fc2"] = {9, 0.35};
  p["final_norm"] = {2.0};
  p["head"] = {0.3, -0.8};
  const auto norm = [](double x, double g) { return x / std::sqrt(x * x + 0.5) * g; };
  const double h1 = norm(0.7, 1.5);
  const double x1 = 0.7 + 0.6 * (0.2 * h1) + 0.9 * (-0.3 * h1);
  const double h2 = norm(x1, 0.8);
  const double e0 = std::exp(-0.4 * h2);
  const double e1 = std::exp(1.1 * h2);
  const double p1 = e1 / (e0 + e1);
  const double gate = 0.5 * h2;
  const double x2 = x1 + p1 * 0.35 * (gate / (1 + std::exp(-gate))) * (-1.3 * h2);
  const double h3 = norm(x2, 2.0);
  const double expected = -std::log(std::exp(0.3 * h3) / (std::exp(0.3 * h3) + std::exp(-0.8 * h3)));
  const LossParts parts = loss(c, p, {1}, {0}, 1, 1);
  EXPECT_NEAR(parts.cross_entropy, expected, kRounding);
  EXPECT_NEAR(parts.aux, 0.25 * 2 * p1, kRounding);
  EXPECT_NEAR(parts.z, 0.125 * std::pow(std::log(e0 + e1), 2), kRounding);
}

// As above with two tokens and a silent expert: scores are q.k / sqrt(2), turned by position 1 only.
TEST(OracleIdentities, TwoTokenAttentionByHand) {
  ModelConfig c;
  c.vocabulary = 3;
  c.layers = 1;
  c.hidden = 1;
  c.heads = c.kv_heads = 1;
  c.head_dim = 2;
  c.dense_layers = 1;
  c.dense_width = 1;
  Parameters p;
  p["embedding"] = {0.5, -0.9, 0};
  p["layer.0/attn_norm"] = {1.0};
  p["layer.0/attn_qkv"] = {1.2, 0.4, -0.7, 0.8, 0.6, -1.1};  // q0 q1 k0 k1 v0 v1
  p["layer.0/attn_out"] = {1.0, 0.5};
  p["layer.0/ffn_norm"] = {1.0};
  p["layer.0/dense_fc1"] = {1.0, 1.0};
  p["layer.0/dense_fc2"] = {0.0};
  p["final_norm"] = {1.0};
  p["head"] = {0.3, -0.8, 0.1};
  const auto norm = [](double x) { return x / std::sqrt(x * x + 1e-5); };
  const double h0 = norm(0.5);
  const double h1 = norm(-0.9);
  const double cosine = std::cos(1.0);
  const double sine = std::sin(1.0);
  const double q0 = (1.2 * cosine - 0.4 * sine) * h1;
  const double q1 = (0.4 * cosine + 1.2 * sine) * h1;
  const double with_first = (q0 * -0.7 + q1 * 0.8) * h0 / std::sqrt(2.0);
  const double with_itself = (1.2 * -0.7 + 0.4 * 0.8) * h1 * h1 / std::sqrt(2.0);
  const double first = std::exp(with_first) / (std::exp(with_first) + std::exp(with_itself));
  const double value = 0.6 * 1.0 - 1.1 * 0.5;
  const double x = -0.9 + value * (first * h0 + (1 - first) * h1);
  const double h = norm(x);
  const double sum = std::exp(0.3 * h) + std::exp(-0.8 * h) + std::exp(0.1 * h);
  const LossParts parts = loss(c, p, {0, 1}, {0, 2}, 1, 2);
  EXPECT_NEAR(parts.token_losses[1], std::log(sum) - 0.1 * h, kRounding);
}

TEST(OracleIdentities, RejectsWhatDoesNotFit) {
  const Problem p = problem_of(base_config());
  Problem missing = p;
  missing.parameters.erase("head");
  EXPECT_THROW(missing.run(), std::invalid_argument);
  Problem surplus = p;
  surplus.config.tied_head = true;
  EXPECT_THROW(surplus.run(), std::invalid_argument);
  Problem out_of_range = p;
  out_of_range.ids[0] = p.config.vocabulary;
  EXPECT_THROW(out_of_range.run(), std::invalid_argument);
}

}  // namespace
