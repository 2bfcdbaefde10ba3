// SPDX-License-Identifier: Apache-2.0
//
// What every backend checks of a router before it routes, and which counts its balance is over.
#pragma once

#include "narrowgauge/backend/operations.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/router.hpp"

namespace ng {

/// A router of `tokens` tokens that can be: NG_CHECK otherwise.
inline void check_router(const RouterSpec& spec, std::int64_t tokens) {
  const std::int64_t E = spec.experts, length = sequence_tokens(spec, tokens);
  NG_CHECK(spec.top_k >= 1 && spec.top_k <= E, "top ", spec.top_k, " of ", E);
  NG_CHECK_GE(spec.row_alignment, 1);
  NG_CHECK(spec.groups >= 1 && E % spec.groups == 0, E, " experts in ", spec.groups, " groups");
  NG_CHECK(spec.groups_kept >= 1 && spec.groups_kept <= spec.groups, spec.groups_kept, " of ", spec.groups, " groups");
  NG_CHECK_GE(spec.groups_kept * (E / spec.groups), spec.top_k, "experts in the groups that are kept");
  NG_CHECK(spec.group_score == GroupScore::max || E / spec.groups >= 2, "a sum of two in groups of one");
  NG_CHECK(length == 0 || tokens % length == 0, tokens, " tokens in sequences of ", spec.sequence_length);
}

/// Slots that chose each expert, for each scope of the balance.
inline const std::vector<std::int64_t>& balance_counts(const RouterSpec& spec, const Routing& routing) {
  return spec.balance == Balance::batch ? routing.counts : routing.sequence_counts;
}

}  // namespace ng
