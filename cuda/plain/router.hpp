// SPDX-License-Identifier: Apache-2.0
//
// Kernels of the router: one thread one token, slot, expert of a piece, or leaf of a sum. Asynchronous on `stream`.
#pragma once

#include "plain/router_job.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::plain {

/// Scores, choice and full weights of every token; no slot is dropped yet (row_of_slot 0). `scratch`: of all tokens.
void route_tokens(const RouterJob& job, const ChoiceScratch& scratch, Stream stream);

/// piece_counts: slots with a row by (piece, expert).
void count_slots(const RouterJob& job, Stream stream);
/// piece_counts become the counts of the sequence's earlier pieces; `totals` [S, E].
void sum_pieces(const RouterJob& job, std::int64_t* totals, Stream stream);

/// position and token_at of all slots; after sum_pieces.
void list_slots(const RouterJob& job, const DropLists& lists, Stream stream);
/// Slots above capacity get row -1 and weight 0, the others their full weight.
void drop_slots(const RouterJob& job, const DropLists& lists, Stream stream);

/// kept_before, served and offsets from kept_counts.
void expert_offsets(const RouterJob& job, Stream stream);
/// Rows of the slots that have one.
void number_slots(const RouterJob& job, Stream stream);
/// token_of_row and slot_of_row [rows], padding included.
void place_rows(const RouterJob& job, std::int32_t* token_of_row, std::int64_t* slot_of_row, Stream stream);

/// token_sums; and share_sums of scopes of `scope` tokens.
void token_sums(const RouterJob& job, const RouterSums& sums, Stream stream);
void share_sums(const RouterJob& job, const RouterSums& sums, std::int64_t scope, Stream stream);

/// The backward pass of one router. Lists by the names of Routing.
struct RouterGradientJob {
  RouterSpec spec{};
  std::int64_t tokens = 0;
  std::int64_t scope = 0;  ///< tokens of one balance
  double per_token = 0.0;  ///< of gradient_per_token
  const float* probabilities = nullptr;
  const float* scores = nullptr;
  const float* shares = nullptr;
  const std::int32_t* expert = nullptr;
  const float* full_weight = nullptr;
  const std::int32_t* row_of_slot = nullptr;
  const float* log_sum_exp = nullptr;
  const float* d_weight = nullptr;       ///< [T, K]
  unsigned long long* counts = nullptr;  ///< [scopes, E] slots that chose the expert
  float* slopes = nullptr;               ///< [scopes, E] of the aux loss in the shares
  TensorView d_logits{};                 ///< f32 [T, E]
};

/// counts, which are zero at the start, and slopes.
void aux_slopes(const RouterGradientJob& job, Stream stream);
void route_backward(const RouterGradientJob& job, Stream stream);

}  // namespace ng::cuda::plain
