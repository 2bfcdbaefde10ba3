// SPDX-License-Identifier: Apache-2.0
//
// The router: scores, choice, combine weights, capacity, balance losses and their gradients. How rows then move is in
// cpu_routing.cpp.
#include <algorithm>
#include <vector>

#include "cpu_backend.hpp"
#include "long_sum.hpp"
#include "narrowgauge/backend/router_checks.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/router.hpp"
#include "row_access.hpp"

namespace ng::cpu {

namespace {

/// ChoiceScratch of one thread.
class ChoiceMemory {
 public:
  explicit ChoiceMemory(const RouterSpec& spec)
      : selection_(static_cast<std::size_t>(spec.experts)),
        group_scores_(static_cast<std::size_t>(spec.groups)),
        kept_(static_cast<std::size_t>(spec.groups_kept)),
        open_(selection_.size()),
        open_groups_(group_scores_.size()) {}

  ChoiceScratch scratch() {
    return {selection_.data(), group_scores_.data(), kept_.data(), open_.data(), open_groups_.data()};
  }

 private:
  std::vector<float> selection_, group_scores_;
  std::vector<std::int32_t> kept_;
  std::vector<std::uint8_t> open_, open_groups_;
};

void count_choices(const RouterSpec& spec, std::int64_t T, Routing& routing) {
  const std::int64_t E = spec.experts, length = sequence_tokens(spec, T);
  const std::int32_t* const expert = routing.expert.view.as<std::int32_t>();
  routing.counts.assign(static_cast<std::size_t>(E), 0);
  routing.sequence_counts.assign(static_cast<std::size_t>(length == 0 ? 0 : T / length * E), 0);
  for (std::int64_t i = 0; i < T * spec.top_k; ++i) {
    ++routing.counts[static_cast<std::size_t>(expert[i])];
    ++routing.sequence_counts[static_cast<std::size_t>(i / spec.top_k / length * E + expert[i])];
  }
}

/// Marks the slots above capacity with row -1 and weight 0.
void drop_slots(const RouterSpec& spec, std::int64_t T, Routing& routing) {
  const std::int64_t E = spec.experts, K = spec.top_k, length = sequence_tokens(spec, T);
  const std::int32_t* const expert = routing.expert.view.as<std::int32_t>();
  const float* const scores = routing.scores.view.as<float>();
  float* const weight = routing.weight.view.as<float>();
  std::int32_t* const row_of_slot = routing.row_of_slot.view.as<std::int32_t>();
  const std::size_t capacity = static_cast<std::size_t>(expert_capacity(spec, length));
  struct Slot {
    std::int64_t index;  // token * K + slot
    std::uint32_t key;   // of drop_key
  };
  std::vector<std::vector<Slot>> of_expert(static_cast<std::size_t>(E));
  for (std::int64_t first = 0; first < T; first += length) {
    for (std::vector<Slot>& slots : of_expert) slots.clear();
    for (std::int64_t i = first * K; i < (first + length) * K; ++i)
      of_expert[static_cast<std::size_t>(expert[i])].push_back({i, drop_key(scores[i / K * E + expert[i]])});
    for (std::vector<Slot>& slots : of_expert) {
      if (slots.size() <= capacity) continue;
      if (spec.drop == Drop::probability)
        std::stable_sort(slots.begin(), slots.end(), [](const Slot& a, const Slot& b) { return a.key > b.key; });
      for (std::size_t i = capacity; i < slots.size(); ++i) {
        row_of_slot[slots[i].index] = -1;
        weight[slots[i].index] = 0.0f;
        ++routing.dropped;
      }
    }
  }
}

/// Numbers the rows by (expert, token, slot), each expert's padded to `row_alignment`. Slots marked -1 get none.
void number_rows(const RouterSpec& spec, const Placement& tokens, std::int64_t T, Routing& routing,
                 CpuBackend& backend) {
  const std::int64_t E = spec.experts;
  const std::int64_t K = spec.top_k;
  const std::int32_t* const expert = routing.expert.view.as<std::int32_t>();
  std::int32_t* const row_of_slot = routing.row_of_slot.view.as<std::int32_t>();
  std::vector<std::int64_t> served(static_cast<std::size_t>(E), 0);
  for (std::int64_t i = 0; i < T * K; ++i)
    if (row_of_slot[i] >= 0) ++served[static_cast<std::size_t>(expert[i])];
  routing.groups.offsets.assign(1, 0);
  for (const std::int64_t count : served)
    routing.groups.offsets.push_back(routing.groups.offsets.back() + padded_rows(spec, count));
  routing.rows = routing.groups.offsets.back();
  NG_CHECK_LE(routing.rows, INT32_MAX, "rows of one permuted tensor");
  routing.token_of_row = backend.tensor(Dtype::i32, 1, routing.rows);
  routing.slot_of_row = backend.tensor(Dtype::i64, 1, routing.rows);
  std::int32_t* const token_of_row = routing.token_of_row.view.as<std::int32_t>();
  std::int64_t* const slot_of_row = routing.slot_of_row.view.as<std::int64_t>();
  std::fill_n(token_of_row, routing.rows, -1);
  for (std::int64_t e = 0; e < E; ++e) {
    const std::int64_t first =
        routing.groups.offsets[static_cast<std::size_t>(e)] + served[static_cast<std::size_t>(e)];
    for (std::int64_t row = first; row < routing.groups.offsets[static_cast<std::size_t>(e) + 1]; ++row)
      slot_of_row[row] = padding_row_id(spec, e, row - first, tokens.rows, logical_row(tokens, 0));
  }
  std::vector<std::int64_t> next(routing.groups.offsets.begin(), routing.groups.offsets.end() - 1);
  for (std::int64_t t = 0; t < T; ++t) {
    for (std::int64_t k = 0; k < K; ++k) {
      if (row_of_slot[t * K + k] < 0) continue;
      const std::int64_t row = next[static_cast<std::size_t>(expert[t * K + k])]++;
      row_of_slot[t * K + k] = static_cast<std::int32_t>(row);
      token_of_row[row] = static_cast<std::int32_t>(t);
      slot_of_row[row] = logical_row(tokens, t) * K + k;
    }
  }
}

/// The aux loss with its sums of shares.
double balance_loss(const RouterSpec& spec, const Routing& routing, std::int64_t T) {
  const std::int64_t E = spec.experts, length = balance_tokens(spec, T);
  const float* const shares = routing.shares.view.as<float>();
  std::vector<double> sums;
  for (std::int64_t first = 0; first < T; first += length)
    for (std::int64_t e = 0; e < E; ++e)
      sums.push_back(
          tree_sum(length, [&](std::int64_t t) { return static_cast<double>(shares[(first + t) * E + e]); }));
  return aux_loss(spec, balance_counts(spec, routing).data(), sums.data(), T);
}

}  // namespace

Routing CpuBackend::route(const RouterSpec& spec, const TensorView& logits, const Placement& tokens,
                          const TensorView& bias) {
  const std::int64_t T = logits.rows;
  const std::int64_t E = spec.experts;
  const std::int64_t K = spec.top_k;
  NG_CHECK(logits.dtype == Dtype::f32, "router logits are f32");
  NG_CHECK_EQ(logits.cols, E);
  check_router(spec, T);
  const float* const b = bias.data == nullptr ? nullptr : list_of_floats(bias, E);
  const bool drops = spec.capacity_factor > 0.0;
  Routing routing;
  routing.probabilities = tensor(Dtype::f32, T, E);
  routing.scores = spec.gate == Gate::softmax ? routing.probabilities : tensor(Dtype::f32, T, E);
  routing.shares = spec.gate == Gate::softmax ? routing.probabilities : tensor(Dtype::f32, T, E);
  routing.expert = tensor(Dtype::i32, T, K);
  routing.full_weight = tensor(Dtype::f32, T, K);
  routing.weight = drops ? tensor(Dtype::f32, T, K) : routing.full_weight;
  routing.row_of_slot = zeros(Dtype::i32, T, K);
  routing.log_sum_exp = tensor(Dtype::f32, 1, T);
  float* const probabilities = routing.probabilities.view.as<float>();
  float* const scores = routing.scores.view.as<float>();
  float* const shares = routing.shares.view.as<float>();
  std::int32_t* const expert = routing.expert.view.as<std::int32_t>();
  float* const weight = routing.full_weight.view.as<float>();
  float* const log_sum_exp = routing.log_sum_exp.view.as<float>();
  std::vector<float> entropy(static_cast<std::size_t>(T));
  pool_.parallel_ranges(T, piece_rows(E * K), [&](std::int64_t begin, std::int64_t end) {
    ChoiceMemory memory(spec);
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const x = reinterpret_cast<const float*>(logits.row(t));
      float* const p = probabilities + t * E;
      const SoftmaxSums sums = kernels_.softmax(x, p, E);
      log_sum_exp[t] = add_rn(sums.maximum, sums.log_sum);
      entropy[static_cast<std::size_t>(t)] = spec.gate == Gate::softmax
                                                 ? kernels_.entropy(x, p, sums, E)
                                                 : kernels_.sigmoid_gate(x, scores + t * E, shares + t * E, E);
      choose_experts(spec, scores + t * E, b, memory.scratch(), expert + t * K);
      combine_weights(spec, scores + t * E, expert + t * K, weight + t * K);
    }
  });
  count_choices(spec, T, routing);
  if (drops) {
    std::copy_n(weight, T * K, routing.weight.view.as<float>());
    drop_slots(spec, T, routing);
  }
  number_rows(spec, tokens, T, routing, *this);
  if (T == 0) return routing;
  if (spec.aux_coefficient != 0.0f) routing.aux_loss = balance_loss(spec, routing, T);
  routing.z_loss = z_loss(spec, tree_sum(T, [&](std::int64_t t) { return squared(log_sum_exp[t]); }), T);
  routing.entropy =
      div_rn(tree_sum(T, [&](std::int64_t t) { return static_cast<double>(entropy[static_cast<std::size_t>(t)]); }),
             static_cast<double>(T));
  return routing;
}

void CpuBackend::route_backward(const RouterSpec& spec, const Routing& routing, const TensorView& d_weight,
                                float loss_scale, const TensorView& d_logits) {
  const std::int64_t T = routing.probabilities.view.rows;
  const std::int64_t E = spec.experts;
  const std::int64_t K = spec.top_k;
  check_shape(routing.weight.view, T, K);
  check_shape(d_logits, T, E);
  NG_CHECK(d_logits.dtype == Dtype::f32, "gradients of router logits are f32");
  const float* const dw = list_of_floats(d_weight, T * K);
  const float* const probabilities = routing.probabilities.view.as<float>();
  const float* const scores = routing.scores.view.as<float>();
  const float* const shares = routing.shares.view.as<float>();
  const float* const weight = routing.full_weight.view.as<float>();
  const std::int32_t* const row_of_slot = routing.row_of_slot.view.as<std::int32_t>();
  const std::int32_t* const expert = routing.expert.view.as<std::int32_t>();
  const float* const log_sum_exp = routing.log_sum_exp.view.as<float>();
  if (T == 0) return;
  const double per_token = gradient_per_token(loss_scale, T);
  const float d_z = z_slope(spec, per_token);
  std::vector<float> slopes;
  for (const std::int64_t count : balance_counts(spec, routing)) slopes.push_back(aux_slope(spec, count, T, per_token));
  pool_.parallel_ranges(T, piece_rows(E), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const share = shares + t * E;
      const float* const a = slopes.data() + t / balance_tokens(spec, T) * E;
      const float* const w = weight + t * K;
      const float* const d = dw + t * K;
      const std::int32_t* const rows = row_of_slot + t * K;
      const TokenGradient token = token_gradient(spec, kernels_.dot(share, a, E), d_z, log_sum_exp[t], w, d, rows);
      logit_gradients(spec, token, probabilities + t * E, scores + t * E, share, a, expert + t * K, w, d, rows,
                      reinterpret_cast<float*>(d_logits.row(t)));
    }
  });
}

}  // namespace ng::cpu
