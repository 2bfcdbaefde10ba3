// SPDX-License-Identifier: Apache-2.0
//
// Claim: the oracle's later options (QK-norm, latent attention, gate, groups, bias, balance, capacity) mean what its
// header says: identities that follow from the definition and that a mistake in one branch breaks.
// Alone: ctest -R oracle_options
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "gradient/option_cases.hpp"

namespace {

using namespace ng_oracle;
using ng_test::base_case;
using ng_test::Case;
using ng_test::Inputs;
using ng_test::inputs_of;

// Sums here have at most a few hundred terms of size 1: 1e-12 is 4500 units in the last place of 1.
constexpr double kRounding = 1e-12;

struct Problem {
  ModelConfig config;
  Inputs in;
  std::int64_t B = 2, T = 6;

  LossParts run(const RouterDecisions* forced = nullptr) const {
    return loss(config, in.parameters, in.ids, in.targets, B, T, forced);
  }
  Parameters gradients(const RouterDecisions* forced = nullptr) const {
    return loss_and_gradients(config, in.parameters, in.ids, in.targets, B, T, forced).gradients;
  }
  std::vector<double>& parameter(const std::string& name) { return in.parameters.at(name); }
  /// Every parameter of that short name.
  template <class Change>
  void change(const std::string& name, Change change) {
    int found = 0;
    for (auto& [full, values] : in.parameters)
      if (full == name || full.ends_with("/" + name)) {
        change(values);
        ++found;
      }
    ASSERT_GT(found, 0) << name;
  }
};

/// Defaults with some levels of option_factors() set.
Problem problem_with(const std::vector<std::string>& levels) {
  const auto factors = ng_test::option_factors();
  const Case c = ng_test::with_telling_seed(case_of(factors, choice_with(factors, levels)));
  return {c.config, inputs_of(c), c.B, c.T};
}

void expect_same(const LossParts& a, const LossParts& b) {
  ASSERT_EQ(a.token_losses.size(), b.token_losses.size());
  for (std::size_t i = 0; i < a.token_losses.size(); ++i)
    EXPECT_NEAR(a.token_losses[i], b.token_losses[i], kRounding) << "token " << i;
  EXPECT_NEAR(a.total, b.total, kRounding);
}

void expect_other(const LossParts& a, const LossParts& b) {
  EXPECT_GT(std::abs(a.total - b.total), 1e-6);
}

void scale_rows(std::vector<double>& matrix, std::size_t cols, std::size_t first, std::size_t rows, double factor) {
  for (std::size_t i = first * cols; i < (first + rows) * cols; ++i) matrix[i] *= factor;
}

const std::string kCapacityByProbability = "capacity_factor=0.75 drop=probability";
const std::string kCapacityByPosition = "capacity_factor=0.75 drop=position";
const std::string kTwoOfThreeGroups = "route_groups=3 route_groups_kept=2 group_score=top2_sum";

TEST(OracleQkNorm, SizeOfQueriesAndKeysDoesNotMatter) {
  for (const std::string level : {"qk_norm=head", "qk_norm=full"}) {
    Problem p = problem_with({level});
    p.config.norm_epsilon = 0.0;
    const LossParts before = p.run();
    const std::size_t C = static_cast<std::size_t>(p.config.hidden);
    Problem one_head = p;
    // H = 4 query heads, then 2 key heads, 4 rows each; values are not normed.
    p.change("attn_qkv", [&](auto& w) {
      scale_rows(w, C, 0, 16, 3.0);
      scale_rows(w, C, 16, 8, 0.2);
    });
    expect_same(before, p.run());
    p.change("attn_qkv", [&](auto& w) { scale_rows(w, C, 24, 8, 3.0); });
    expect_other(before, p.run());
    // One head of a norm over all heads matters to the others.
    one_head.change("attn_qkv", [&](auto& w) { scale_rows(w, C, 4, 4, 3.0); });
    if (level == "qk_norm=head") expect_same(before, one_head.run());
    if (level == "qk_norm=full") expect_other(before, one_head.run());
  }
}

TEST(OracleQkNorm, OneHeadKnowsNoDifference) {
  Problem p = problem_with({"qk_norm=head"});
  p.config.heads = p.config.kv_heads = 1;
  Case c = base_case();
  c.config = p.config;
  p.in = inputs_of(c);
  const LossParts head = p.run();
  p.config.qk_norm = QkNorm::full;
  expect_same(head, p.run());
}

// rmsnorm twice is rmsnorm once when gains are one and epsilon is zero, so that a square identity in front of a rank
// leaves h.
TEST(OracleMla, IdentityProjectionsAreMultiQueryAttention) {
  Problem latent = problem_with({"mla q_rank=0"});
  ModelConfig& m = latent.config;
  m.norm_epsilon = 0.0;
  m.mla = {0, m.hidden, 0, 6, 6};
  m.head_dim = 6;
  Case c = base_case();
  c.config = m;
  latent.in = inputs_of(c);
  latent.change("attn_norm", [](auto& g) { std::fill(g.begin(), g.end(), 1.0); });
  latent.change("kv_a_norm", [](auto& g) { std::fill(g.begin(), g.end(), 1.0); });
  const std::size_t C = static_cast<std::size_t>(m.hidden);
  Problem plain = latent;
  plain.config.mla = {};
  plain.config.kv_heads = 1;
  for (const std::string layer : {"layer.0/", "layer.1/"}) {
    std::vector<double>& a = latent.parameter(layer + "attn_kv_a");  // [C + 6, C]
    std::fill_n(a.begin(), C * C, 0.0);
    for (std::size_t i = 0; i < C; ++i) a[i * C + i] = 1.0;
    std::vector<double>& b = latent.parameter(layer + "attn_kv_b");  // [4 * 6, C]: values, the same for all heads
    for (std::size_t i = 6 * C; i < b.size(); ++i) b[i] = b[i - 6 * C];
    std::vector<double> qkv = latent.parameter(layer + "attn_q");
    qkv.insert(qkv.end(), a.begin() + static_cast<std::ptrdiff_t>(C * C), a.end());
    qkv.insert(qkv.end(), b.begin(), b.begin() + static_cast<std::ptrdiff_t>(6 * C));
    for (const std::string name : {"attn_q", "attn_kv_a", "attn_kv_b", "kv_a_norm"})
      plain.in.parameters.erase(layer + name);
    plain.in.parameters[layer + "attn_qkv"] = qkv;
  }
  expect_same(latent.run(), plain.run());
}

TEST(OracleMla, AnIdentityRankOfQueriesIsNoRank) {
  Problem direct = problem_with({"mla q_rank=0"});
  direct.config.norm_epsilon = 0.0;
  direct.change("attn_norm", [](auto& g) { std::fill(g.begin(), g.end(), 1.0); });
  Problem ranked = direct;
  const std::size_t C = static_cast<std::size_t>(direct.config.hidden);
  ranked.config.mla.q_rank = direct.config.hidden;
  for (const std::string layer : {"layer.0/", "layer.1/"}) {
    std::vector<double> identity(C * C, 0.0);
    for (std::size_t i = 0; i < C; ++i) identity[i * C + i] = 1.0;
    ranked.in.parameters[layer + "attn_q_a"] = identity;
    ranked.in.parameters[layer + "q_a_norm"] = std::vector<double>(C, 1.0);
    ranked.in.parameters[layer + "attn_q_b"] = direct.parameter(layer + "attn_q");
    ranked.in.parameters.erase(layer + "attn_q");
  }
  expect_same(direct.run(), ranked.run());
}

// One layer: without the rope part of queries, nothing tells the order of the prefix.
TEST(OracleMla, OrderOfThePrefixMattersOnlyThroughTheRopePart) {
  Problem p = problem_with({"mla q_rank=0"});
  p.config.layers = 1;
  std::erase_if(p.in.parameters, [](const auto& entry) { return entry.first.starts_with("layer.1"); });
  p.in.ids[0] = 1;
  p.in.ids[1] = 2;
  const auto last_loss = [](Problem problem, bool swapped) {
    if (swapped) std::swap(problem.in.ids[0], problem.in.ids[1]);
    return problem.run().token_losses[5];
  };
  EXPECT_GT(std::abs(last_loss(p, false) - last_loss(p, true)), 1e-6);
  const std::size_t C = static_cast<std::size_t>(p.config.hidden);
  p.change("attn_q", [&](auto& w) {  // per head 2 nope rows, 4 rope rows
    for (std::size_t head = 0; head < 4; ++head) scale_rows(w, C, head * 6 + 2, 4, 0.0);
  });
  EXPECT_NEAR(last_loss(p, false), last_loss(p, true), kRounding);
}

TEST(OracleGate, ZeroLogitsGiveOneHalfEach) {
  for (const bool renormalize : {true, false}) {
    Problem sigmoid = problem_with({"gate=sigmoid"});
    sigmoid.change("router", [](auto& w) { std::fill(w.begin(), w.end(), 0.0); });
    sigmoid.config.renormalize = renormalize;
    const LossParts parts = sigmoid.run();
    EXPECT_NEAR(parts.aux, 2 * sigmoid.config.aux_coefficient, kRounding);
    EXPECT_NEAR(parts.z, 2 * sigmoid.config.z_coefficient * std::pow(std::log(6.0), 2), kRounding);
    Problem softmax = sigmoid;  // shares of 1/6 there
    softmax.config.gate = Gate::softmax;
    if (!renormalize) softmax.config.routed_scaling = 3.0;
    expect_same(parts, softmax.run());
  }
}

TEST(OracleGate, EqualExpertsAreADenseLayer) {
  for (const std::string gate : {"gate=softmax", "gate=sigmoid"}) {
    Problem moe = problem_with({gate, "routed_scaling=2.5", "bias_rate=0.01", kTwoOfThreeGroups});
    moe.config.aux_coefficient = moe.config.z_coefficient = 0.0;
    Problem dense = moe;
    dense.config.dense_layers = 2;
    dense.config.dense_width = moe.config.expert_width;
    for (const std::string layer : {"layer.0/", "layer.1/"})
      for (const std::string name : {"fc1", "fc2"}) {
        std::vector<double>& stack = moe.parameter(layer + name);
        const std::size_t size = stack.size() / 6;
        for (std::size_t i = size; i < stack.size(); ++i) stack[i] = stack[i - size];
        std::vector<double> one(stack.begin(), stack.begin() + static_cast<std::ptrdiff_t>(size));
        if (name == "fc2")
          for (double& w : one) w *= 2.5;
        dense.in.parameters[layer + "dense_" + name] = one;
      }
    std::erase_if(dense.in.parameters,
                  [&](const auto& entry) { return !parameter_shapes(dense.config).contains(entry.first); });
    expect_same(moe.run(), dense.run());
  }
}

TEST(OracleGroups, KeepingAllGroupsIsHavingNone) {
  const Problem none = problem_with({"bias_rate=0.01"});
  for (const std::int64_t groups : {2, 3}) {
    for (const GroupScore score : {GroupScore::max, GroupScore::top2_sum}) {
      Problem all = none;
      all.config.route_groups = all.config.route_groups_kept = groups;
      all.config.group_score = score;
      EXPECT_EQ(all.run().decisions.experts, none.run().decisions.experts);
      EXPECT_EQ(all.run().total, none.run().total);
    }
  }
}

TEST(OracleGroups, BestExpertsLieInTheGroupsOfLargestMaximum) {
  const Problem none = problem_with({"gate=sigmoid"});
  Problem three = none;  // K = 2 experts lie in at most 2 groups, and those have the largest maxima
  three.config.route_groups = 3;
  three.config.route_groups_kept = 2;
  EXPECT_EQ(three.run().total, none.run().total);
  three.config.route_groups_kept = 1;
  expect_other(three.run(), none.run());
}

TEST(OracleGroups, ChosenExpertsShareTheKeptGroups) {
  const Problem p = problem_with({"route_groups=2 route_groups_kept=1 group_score=top2_sum", "gate=sigmoid"});
  for (const auto& layer : p.run().decisions.experts)
    for (const auto& slots : layer) EXPECT_EQ(slots[0] / 3, slots[1] / 3);
}

TEST(OracleBias, MovesTheChoiceAndNotTheWeight) {
  for (const std::string gate : {"gate=softmax", "gate=sigmoid"}) {
    const Problem p = problem_with({gate, "bias_rate=0.01"});
    const LossParts before = p.run();
    Problem moved = p;
    moved.change("router_bias", [](auto& b) { std::fill(b.begin(), b.end(), 0.0); });
    expect_other(before, moved.run());
    EXPECT_EQ(before.total, moved.run(&before.decisions).total);
    // The same for all experts is no bias; so is none. (The seed's margin is 1e-3.)
    Problem without = moved;
    without.config.bias_rate = 0.0;
    std::erase_if(without.in.parameters, [](const auto& entry) { return entry.first.ends_with("router_bias"); });
    EXPECT_EQ(moved.run().total, without.run().total);
    moved.change("router_bias", [](auto& b) { std::fill(b.begin(), b.end(), 0.5); });
    EXPECT_EQ(moved.run().total, without.run().total);
    // A large one always wins, and comes first.
    moved.change("router_bias", [](auto& b) { b[4] = 5.0; });
    for (const auto& layer : moved.run().decisions.experts)
      for (const auto& slots : layer) EXPECT_EQ(slots[0], 4);
  }
}

TEST(OracleBalance, ASequenceAloneIsABatch) {
  Problem p = problem_with({"balance=sequence"});
  p.B = 1;
  p.in.ids.resize(6);
  p.in.targets.resize(6);
  const double of_sequence = p.run().aux;
  p.config.balance = Balance::batch;
  EXPECT_NEAR(of_sequence, p.run().aux, kRounding);
}

/// Mean over the two sequences, each run alone.
std::pair<double, Parameters> sequence_by_sequence(const Problem& whole) {
  double total = 0.0;
  Parameters gradients;
  for (std::ptrdiff_t b = 0; b < 2; ++b) {
    Problem one = whole;
    one.B = 1;
    one.in.ids.assign(whole.in.ids.begin() + 6 * b, whole.in.ids.begin() + 6 * (b + 1));
    one.in.targets.assign(whole.in.targets.begin() + 6 * b, whole.in.targets.begin() + 6 * (b + 1));
    total += 0.5 * one.run().total;
    for (const auto& [name, gradient] : one.gradients()) {
      gradients[name].resize(gradient.size(), 0.0);
      for (std::size_t i = 0; i < gradient.size(); ++i) gradients[name][i] += 0.5 * gradient[i];
    }
  }
  return {total, gradients};
}

TEST(OracleScope, SequencesAddUpUnderCapacityAndSequenceBalance) {
  for (const std::string& capacity : {kCapacityByPosition, kCapacityByProbability}) {
    const Problem p = problem_with({capacity, "balance=sequence"});
    const auto [total, gradients] = sequence_by_sequence(p);
    EXPECT_NEAR(p.run().total, total, kRounding);
    for (const auto& [name, gradient] : p.gradients())
      for (std::size_t i = 0; i < gradient.size(); ++i)
        EXPECT_NEAR(gradient[i], gradients.at(name)[i], kRounding) << name;
    Problem batch = p;
    batch.config.balance = Balance::batch;
    EXPECT_GT(std::abs(batch.run().total - sequence_by_sequence(batch).first), 1e-6);
  }
}

TEST(OracleCapacity, ALargeOneDropsNothing) {
  for (const std::string& order : {kCapacityByPosition, kCapacityByProbability}) {
    Problem p = problem_with({order});
    Problem dropless = p;
    dropless.config.capacity_factor = 0.0;
    expect_other(p.run(), dropless.run());
    p.config.capacity_factor = 3.0;  // 6 slots: every token of a sequence
    EXPECT_EQ(p.run().total, dropless.run().total);
  }
}

TEST(OracleCapacity, ServesTheFirstOrTheBestUpToTheCapacity) {
  for (const std::string& order : {kCapacityByPosition, kCapacityByProbability}) {
    const Problem p = problem_with({order});
    const RouterDecisions d = p.run().decisions;
    int out_of_order = 0;
    for (std::size_t layer = 0; layer < 2; ++layer)
      for (std::size_t b = 0; b < 2; ++b)
        for (int e = 0; e < 6; ++e) {
          std::vector<int> kept;
          for (std::size_t t = 6 * b; t < 6 * (b + 1); ++t)
            for (std::size_t k = 0; k < 2; ++k)
              if (d.experts[layer][t][k] == e) kept.push_back(d.kept[layer][t][k]);
          // ceil(0.75 * 6 * 2 / 6) = 2
          EXPECT_EQ(std::count(kept.begin(), kept.end(), 1), std::min<std::ptrdiff_t>(2, std::ssize(kept)));
          out_of_order += std::is_sorted(kept.rbegin(), kept.rend()) ? 0 : 1;
        }
    EXPECT_EQ(out_of_order == 0, p.config.drop == Drop::position) << out_of_order;
  }
}

TEST(OracleCapacity, EqualScoresServeTheFirstTokens) {
  Problem p = problem_with({kCapacityByProbability});
  p.change("attn_out", [](auto& w) { std::fill(w.begin(), w.end(), 0.0); });
  std::fill(p.in.ids.begin(), p.in.ids.end(), 3);
  const std::vector<std::vector<int>> kept = p.run().decisions.kept[0];
  for (std::size_t t = 0; t < kept.size(); ++t)
    EXPECT_EQ(kept[t], (t % 6 < 2 ? std::vector<int>{1, 1} : std::vector<int>{0, 0})) << t;
}

TEST(OracleCapacity, ADroppedSlotIsASilentExpertAndOtherWeightsStay) {
  Problem p = problem_with({"shared_experts=2"});
  RouterDecisions d = p.run().decisions;
  // Expert 4 drops everything: as if its output were zero.
  for (std::size_t layer = 0; layer < 2; ++layer)
    for (std::size_t t = 0; t < d.experts[layer].size(); ++t)
      for (std::size_t k = 0; k < 2; ++k) d.kept[layer][t][k] = d.experts[layer][t][k] == 4 ? 0 : 1;
  const LossParts dropped = p.run(&d);
  expect_other(dropped, p.run());
  RouterDecisions all = d;
  for (auto& layer : all.kept)
    for (auto& slots : layer) std::fill(slots.begin(), slots.end(), 1);
  p.change("fc2", [](auto& w) {
    const auto size = static_cast<std::ptrdiff_t>(w.size() / 6);
    std::fill(w.begin() + 4 * size, w.begin() + 5 * size, 0.0);
  });
  expect_same(dropped, p.run(&all));
}

TEST(OracleOptions, ContradictionsAreRejected) {
  const auto rejected = [](const std::vector<std::string>& levels, const std::function<void(ModelConfig&)>& change) {
    Problem p = problem_with(levels);
    change(p.config);
    EXPECT_THROW(p.run(), std::invalid_argument);
  };
  rejected({"mla q_rank=0"}, [](ModelConfig& c) { c.qk_norm = QkNorm::head; });
  rejected({"mla q_rank=0"}, [](ModelConfig& c) { c.head_dim = 8; });
  rejected({}, [](ModelConfig& c) { c.route_groups = 4; });
  rejected({}, [](ModelConfig& c) { c.route_groups_kept = 2; });
  rejected({}, [](ModelConfig& c) {
    c.route_groups = 6;  // one expert each, one group kept, two to choose
  });
}

}  // namespace
