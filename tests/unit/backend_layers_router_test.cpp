// SPDX-License-Identifier: Apache-2.0
//
// Claim: for every gate, group rule, bias, scaling, balance scope and capacity the router's decisions, weights, losses
// and gradients are, to the bit, those of plain loops over the order that backend.hpp writes down; sequences routed one
// by one are routed as together; dropped slots take no row and move nothing. Alone:
// bin/unit_backend_layers --gtest_filter='Router*'
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "narrowgauge/numerics/elementary.hpp"
#include "unit/backend_layers_support.hpp"

namespace layers_test {
namespace {

using Floats = std::vector<float>;
using Index = std::size_t;

Index at(std::int64_t value) {
  return static_cast<Index>(value);
}

/// The router in plain loops. Sums over tokens are short enough to be one leaf of the summation tree.
struct Written {
  ng::RouterSpec spec;
  Index T, E = at(spec.experts), K = at(spec.top_k), L = at(spec.sequence_length);
  Floats logits{}, bias{};
  std::vector<Floats> p{}, s{}, share{};
  std::vector<std::vector<Index>> chosen{};
  std::vector<Floats> full{}, weight{};
  std::vector<std::vector<bool>> kept{};
  Floats lse{};
  double aux = 0.0, z = 0.0;

  void softmax(Index t) {
    const Floats x(logits.begin() + static_cast<std::ptrdiff_t>(t * E),
                   logits.begin() + static_cast<std::ptrdiff_t>((t + 1) * E));
    const float maximum = *std::max_element(x.begin(), x.end());
    Floats e, sigmoid, divided;
    for (const float v : x) e.push_back(ng::exp_rn(v - maximum));
    const float sum = row_sum(e);
    for (float& v : e) v /= sum;
    lse.push_back(maximum + ng::log_rn(sum));
    p.push_back(e);
    if (spec.gate == ng::Gate::softmax) {
      s.push_back(e);
      share.push_back(e);
      return;
    }
    for (const float v : x) sigmoid.push_back(ng::sigmoid_rn(v));
    const float total = row_sum(sigmoid);
    for (const float v : sigmoid) divided.push_back(v / total);
    s.push_back(sigmoid);
    share.push_back(divided);
  }

  void choose(Index t) {
    Floats c = s[t];
    for (Index e = 0; e < bias.size(); ++e) c[e] += bias[e];
    const Index groups = at(spec.groups), size = E / groups;
    const auto best_first = [](const Floats& scores) {
      std::vector<Index> order(scores.size());
      std::iota(order.begin(), order.end(), Index{0});
      std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) { return scores[a] > scores[b]; });
      return order;
    };
    Floats group_scores;
    for (Index g = 0; g < groups; ++g) {
      Floats members(c.begin() + static_cast<std::ptrdiff_t>(g * size),
                     c.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
      std::sort(members.rbegin(), members.rend());
      group_scores.push_back(spec.group_score == ng::GroupScore::max ? members[0] : members[0] + members[1]);
    }
    std::set<Index> open;
    const std::vector<Index> ranked = best_first(group_scores);
    for (Index g = 0; g < at(spec.groups_kept); ++g) open.insert(ranked[g]);
    std::vector<Index> slots;
    for (const Index e : best_first(c))
      if (open.contains(e / size) && slots.size() < K) slots.push_back(e);
    chosen.push_back(slots);
    Floats w;
    float total = 0.0f;
    for (const Index e : slots) total += s[t][e];
    for (const Index e : slots) w.push_back((spec.renormalize ? s[t][e] / total : s[t][e]) * spec.routed_scaling);
    full.push_back(w);
    weight.push_back(w);
    kept.emplace_back(K, true);
  }

  void drop() {
    if (spec.capacity_factor == 0.0) return;
    const double capacity =
        std::ceil(spec.capacity_factor * static_cast<double>(L) * static_cast<double>(K) / static_cast<double>(E));
    for (Index first = 0; first < T; first += L)
      for (Index e = 0; e < E; ++e) {
        std::vector<std::pair<Index, Index>> slots;
        for (Index t = first; t < first + L; ++t)
          for (Index k = 0; k < K; ++k)
            if (chosen[t][k] == e) slots.emplace_back(t, k);
        if (spec.drop == ng::Drop::probability)
          std::stable_sort(slots.begin(), slots.end(),
                           [&](const auto& a, const auto& b) { return s[a.first][e] > s[b.first][e]; });
        for (Index i = 0; i < slots.size(); ++i)
          if (static_cast<double>(i) >= capacity) {
            kept[slots[i].first][slots[i].second] = false;
            weight[slots[i].first][slots[i].second] = 0.0f;
          }
      }
  }

  double share_of_slots(Index e, Index first, Index count) const {
    double slots = 0.0;
    for (Index t = first; t < first + count; ++t)
      slots += static_cast<double>(std::count(chosen[t].begin(), chosen[t].end(), e));
    return slots / static_cast<double>(count * K);
  }

  void run() {
    for (Index t = 0; t < T; ++t) {
      softmax(t);
      choose(t);
    }
    drop();
    const Index scope = spec.balance == ng::Balance::batch ? T : L;
    double sum = 0.0, squares = 0.0;
    for (Index first = 0; first < T; first += scope) {
      double balance = 0.0;
      for (Index e = 0; e < E; ++e) {
        double mean = 0.0;
        for (Index t = first; t < first + scope; ++t) mean += static_cast<double>(share[t][e]);
        balance += share_of_slots(e, first, scope) * (mean / static_cast<double>(scope));
      }
      sum += balance;
    }
    if (spec.balance == ng::Balance::sequence) sum /= static_cast<double>(T / scope);
    aux = static_cast<double>(spec.aux_coefficient) * static_cast<double>(E) * sum;
    for (const float l : lse) squares += static_cast<double>(l) * static_cast<double>(l);
    z = static_cast<double>(spec.z_coefficient) * (squares / static_cast<double>(T));
  }

  Floats backward(const Floats& d_weight, float loss_scale) const {
    Floats out;
    const Index scope = spec.balance == ng::Balance::batch ? T : L;
    const double per_token = static_cast<double>(loss_scale) / static_cast<double>(T);
    const float z_slope = static_cast<float>(2.0 * static_cast<double>(spec.z_coefficient) * per_token);
    for (Index t = 0; t < T; ++t) {
      Floats a, g(E);
      for (Index e = 0; e < E; ++e)
        a.push_back(static_cast<float>(static_cast<double>(spec.aux_coefficient) * static_cast<double>(E) *
                                       share_of_slots(e, t / scope * scope, scope) * per_token));
      const float mean_a = row_dot(share[t].data(), a.data(), E), zt = z_slope * lse[t];
      float m = 0.0f;
      for (Index k = 0; k < K; ++k) m = std::fma(full[t][k], kept[t][k] ? d_weight[t * K + k] : 0.0f, m);
      if (spec.renormalize) m /= spec.routed_scaling;
      for (Index e = 0; e < E; ++e)
        g[e] = spec.gate == ng::Gate::sigmoid
                   ? std::fma(p[t][e], zt, (1.0f - s[t][e]) * (share[t][e] * (a[e] - mean_a)))
                   : p[t][e] * ((a[e] - mean_a) + (spec.renormalize ? zt : zt - m));
      for (Index k = 0; k < K && !(spec.renormalize && K == 1); ++k) {
        const float d = kept[t][k] ? d_weight[t * K + k] : 0.0f;
        const float slope = spec.gate == ng::Gate::sigmoid ? full[t][k] * (1.0f - s[t][chosen[t][k]]) : full[t][k];
        g[chosen[t][k]] = std::fma(slope, spec.renormalize ? d - m : d, g[chosen[t][k]]);
      }
      out.insert(out.end(), g.begin(), g.end());
    }
    return out;
  }
};

std::vector<ng::RouterSpec> specs() {
  std::vector<ng::RouterSpec> list;
  struct Groups {
    std::int64_t n, kept;
    ng::GroupScore score;
  };
  for (const ng::Gate gate : {ng::Gate::softmax, ng::Gate::sigmoid})
    for (const bool renormalize : {true, false})
      for (const Groups groups : {Groups{1, 1, ng::GroupScore::max}, Groups{4, 2, ng::GroupScore::max},
                                  Groups{4, 2, ng::GroupScore::top2_sum}, Groups{3, 1, ng::GroupScore::top2_sum}})
        for (const std::int64_t K : {1, 3})
          for (const double capacity : {0.0, 0.8})
            for (const auto& [drop, balance] : {std::pair{ng::Drop::probability, ng::Balance::sequence},
                                                std::pair{ng::Drop::position, ng::Balance::batch}}) {
              ng::RouterSpec spec;
              spec.experts = 12;
              spec.top_k = K;
              spec.renormalize = renormalize;
              spec.aux_coefficient = 0.25f;
              spec.z_coefficient = 0.125f;
              spec.row_alignment = 4;
              spec.gate = gate;
              spec.routed_scaling = K == 1 ? 1.0f : 2.5f;
              spec.groups = groups.n;
              spec.groups_kept = groups.kept;
              spec.group_score = groups.score;
              spec.balance = balance;
              spec.capacity_factor = capacity;
              spec.drop = drop;
              spec.sequence_length = 9;
              list.push_back(spec);
            }
  return list;
}

constexpr std::int64_t kTokens = 27;

// Logits that repeat, so that there are ties between experts, between groups and between tokens.
Tensor logits_of(Backend& b) {
  Tensor t = random_tensor(b, Dtype::f32, kTokens, 12, 21);
  float* const x = t.view.as<float>();
  for (std::int64_t i = 0; i < t.view.count(); ++i) x[i] = std::round(x[i] * 3.0f) / 3.0f;
  return t;
}

TEST(Router, FollowsTheWrittenOrder) {
  const auto b = cpu(2);
  const Tensor logits = logits_of(*b), biases = random_tensor(*b, Dtype::f32, 1, 12, 22, 0.2);
  std::int64_t dropped = 0;
  std::set<std::vector<std::byte>> decisions;
  for (const ng::RouterSpec& spec : specs())
    for (const bool biased : {false, true}) {
      const TensorView bias = biased ? biases.view : TensorView{};
      const ng::Routing r = b->route(spec, logits.view, {kTokens, 12, 0, 0, nullptr}, bias);
      Written w{spec, at(kTokens)};
      w.logits = floats_of(*b, logits);
      if (biased) w.bias = floats_of(*b, biases);
      w.run();
      decisions.insert(bytes_of(*b, r.expert.view));
      const Floats weight = floats_of(*b, r.weight), full = floats_of(*b, r.full_weight);
      const Doubles expert = values_of(*b, r.expert), row = values_of(*b, r.row_of_slot);
      std::vector<std::int64_t> counts(w.E, 0);
      std::int64_t lost = 0;
      for (Index t = 0; t < w.T; ++t)
        for (Index k = 0; k < w.K; ++k) {
          const Index i = t * w.K + k;
          ASSERT_EQ(expert[i], static_cast<double>(w.chosen[t][k])) << t << " " << k;
          ASSERT_EQ(full[i], w.full[t][k]);
          ASSERT_EQ(weight[i], w.weight[t][k]);
          ASSERT_EQ(row[i] >= 0.0, w.kept[t][k]);
          ++counts[w.chosen[t][k]];
          lost += w.kept[t][k] ? 0 : 1;
        }
      EXPECT_EQ(r.counts, counts);
      EXPECT_EQ(r.dropped, lost);
      EXPECT_EQ(spec.capacity_factor > 0.0, lost > 0);
      dropped += lost;
      EXPECT_EQ(r.aux_loss, w.aux);
      EXPECT_EQ(r.z_loss, w.z);

      const Tensor dw = random_tensor(*b, Dtype::f32, kTokens, spec.top_k, 23), d = b->tensor(Dtype::f32, kTokens, 12);
      b->route_backward(spec, r, dw.view, 0.5f, d.view);
      const Floats actual = floats_of(*b, d), expected = w.backward(floats_of(*b, dw), 0.5f);
      for (Index i = 0; i < actual.size(); ++i) ASSERT_EQ(actual[i], expected[i]) << i;
    }
  EXPECT_GT(dropped, 100);
  EXPECT_GE(decisions.size(), 20u);  // the options matter
}

TEST(Router, SequencesDoNotSeeEachOther) {
  const auto b = cpu();
  const Tensor logits = logits_of(*b);
  for (const ng::RouterSpec& spec : specs()) {
    const ng::Routing all = b->route(spec, logits.view, {kTokens, 12, 0, 0, nullptr});
    const Doubles expert = values_of(*b, all.expert);
    const Floats weight = floats_of(*b, all.weight);
    const std::size_t slots = at(9 * spec.top_k);
    for (std::int64_t first = 0; first < kTokens; first += 9) {
      const ng::Routing one = b->route(spec, ng::row_slice(logits.view, first, 9), {kTokens, 12, first, 0, nullptr});
      const Doubles expert_one = values_of(*b, one.expert);
      const Floats weight_one = floats_of(*b, one.weight);
      for (std::size_t i = 0; i < slots; ++i) {
        EXPECT_EQ(expert_one[i], expert[at(first * spec.top_k) + i]);
        EXPECT_EQ(weight_one[i], weight[at(first * spec.top_k) + i]);
      }
    }
  }
}

TEST(Router, DroppedSlotsMoveNothing) {
  const auto b = cpu();
  const Tensor logits = logits_of(*b);
  ng::RouterSpec spec = specs().front();
  spec.top_k = 2;
  spec.capacity_factor = 0.3;
  const std::int64_t C = 5;
  const ng::Routing r = b->route(spec, logits.view, {kTokens, 12, 0, 0, nullptr});
  const Doubles row = values_of(*b, r.row_of_slot), token = values_of(*b, r.token_of_row);
  std::map<int, int> kept_of_token;
  for (Index t = 0; t < at(kTokens); ++t) ++kept_of_token[(row[2 * t] >= 0.0) + (row[2 * t + 1] >= 0.0)];
  for (const int kept : {0, 1, 2}) ASSERT_GT(kept_of_token[kept], 0) << "tokens with " << kept << " slots";
  const std::int64_t used = std::count_if(token.begin(), token.end(), [](double t) { return t >= 0.0; });
  EXPECT_EQ(used, kTokens * 2 - r.dropped);

  const Tensor rows = random_tensor(*b, Dtype::f32, r.rows, C, 24), y = b->tensor(Dtype::f32, kTokens, C);
  const Tensor dy = random_tensor(*b, Dtype::f32, kTokens, C, 25), d_rows = b->tensor(Dtype::f32, r.rows, C);
  const Tensor dw = b->tensor(Dtype::f32, kTokens, 2), dx = b->tensor(Dtype::f32, kTokens, C);
  b->combine(r, rows.view, y.view);
  b->combine_backward(r, rows.view, dy.view, d_rows.view, dw.view);
  b->permute_backward(r, d_rows.view, dx.view, false);
  const Floats w = floats_of(*b, r.weight), x = floats_of(*b, rows), out = floats_of(*b, y), d = floats_of(*b, d_rows);
  const Floats back = floats_of(*b, dx), d_weight = floats_of(*b, dw);
  for (Index t = 0; t < at(kTokens); ++t) {
    for (Index c = 0; c < at(C); ++c) {
      float sum = 0.0f, gradient = 0.0f;
      bool first = true;
      for (Index k = 0; k < 2; ++k) {
        if (row[2 * t + k] < 0.0) continue;
        const Index from = static_cast<Index>(row[2 * t + k]) * at(C) + c;
        sum = std::fma(w[2 * t + k], x[from], sum);
        gradient = first ? d[from] : gradient + d[from];
        first = false;
      }
      EXPECT_EQ(out[t * at(C) + c], sum);
      EXPECT_EQ(back[t * at(C) + c], gradient);
    }
    for (Index k = 0; k < 2; ++k) EXPECT_EQ(d_weight[2 * t + k] == 0.0f, row[2 * t + k] < 0.0);
  }
}

// More slots than a sort of equal scores would leave in order by luck.
TEST(Router, EqualScoresAreKeptByToken) {
  const auto b = cpu();
  ng::RouterSpec spec;
  spec.experts = 2;
  spec.top_k = 1;
  spec.row_alignment = 1;
  spec.capacity_factor = 0.5;  // 50 slots an expert
  const Tensor logits = from_values(*b, Dtype::f32, 200, 2, Doubles(400, 0.5));
  const Doubles row = values_of(*b, b->route(spec, logits.view, {200, 2, 0, 0, nullptr}).row_of_slot);
  for (Index t = 0; t < 200; ++t) EXPECT_EQ(row[t], t < 50 ? static_cast<double>(t) : -1.0) << t;
}

// All chosen scores can be 0 where a bias prefers them: no weight, no gradient, no NaN.
TEST(Router, ScoresOfZeroGiveWeightsOfZero) {
  const auto b = cpu();
  ng::RouterSpec spec;
  spec.experts = 4;
  spec.top_k = 2;
  spec.aux_coefficient = 0.5f;
  spec.row_alignment = 1;
  for (const ng::Gate gate : {ng::Gate::softmax, ng::Gate::sigmoid}) {
    spec.gate = gate;
    const Tensor logits = from_values(*b, Dtype::f32, 1, 4, {0.0, 0.0, -200.0, -200.0});
    const Tensor bias = from_values(*b, Dtype::f32, 1, 4, {0.0, 0.0, 3.0, 2.0});
    const ng::Routing r = b->route(spec, logits.view, {1, 4, 0, 0, nullptr}, bias.view);
    EXPECT_EQ(values_of(*b, r.expert), (Doubles{2.0, 3.0}));
    EXPECT_EQ(values_of(*b, r.weight), (Doubles{0.0, 0.0}));
    const Tensor dw = from_values(*b, Dtype::f32, 1, 2, {1.0, -2.0}), d = b->tensor(Dtype::f32, 1, 4);
    b->route_backward(spec, r, dw.view, 1.0f, d.view);
    for (const double g : values_of(*b, d)) EXPECT_TRUE(std::isfinite(g));
  }
}

}  // namespace
}  // namespace layers_test
