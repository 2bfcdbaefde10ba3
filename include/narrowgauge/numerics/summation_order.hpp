// SPDX-License-Identifier: Apache-2.0
//
// The written order of long sums: leaves of 256 consecutive terms summed serially, then a tree that adds neighbours
// pairwise, level by level; an odd last node moves up alone. The result depends on the terms and their number only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng {

constexpr std::size_t kSummationLeaf = 256;

/// One term of a sum, or of a sum of squares: exact in double.
NG_HD double sum_term(float x, bool square) {
  const double term = static_cast<double>(x);
  return square ? mul_rn(term, term) : term;
}

/// Adds up partial sums in place (leaf results in order); returns the root. `partials` is overwritten.
NG_HD double reduce_tree(double* partials, std::size_t count) {
  if (count == 0) return 0.0;
  while (count > 1) {
    const std::size_t pairs = count / 2;
    for (std::size_t i = 0; i < pairs; ++i) partials[i] = add_rn(partials[2 * i], partials[2 * i + 1]);
    if ((count & 1) != 0) partials[pairs] = partials[count - 1];
    count = pairs + (count & 1);
  }
  return partials[0];
}

/// Number of leaves of a sum of `terms` terms.
NG_HD constexpr std::size_t summation_leaves(std::size_t terms) {
  return (terms + kSummationLeaf - 1) / kSummationLeaf;
}

/// Leaf number `leaf` of the sum of term(0) ... term(count - 1).
template <class Term>
NG_HD double sum_leaf(std::int64_t leaf, std::int64_t count, const Term& term) {
  const std::int64_t first = leaf * static_cast<std::int64_t>(kSummationLeaf);
  const std::int64_t behind = first + static_cast<std::int64_t>(kSummationLeaf);
  double sum = 0.0;
  for (std::int64_t i = first; i < (behind < count ? behind : count); ++i) sum = add_rn(sum, term(i));
  return sum;
}

}  // namespace ng
