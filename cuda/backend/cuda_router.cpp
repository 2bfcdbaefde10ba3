// SPDX-License-Identifier: Apache-2.0
//
// The router: scores, choice, combine weights, capacity, rows, balance losses and their gradients. What the host needs
// of it comes back in one copy. How rows then move is in cuda_routing.cpp.
#include <algorithm>
#include <cstring>

#include "backend/cuda_backend.hpp"
#include "backend/view_checks.hpp"
#include "fast/router.hpp"
#include "narrowgauge/backend/router_checks.hpp"
#include "narrowgauge/numerics/summation_order.hpp"
#include "plain/router.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

std::size_t size(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

template <class T>
Buffer scratch_of(std::int64_t count) {
  return cuda::allocate(size(count) * sizeof(T));
}

/// ChoiceScratch of all tokens.
class ChoiceMemory {
 public:
  ChoiceMemory(const RouterSpec& spec, std::int64_t tokens)
      : selection_(scratch_of<float>(tokens * spec.experts)),
        group_scores_(scratch_of<float>(tokens * spec.groups)),
        kept_(scratch_of<std::int32_t>(tokens * spec.groups_kept)),
        open_(scratch_of<std::uint8_t>(tokens * spec.experts)),
        open_groups_(scratch_of<std::uint8_t>(tokens * spec.groups)) {}

  ChoiceScratch scratch() const {
    return {selection_.as<float>(), group_scores_.as<float>(), kept_.as<std::int32_t>(), open_.as<std::uint8_t>(),
            open_groups_.as<std::uint8_t>()};
  }

 private:
  Buffer selection_, group_scores_, kept_, open_, open_groups_;
};

/// The words that the host reads: counts [S, E] of choices and of served slots, which may be the same, [E] of served
/// slots, [E + 1] offsets, then sums of losses: z, entropy, and the shares of each scope.
class Summary {
 public:
  Summary(const RouterSpec& spec, std::int64_t tokens, bool drops)
      : experts_(spec.experts),
        served_(tokens / sequence_tokens(spec, tokens) * experts_),
        offsets_(served_ + experts_),
        sums_(offsets_ + experts_ + 1),
        shares_(spec.aux_coefficient != 0.0f ? tokens / balance_tokens(spec, tokens) * experts_ : 0),
        device_(scratch_of<std::int64_t>(sums_ + 2 + shares_)),
        kept_(drops ? scratch_of<std::int64_t>(served_) : device_) {}

  /// Device memory.
  std::int64_t* sequence_counts() const { return device_.as<std::int64_t>(); }
  std::int64_t* kept_counts() const { return kept_.as<std::int64_t>(); }
  std::int64_t* served() const { return device_.as<std::int64_t>() + served_; }
  std::int64_t* offsets() const { return device_.as<std::int64_t>() + offsets_; }
  double* token_sums() const { return device_.as<double>() + sums_; }
  double* share_sums() const { return token_sums() + 2; }
  std::int64_t share_trees() const { return shares_; }

  /// The counts, offsets and losses of `routing`.
  void read(const RouterSpec& spec, std::int64_t tokens, Routing& routing) const {
    const std::vector<std::int64_t> words = to_host<std::int64_t>(device_.data.get(), size(sums_ + 2 + shares_));
    const auto at = [&](std::int64_t i) { return words.begin() + static_cast<std::ptrdiff_t>(i); };
    std::vector<double> sums(size(2 + shares_));
    std::memcpy(sums.data(), words.data() + sums_, sums.size() * sizeof(double));
    routing.sequence_counts.assign(at(0), at(served_));
    for (std::int64_t i = 0; i < served_; ++i) routing.counts[size(i % experts_)] += words[size(i)];
    routing.dropped = tokens * spec.top_k;
    for (std::int64_t i = served_; i < offsets_; ++i) routing.dropped -= words[size(i)];
    routing.groups.offsets.assign(at(offsets_), at(sums_));
    routing.rows = routing.groups.offsets.back();
    if (shares_ > 0) routing.aux_loss = aux_loss(spec, balance_counts(spec, routing).data(), sums.data() + 2, tokens);
    routing.z_loss = z_loss(spec, sums[0], tokens);
    routing.entropy = div_rn(sums[1], static_cast<double>(tokens));
  }

 private:
  std::int64_t experts_;
  std::int64_t served_, offsets_, sums_;  // first words
  std::int64_t shares_;                   // sums of shares
  Buffer device_, kept_;
};

void sum_pieces(const RouterJob& job, std::int64_t* totals, bool fast) {
  fast ? fast::sum_pieces(job, totals, nullptr) : plain::sum_pieces(job, totals, nullptr);
}

/// Marks the slots above capacity and counts the others again.
void drop_slots(const RouterJob& job, bool fast) {
  const Buffer position = scratch_of<std::int32_t>(job.slots());
  const Buffer token_at = scratch_of<std::int32_t>(job.tokens * job.spec.experts);
  const DropLists lists{expert_capacity(job.spec, job.length), position.as<std::int32_t>(),
                        token_at.as<std::int32_t>()};
  plain::list_slots(job, lists, nullptr);
  fast ? fast::drop_slots(job, lists, nullptr) : plain::drop_slots(job, lists, nullptr);
  plain::count_slots(job, nullptr);
  sum_pieces(job, job.kept_counts, fast);
}

/// The sums that the losses are made of.
void sum_losses(const RouterJob& job, const Summary& summary, bool fast) {
  const auto leaves = [](std::int64_t terms) { return static_cast<std::int64_t>(summation_leaves(size(terms))); };
  const std::int64_t scope = balance_tokens(job.spec, job.tokens);
  const Buffer token_leaves = scratch_of<double>(2 * leaves(job.tokens));
  const Buffer share_leaves = scratch_of<double>(summary.share_trees() * leaves(scope));
  const RouterSums sums{token_leaves.as<double>(), share_leaves.as<double>(), summary.token_sums(),
                        summary.share_sums()};
  fast ? fast::token_sums(job, sums, nullptr) : plain::token_sums(job, sums, nullptr);
  if (summary.share_trees() == 0) return;
  fast ? fast::share_sums(job, sums, scope, nullptr) : plain::share_sums(job, sums, scope, nullptr);
}

}  // namespace

Routing CudaBackend::route(const RouterSpec& spec, const TensorView& logits, const Placement& tokens,
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
  routing.row_of_slot = tensor(Dtype::i32, T, K);
  routing.log_sum_exp = tensor(Dtype::f32, 1, T);
  routing.counts.assign(size(E), 0);
  if (T == 0) {
    routing.groups.offsets.assign(size(E + 1), 0);
    routing.token_of_row = tensor(Dtype::i32, 1, 0);
    routing.slot_of_row = tensor(Dtype::i64, 1, 0);
    return routing;
  }

  RouterJob job;
  job.spec = spec;
  job.tokens = T;
  job.length = sequence_tokens(spec, T);
  job.logits = logits;
  job.placement = tokens;
  job.bias = b;
  job.probabilities = routing.probabilities.view.as<float>();
  job.scores = routing.scores.view.as<float>();
  job.shares = routing.shares.view.as<float>();
  job.expert = routing.expert.view.as<std::int32_t>();
  job.full_weight = routing.full_weight.view.as<float>();
  job.weight = routing.weight.view.as<float>();
  job.row_of_slot = routing.row_of_slot.view.as<std::int32_t>();
  job.log_sum_exp = routing.log_sum_exp.view.as<float>();
  const Summary summary(spec, T, drops);
  const Buffer entropy = scratch_of<float>(T);
  const Buffer piece_counts = scratch_of<std::int32_t>(job.pieces() * E);
  const Buffer kept_before = scratch_of<std::int64_t>(job.sequences() * E);
  job.entropy = entropy.as<float>();
  job.piece_counts = piece_counts.as<std::int32_t>();
  job.sequence_counts = summary.sequence_counts();
  job.kept_counts = summary.kept_counts();
  job.kept_before = kept_before.as<std::int64_t>();
  job.served = summary.served();
  job.offsets = summary.offsets();

  const bool serves = fast() && fast::routes(spec);
  if (serves)
    fast::route_tokens(job, nullptr);
  else
    plain::route_tokens(job, ChoiceMemory(spec, T).scratch(), nullptr);
  plain::count_slots(job, nullptr);
  sum_pieces(job, job.sequence_counts, serves);
  if (drops) drop_slots(job, serves);
  plain::expert_offsets(job, nullptr);
  plain::number_slots(job, nullptr);
  sum_losses(job, summary, serves);
  summary.read(spec, T, routing);

  NG_CHECK_LE(routing.rows, INT32_MAX, "rows of one permuted tensor");
  routing.token_of_row = tensor(Dtype::i32, 1, routing.rows);
  routing.slot_of_row = tensor(Dtype::i64, 1, routing.rows);
  plain::place_rows(job, routing.token_of_row.view.as<std::int32_t>(), routing.slot_of_row.view.as<std::int64_t>(),
                    nullptr);
  return routing;
}

void CudaBackend::route_backward(const RouterSpec& spec, const Routing& routing, const TensorView& d_weight,
                                 float loss_scale, const TensorView& d_logits) {
  const std::int64_t T = routing.probabilities.view.rows;
  const std::int64_t E = spec.experts;
  const std::int64_t K = spec.top_k;
  check_shape(routing.weight.view, T, K);
  check_shape(d_logits, T, E);
  NG_CHECK(d_logits.dtype == Dtype::f32, "gradients of router logits are f32");
  const float* const dw = list_of_floats(d_weight, T * K);
  if (T == 0) return;

  plain::RouterGradientJob job;
  job.spec = spec;
  job.tokens = T;
  job.scope = balance_tokens(spec, T);
  job.per_token = gradient_per_token(loss_scale, T);
  job.probabilities = routing.probabilities.view.as<const float>();
  job.scores = routing.scores.view.as<const float>();
  job.shares = routing.shares.view.as<const float>();
  job.expert = routing.expert.view.as<const std::int32_t>();
  job.full_weight = routing.full_weight.view.as<const float>();
  job.row_of_slot = routing.row_of_slot.view.as<const std::int32_t>();
  job.log_sum_exp = routing.log_sum_exp.view.as<const float>();
  job.d_weight = dw;
  job.d_logits = d_logits;
  // The choices are counted again: cheaper than waiting for a copy of the host's counts.
  const std::int64_t lists = T / job.scope * E;
  const Buffer counts = scratch_of<unsigned long long>(lists);
  const Buffer slopes = scratch_of<float>(lists);
  fill_bytes(counts.data.get(), 0, counts.bytes);
  job.counts = counts.as<unsigned long long>();
  job.slopes = slopes.as<float>();
  plain::aux_slopes(job, nullptr);
  fast() && fast::routes_back(spec) ? fast::route_backward(job, nullptr) : plain::route_backward(job, nullptr);
}

}  // namespace ng::cuda
