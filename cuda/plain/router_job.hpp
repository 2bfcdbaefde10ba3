// SPDX-License-Identifier: Apache-2.0
//
// One call of a router in device memory, as its kernels see it: what goes in, what comes out, and the counts between.
// Slots are counted by pieces of a sequence's tokens, so that every slot's place in its expert's order is a sum of
// counts and nothing depends on which thread comes first. Shapes: T tokens > 0, E experts, K slots a token, S
// sequences.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/router.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"

namespace ng::cuda {

/// Tokens of a piece, at most.
constexpr std::int64_t kPieceTokens = 32;

struct RouterJob {
  RouterSpec spec{};
  std::int64_t tokens = 0;
  std::int64_t length = 0;  ///< tokens of a sequence
  TensorView logits{};      ///< f32 [T, E]
  Placement placement{};
  const float* bias = nullptr;  ///< [E], or null

  // What a Routing has by the same names. Where nothing can be dropped, weight is full_weight.
  float* probabilities = nullptr;
  float* scores = nullptr;
  float* shares = nullptr;
  std::int32_t* expert = nullptr;
  float* full_weight = nullptr;
  float* weight = nullptr;
  std::int32_t* row_of_slot = nullptr;
  float* log_sum_exp = nullptr;

  float* entropy = nullptr;                 ///< [T]
  std::int32_t* piece_counts = nullptr;     ///< [pieces, E], first slots, then slots of the sequence's earlier pieces
  std::int64_t* sequence_counts = nullptr;  ///< [S, E] slots that chose the expert
  std::int64_t* kept_counts = nullptr;      ///< [S, E] slots that it serves; where nothing is dropped, the same memory
  std::int64_t* kept_before = nullptr;      ///< [S, E] of earlier sequences
  std::int64_t* served = nullptr;           ///< [E]
  std::int64_t* offsets = nullptr;          ///< [E + 1] rows

  NG_HD std::int64_t slots() const { return tokens * spec.top_k; }
  NG_HD std::int64_t sequences() const { return tokens / length; }
  NG_HD std::int64_t sequence_pieces() const { return (length + kPieceTokens - 1) / kPieceTokens; }
  NG_HD std::int64_t pieces() const { return sequences() * sequence_pieces(); }
};

/// Where slots that an expert may drop stand in the order of their tokens.
struct DropLists {
  std::int64_t capacity = 0;         ///< slots of an expert in a sequence
  std::int32_t* position = nullptr;  ///< [T, K] among the slots of its expert in its sequence
  std::int32_t* token_at = nullptr;  ///< [S, E, length] token of each position
};

/// Sums of a router's losses over the tree of summation_order.hpp, of leaves, [trees, leaves].
struct RouterSums {
  double* token_leaves = nullptr;  ///< of squared log_sum_exp, of entropy, over all tokens
  double* share_leaves = nullptr;  ///< of each expert's shares in each scope of the balance, [scopes * E, leaves]
  double* token_sums = nullptr;    ///< [2]
  double* share_sums = nullptr;    ///< [scopes * E]
};

}  // namespace ng::cuda
