// SPDX-License-Identifier: Apache-2.0
//
// Sums in double over the tree of summation_order.hpp, of terms that are not a tensor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "narrowgauge/numerics/summation_order.hpp"

namespace ng::cpu {

/// Sum of term(0) ... term(count - 1).
template <class Term>
double tree_sum(std::int64_t count, const Term& term) {
  constexpr std::int64_t kLeaf = static_cast<std::int64_t>(kSummationLeaf);
  std::vector<double> partials;
  partials.reserve(summation_leaves(static_cast<std::size_t>(count)));
  for (std::int64_t first = 0; first < count; first += kLeaf) {
    double sum = 0.0;
    for (std::int64_t i = first; i < std::min(count, first + kLeaf); ++i) sum = add_rn(sum, term(i));
    partials.push_back(sum);
  }
  return reduce_tree(partials.data(), partials.size());
}

}  // namespace ng::cpu
