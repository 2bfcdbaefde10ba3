// SPDX-License-Identifier: Apache-2.0
//
// The model's options as factors with levels, and the configurations made from them: each level alone, every pair of
// levels of two factors, and the combinations that published models use.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "gradient/cases.hpp"
#include "oracle/model_oracle.hpp"

namespace ng_test {

/// One setting of a factor. `key` is the first key of the model file that it sets.
struct Level {
  std::string name;  ///< "qk_norm=head"
  std::function<void(ng_oracle::ModelConfig&)> set;
};

/// Levels of which a model has exactly one, set in the order of the factors. The first one is the default and changes
/// nothing in base_case().
using Factor = std::vector<Level>;

inline std::vector<Factor> option_factors() {
  using namespace ng_oracle;
  const auto latent = [](Mla mla) {
    return [mla](ModelConfig& c) {
      c.mla = mla;
      c.kv_heads = c.heads;
      c.head_dim = mla.nope_dim + mla.rope_dim;
    };
  };
  const auto groups = [](std::int64_t n, std::int64_t m, GroupScore score) {
    return [n, m, score](ModelConfig& c) {
      c.route_groups = n;
      c.route_groups_kept = m;
      c.group_score = score;
    };
  };
  const auto capacity = [](double factor, Drop drop) {
    return [factor, drop](ModelConfig& c) {
      c.capacity_factor = factor;
      c.drop = drop;
    };
  };
  return {
      {{"sizes", [](ModelConfig&) {}},
       {"other sizes",
        [](ModelConfig& c) {
          c.layers = 3;
          c.vocabulary = 7;
          c.hidden = 10;
          c.heads = 6;
          c.expert_width = 5;
          c.rope_theta = 50.0;
          c.norm_epsilon = 0.01;
          c.context = 6;
        }}},
      {{"grouped heads", [](ModelConfig&) {}},
       {"qk_norm=head", [](ModelConfig& c) { c.qk_norm = QkNorm::head; }},
       {"qk_norm=full", [](ModelConfig& c) { c.qk_norm = QkNorm::full; }},
       {"mla q_rank=0", latent({0, 5, 2, 4, 3})},
       {"mla q_rank=7", latent({7, 6, 4, 2, 6})}},
      {{"gate=softmax", [](ModelConfig&) {}}, {"gate=sigmoid", [](ModelConfig& c) { c.gate = Gate::sigmoid; }}},
      {{"renormalize=true", [](ModelConfig&) {}}, {"renormalize=false", [](ModelConfig& c) { c.renormalize = false; }}},
      {{"routed_scaling=1", [](ModelConfig&) {}},
       {"routed_scaling=2.5", [](ModelConfig& c) { c.routed_scaling = 2.5; }}},
      {{"route_groups=1", [](ModelConfig&) {}},
       {"route_groups=2 route_groups_kept=1 group_score=max", groups(2, 1, GroupScore::max)},
       {"route_groups=2 route_groups_kept=1 group_score=top2_sum", groups(2, 1, GroupScore::top2_sum)},
       {"route_groups=3 route_groups_kept=2 group_score=top2_sum", groups(3, 2, GroupScore::top2_sum)}},
      {{"bias_rate=0", [](ModelConfig&) {}}, {"bias_rate=0.01", [](ModelConfig& c) { c.bias_rate = 0.01; }}},
      {{"capacity_factor=0", [](ModelConfig&) {}},
       {"capacity_factor=0.75 drop=probability", capacity(0.75, Drop::probability)},
       {"capacity_factor=0.75 drop=position", capacity(0.75, Drop::position)}},
      {{"balance=batch", [](ModelConfig&) {}},
       {"balance=sequence", [](ModelConfig& c) { c.balance = Balance::sequence; }}},
      {{"top_k=2", [](ModelConfig&) {}}, {"top_k=3", [](ModelConfig& c) { c.top_k = 3; }}},
      {{"aux_coefficient=0.1", [](ModelConfig&) {}},
       {"aux_coefficient=0", [](ModelConfig& c) { c.aux_coefficient = 0.0; }}},
      {{"z_coefficient=0.05", [](ModelConfig&) {}}, {"z_coefficient=0", [](ModelConfig& c) { c.z_coefficient = 0.0; }}},
      {{"shared_experts=0", [](ModelConfig&) {}}, {"shared_experts=2", [](ModelConfig& c) { c.shared_experts = 2; }}},
      {{"dense_layers=0", [](ModelConfig&) {}}, {"dense_layers=1", [](ModelConfig& c) { c.dense_layers = 1; }}},
      {{"tied_head=false", [](ModelConfig&) {}}, {"tied_head=true", [](ModelConfig& c) { c.tied_head = true; }}},
  };
}

/// All options at their defaults, six experts, top 2: room for two groups of three and three groups of two.
inline Case base_case() {
  Case c;
  c.config = all_cases().front().config;
  c.config.name = "defaults";
  c.config.experts = 6;
  c.config.top_k = 2;
  c.config.renormalize = true;
  c.T = 6;
  return c;
}

/// One level index per factor.
using Choice = std::vector<std::size_t>;

/// The configuration of a choice; its name is made of what is not a default.
inline Case case_of(const std::vector<Factor>& factors, const Choice& choice) {
  Case c = base_case();
  std::string name;
  for (std::size_t f = 0; f < factors.size(); ++f) {
    factors[f][choice[f]].set(c.config);
    if (choice[f] > 0) name += (name.empty() ? "" : " ") + factors[f][choice[f]].name;
  }
  if (!name.empty()) c.config.name = name;
  return c;
}

/// What the router decides under another configuration with the same parameters (surplus ones left out).
inline ng_oracle::RouterDecisions decisions_under(const Case& c, const ng_oracle::ModelConfig& config) {
  Inputs in = inputs_of(c);
  const auto shapes = parameter_shapes(config);
  std::erase_if(in.parameters, [&](const auto& entry) { return !shapes.contains(entry.first); });
  return loss(config, in.parameters, in.ids, in.targets, c.B, c.T).decisions;
}

/// Whether the case shows its options: no decision of the router is closer than 1e-3, groups and bias change who is
/// chosen, capacity drops a slot and the order of dropping matters.
inline bool shows_its_options(const Case& c) {
  const Inputs in = inputs_of(c);
  const auto parts = loss(c.config, in.parameters, in.ids, in.targets, c.B, c.T);
  if (parts.router_margin < 1e-3) return false;
  ng_oracle::ModelConfig other = c.config;
  if (c.config.route_groups > 1) {
    other.route_groups = other.route_groups_kept = 1;
    other.group_score = ng_oracle::GroupScore::max;
    if (decisions_under(c, other).experts == parts.decisions.experts) return false;
    other = c.config;
  }
  if (c.config.bias_rate > 0.0) {
    other.bias_rate = 0.0;
    if (decisions_under(c, other).experts == parts.decisions.experts) return false;
    other = c.config;
  }
  if (c.config.capacity_factor > 0.0) {
    using ng_oracle::Drop;
    other.drop = c.config.drop == Drop::position ? Drop::probability : Drop::position;
    if (decisions_under(c, other).kept == parts.decisions.kept) return false;
  }
  return true;
}

/// The case with the first seed from its own on that shows its options.
inline Case with_telling_seed(Case c) {
  for (int attempt = 0; attempt < 200; ++attempt, ++c.seed)
    if (shows_its_options(c)) return c;
  throw std::logic_error(c.config.name + ": 200 seeds do not show what its options do");
}

/// A choice as set of pairs (factor, level, other factor, level).
inline std::set<std::vector<std::size_t>> pairs_of(const Choice& choice) {
  std::set<std::vector<std::size_t>> pairs;
  for (std::size_t f = 0; f < choice.size(); ++f)
    for (std::size_t g = f + 1; g < choice.size(); ++g) pairs.insert({f, choice[f], g, choice[g]});
  return pairs;
}

/// Choices that together hold every pair of levels of two factors: greedy, the best of 50 random ones at a time.
inline std::vector<Choice> pairwise_choices(const std::vector<Factor>& factors) {
  std::set<std::vector<std::size_t>> open;
  for (std::size_t f = 0; f < factors.size(); ++f)
    for (std::size_t g = f + 1; g < factors.size(); ++g)
      for (std::size_t i = 0; i < factors[f].size(); ++i)
        for (std::size_t j = 0; j < factors[g].size(); ++j) open.insert({f, i, g, j});
  std::mt19937_64 generator(4);
  std::vector<Choice> result;
  while (!open.empty()) {
    const std::vector<std::size_t> wanted = *open.begin();
    Choice best;
    std::size_t most = 0;
    for (int attempt = 0; attempt < 50; ++attempt) {
      Choice candidate;
      for (const Factor& factor : factors) candidate.push_back(generator() % factor.size());
      candidate[wanted[0]] = wanted[1];
      candidate[wanted[2]] = wanted[3];
      std::size_t closed = 0;
      for (const auto& pair : pairs_of(candidate)) closed += open.contains(pair) ? 1 : 0;
      if (closed > most) {
        most = closed;
        best = candidate;
      }
    }
    for (const auto& pair : pairs_of(best)) open.erase(pair);
    result.push_back(best);
  }
  return result;
}

/// Choices that name levels; every name must exist.
inline Choice choice_with(const std::vector<Factor>& factors, const std::vector<std::string>& levels) {
  Choice choice(factors.size(), 0);
  for (const std::string& level : levels) {
    bool found = false;
    for (std::size_t f = 0; f < factors.size(); ++f)
      for (std::size_t i = 0; i < factors[f].size(); ++i)
        if (factors[f][i].name == level) {
          choice[f] = i;
          found = true;
        }
    if (!found) throw std::logic_error("no level " + level);
  }
  return choice;
}

/// What published models combine.
inline std::vector<Choice> published_choices(const std::vector<Factor>& factors) {
  return {
      choice_with(factors, {"qk_norm=full", "renormalize=false"}),  // OLMoE
      choice_with(factors, {"qk_norm=head"}),                       // Qwen3
      choice_with(factors, {"mla q_rank=0", "renormalize=false", "balance=sequence", "shared_experts=2",
                            "dense_layers=1"}),  // DeepSeek-V2-Lite
      choice_with(factors, {"mla q_rank=7", "gate=sigmoid", "routed_scaling=2.5",
                            "route_groups=3 route_groups_kept=2 group_score=top2_sum", "bias_rate=0.01",
                            "balance=sequence", "shared_experts=2", "dense_layers=1"}),  // DeepSeek-V3
      choice_with(factors, {"capacity_factor=0.75 drop=position"}),                      // GShard, Switch
  };
}

/// Every level alone, every pair, every published combination; no configuration twice.
inline const std::vector<Case>& option_cases() {
  static const std::vector<Case> kCases = [] {
    const std::vector<Factor> factors = option_factors();
    std::vector<Choice> choices{Choice(factors.size(), 0)};
    for (std::size_t f = 0; f < factors.size(); ++f)
      for (std::size_t i = 1; i < factors[f].size(); ++i) {
        Choice choice(factors.size(), 0);
        choice[f] = i;
        choices.push_back(choice);
      }
    for (const auto& more : {published_choices(factors), pairwise_choices(factors)})
      choices.insert(choices.end(), more.begin(), more.end());
    std::vector<Case> cases;
    std::set<Choice> seen;
    for (const Choice& choice : choices) {
      if (!seen.insert(choice).second) continue;
      Case c = case_of(factors, choice);
      c.seed = 5000 + 300 * cases.size();
      cases.push_back(with_telling_seed(c));
    }
    return cases;
  }();
  return kCases;
}

/// Number of a case for GoogleTest: names of combinations are long; the test prints them.
struct CaseNumber {
  template <class Info>
  std::string operator()(const Info& info) const {
    return "case" + std::to_string(info.index);
  }
};

}  // namespace ng_test
