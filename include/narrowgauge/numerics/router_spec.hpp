// SPDX-License-Identifier: Apache-2.0
//
// What a router does with its logits: scores, choice of experts, combine weights, balance losses, capacity. Plain data;
// the orders and roundings are written at Backend::route.
#pragma once

#include <cstdint>

namespace ng {

/// Scores s of the logits of a token.
enum class Gate : std::uint8_t { softmax, sigmoid };
/// Score of a group of experts: its largest, or the sum of its two largest selection scores.
enum class GroupScore : std::uint8_t { max, top2_sum };
/// Tokens over which the load is balanced: all of a micro-batch, or each sequence.
enum class Balance : std::uint8_t { batch, sequence };
/// Which slots of an expert stay when it is full: those of largest score, or of the earliest tokens.
enum class Drop : std::uint8_t { probability, position };

struct RouterSpec {
  std::int64_t experts = 0;
  std::int64_t top_k = 0;
  bool renormalize = true;  ///< scores of the chosen experts are divided by their sum
  float aux_coefficient = 0.0f;
  float z_coefficient = 0.0f;
  std::int64_t row_alignment = 32;  ///< rows of an expert are padded with zeros to a multiple of this
  Gate gate = Gate::softmax;
  float routed_scaling = 1.0f;   ///< factor of all combine weights
  std::int64_t groups = 1;       ///< the experts stand in this many groups of neighbours
  std::int64_t groups_kept = 1;  ///< experts of other groups than the best ones cannot be chosen
  GroupScore group_score = GroupScore::max;
  Balance balance = Balance::batch;
  double capacity_factor = 0.0;  ///< of the even load of a sequence; 0: no slot is dropped
  Drop drop = Drop::probability;
  std::int64_t sequence_length = 0;  ///< tokens of a sequence; 0: all tokens are one sequence
};

}  // namespace ng
