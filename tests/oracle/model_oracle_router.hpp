// SPDX-License-Identifier: Apache-2.0
//
// Who goes where: the decisions of the model oracle's router, on plain numbers, since no gradient flows through a
// decision. Each decision reports how clear it was.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "model_oracle.hpp"

namespace ng_oracle::model_parts {

/// Indices of `x` by falling value, ties to the lower index.
inline std::vector<int> by_falling(const std::vector<double>& x) {
  std::vector<int> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return x[static_cast<std::size_t>(a)] > x[static_cast<std::size_t>(b)]; });
  return order;
}

/// Smallest (x[i] - x[i+1]) / sizes over the first `decided` neighbours of `order`: what a relative error would need to
/// change the first `decided` places. `size` of an entry is what its error is relative to.
inline double clearness(const std::vector<double>& x, const std::vector<double>& size, const std::vector<int>& order,
                        std::size_t decided) {
  double smallest = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < decided && i + 1 < order.size(); ++i) {
    const std::size_t a = static_cast<std::size_t>(order[i]);
    const std::size_t b = static_cast<std::size_t>(order[i + 1]);
    smallest = std::min(smallest, (x[a] - x[b]) / std::max(size[a], size[b]));
  }
  return smallest;
}

/// The experts of one token in the order of its slots. scores: s [E]; bias: b [E], or empty.
inline std::vector<int> chosen_experts(const ModelConfig& m, const std::vector<double>& scores,
                                       const std::vector<double>& bias, double& margin) {
  const std::size_t E = scores.size();
  const std::size_t groups = static_cast<std::size_t>(m.route_groups);
  const std::size_t size_of_group = E / groups;
  std::vector<double> c = scores;
  std::vector<double> size = scores;  // what errors of c are relative to
  for (std::size_t e = 0; e < bias.size(); ++e) {
    c[e] += bias[e];
    size[e] += std::abs(bias[e]);
  }

  std::vector<double> group_score, group_size;
  for (std::size_t g = 0; g < groups; ++g) {
    std::vector<double> members(c.begin() + static_cast<std::ptrdiff_t>(g * size_of_group),
                                c.begin() + static_cast<std::ptrdiff_t>((g + 1) * size_of_group));
    const std::vector<int> order = by_falling(members);
    double score = 0.0;
    double magnitude = 0.0;
    for (std::size_t i = 0; i < (m.group_score == GroupScore::max ? 1U : 2U); ++i) {
      score += members[static_cast<std::size_t>(order[i])];
      magnitude += size[g * size_of_group + static_cast<std::size_t>(order[i])];
    }
    group_score.push_back(score);
    group_size.push_back(magnitude);
  }
  std::vector<int> group_order = by_falling(group_score);
  const std::size_t kept = static_cast<std::size_t>(m.route_groups_kept);
  if (kept < groups) {  // which groups stay, not their order
    const std::vector<int> at_the_edge(group_order.begin() + static_cast<std::ptrdiff_t>(kept - 1), group_order.end());
    margin = std::min(margin, clearness(group_score, group_size, at_the_edge, 1));
  }
  group_order.resize(kept);

  const std::size_t K = static_cast<std::size_t>(m.top_k);
  std::vector<int> result;
  for (int e : by_falling(c))
    if (std::find(group_order.begin(), group_order.end(), e / static_cast<int>(size_of_group)) != group_order.end())
      result.push_back(e);
  margin = std::min(margin, clearness(c, size, result, K));
  result.resize(K);
  return result;
}

/// Slots that an expert serves in one sequence. `scores` [T]: s of the expert for the tokens that chose it, in token
/// order; returns for each of them whether it is kept.
inline std::vector<bool> kept_slots(const ModelConfig& m, std::int64_t sequence_length,
                                    const std::vector<double>& scores, double& margin) {
  std::vector<bool> kept(scores.size(), true);
  if (m.capacity_factor == 0.0) return kept;
  const double even = m.capacity_factor * static_cast<double>(sequence_length) * static_cast<double>(m.top_k);
  const std::size_t capacity = static_cast<std::size_t>(std::ceil(even / static_cast<double>(m.experts)));
  if (scores.size() <= capacity) return kept;
  std::vector<int> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  if (m.drop == Drop::probability) {
    order = by_falling(scores);
    if (capacity > 0) {
      const std::vector<int> at_the_edge(order.begin() + static_cast<std::ptrdiff_t>(capacity - 1), order.end());
      margin = std::min(margin, clearness(scores, scores, at_the_edge, 1));
    }
  }
  for (std::size_t i = capacity; i < order.size(); ++i) kept[static_cast<std::size_t>(order[i])] = false;
  return kept;
}

}  // namespace ng_oracle::model_parts
