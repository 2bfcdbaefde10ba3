// SPDX-License-Identifier: Apache-2.0
//
// Sums in double over the tree of summation_order.hpp, of terms that are not a tensor.
#pragma once

#include <cstdint>
#include <vector>

#include "narrowgauge/numerics/summation_order.hpp"

namespace ng::cpu {

/// Sum of term(0) ... term(count - 1).
template <class Term>
double tree_sum(std::int64_t count, const Term& term) {
  std::vector<double> partials(summation_leaves(static_cast<std::size_t>(count)));
  for (std::size_t leaf = 0; leaf < partials.size(); ++leaf)
    partials[leaf] = sum_leaf(static_cast<std::int64_t>(leaf), count, term);
  return reduce_tree(partials.data(), partials.size());
}

}  // namespace ng::cpu
