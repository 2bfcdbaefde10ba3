// SPDX-License-Identifier: Apache-2.0
//
// The router: scores, choice, combine weights, capacity, balance losses and their gradients. How rows then move is in
// cpu_routing.cpp.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu_backend.hpp"
#include "long_sum.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"
#include "row_access.hpp"

namespace ng::cpu {

namespace {

double real(std::int64_t count) {
  return static_cast<double>(count);
}

/// The K largest of the values that may be chosen, falling, ties to the lower index.
void choose_top_k(const float* c, const std::uint8_t* allowed, std::int64_t E, std::int64_t K, std::int32_t* chosen) {
  for (std::int64_t k = 0; k < K; ++k) {
    std::int64_t best = -1;
    for (std::int64_t e = 0; e < E; ++e) {
      if (!allowed[e] || std::find(chosen, chosen + k, static_cast<std::int32_t>(e)) != chosen + k) continue;
      if (best < 0 || c[e] > c[best]) best = e;
    }
    chosen[k] = static_cast<std::int32_t>(best);
  }
}

/// Score of a group of n experts.
float group_score(GroupScore kind, const float* c, std::int64_t n) {
  std::int64_t best = 0;
  for (std::int64_t e = 1; e < n; ++e)
    if (c[e] > c[best]) best = e;
  if (kind == GroupScore::max) return c[best];
  std::int64_t second = best == 0 ? 1 : 0;
  for (std::int64_t e = second + 1; e < n; ++e)
    if (e != best && c[e] > c[second]) second = e;
  return add_rn(c[best], c[second]);
}

/// The experts of one token.
class Chooser {
 public:
  explicit Chooser(const RouterSpec& spec)
      : spec_(spec),
        size_(spec.experts / spec.groups),
        allowed_(static_cast<std::size_t>(spec.experts), 1),
        selection_(static_cast<std::size_t>(spec.experts)),
        groups_(static_cast<std::size_t>(spec.groups)),
        all_groups_(static_cast<std::size_t>(spec.groups), 1),
        kept_(static_cast<std::size_t>(spec.groups_kept)) {}

  /// `bias` may be nullptr.
  void choose(const float* scores, const float* bias, std::int32_t* chosen) {
    const float* c = scores;
    if (bias != nullptr) {
      for (std::size_t e = 0; e < selection_.size(); ++e) selection_[e] = add_rn(scores[e], bias[e]);
      c = selection_.data();
    }
    if (spec_.groups_kept < spec_.groups) {
      for (std::int64_t g = 0; g < spec_.groups; ++g)
        groups_[static_cast<std::size_t>(g)] = group_score(spec_.group_score, c + g * size_, size_);
      choose_top_k(groups_.data(), all_groups_.data(), spec_.groups, spec_.groups_kept, kept_.data());
      std::fill(allowed_.begin(), allowed_.end(), std::uint8_t{0});
      for (const std::int32_t g : kept_) std::fill_n(allowed_.begin() + g * size_, size_, std::uint8_t{1});
    }
    choose_top_k(c, allowed_.data(), spec_.experts, spec_.top_k, chosen);
  }

 private:
  const RouterSpec& spec_;
  std::int64_t size_;
  std::vector<std::uint8_t> allowed_;
  std::vector<float> selection_, groups_;
  std::vector<std::uint8_t> all_groups_;
  std::vector<std::int32_t> kept_;
};

void combine_weights(const RouterSpec& spec, const float* scores, const std::int32_t* chosen, float* weight) {
  float total = 0.0f;
  for (std::int64_t k = 0; k < spec.top_k; ++k) {
    weight[k] = scores[chosen[k]];
    total = add_rn(total, weight[k]);
  }
  for (std::int64_t k = 0; k < spec.top_k; ++k) {
    if (spec.renormalize) weight[k] = total == 0.0f ? 0.0f : div_rn(weight[k], total);
    weight[k] = mul_rn(weight[k], spec.routed_scaling);
  }
}

/// Tokens of one sequence, and sequences of T tokens.
std::int64_t sequence_tokens(const RouterSpec& spec, std::int64_t T) {
  return spec.sequence_length > 0 ? spec.sequence_length : T;
}

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
  const double even = mul_rn(mul_rn(spec.capacity_factor, real(length)), real(K)) / real(E);
  // No expert has more slots than its sequence has tokens.
  const std::size_t capacity = static_cast<std::size_t>(std::min(std::ceil(even), real(length)));
  struct Slot {
    std::int64_t index;   // token * K + slot
    std::uint32_t score;  // bits of s >= 0: ordered as numbers are, and every two can be compared
  };
  std::vector<std::vector<Slot>> of_expert(static_cast<std::size_t>(E));
  for (std::int64_t first = 0; first < T; first += length) {
    for (std::vector<Slot>& slots : of_expert) slots.clear();
    for (std::int64_t i = first * K; i < (first + length) * K; ++i)
      of_expert[static_cast<std::size_t>(expert[i])].push_back({i, bits_of(scores[i / K * E + expert[i]])});
    for (std::vector<Slot>& slots : of_expert) {
      if (slots.size() <= capacity) continue;
      if (spec.drop == Drop::probability)
        std::stable_sort(slots.begin(), slots.end(), [](const Slot& a, const Slot& b) { return a.score > b.score; });
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
  for (const std::int64_t count : served) {
    const std::int64_t padded = (count + spec.row_alignment - 1) / spec.row_alignment * spec.row_alignment;
    routing.groups.offsets.push_back(routing.groups.offsets.back() + padded);
  }
  routing.rows = routing.groups.offsets.back();
  NG_CHECK_LE(routing.rows, INT32_MAX, "rows of one permuted tensor");
  routing.token_of_row = backend.tensor(Dtype::i32, 1, routing.rows);
  routing.slot_of_row = backend.tensor(Dtype::i64, 1, routing.rows);
  std::int32_t* const token_of_row = routing.token_of_row.view.as<std::int32_t>();
  std::int64_t* const slot_of_row = routing.slot_of_row.view.as<std::int64_t>();
  std::fill_n(token_of_row, routing.rows, -1);
  // Padding rows: ids behind all slots of the step that depend on neither the alignment nor other micro-batches, since
  // a transform along the rows may put values there, which draw random bits of their own.
  for (std::int64_t e = 0; e < E; ++e) {
    const std::int64_t first =
        routing.groups.offsets[static_cast<std::size_t>(e)] + served[static_cast<std::size_t>(e)];
    for (std::int64_t row = first; row < routing.groups.offsets[static_cast<std::size_t>(e) + 1]; ++row)
      slot_of_row[row] = tokens.rows * K + ((row - first) * E + e) * tokens.rows + logical_row(tokens, 0);
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

/// E * sum_e f_e P_e of the `count` tokens from `first` on.
double imbalance(const float* shares, std::int64_t first, std::int64_t count, const std::int64_t* counts,
                 std::int64_t E, std::int64_t K) {
  double sum = 0.0;
  for (std::int64_t e = 0; e < E; ++e) {
    const double total =
        tree_sum(count, [&](std::int64_t t) { return static_cast<double>(shares[(first + t) * E + e]); });
    const double share = div_rn(real(counts[e]), real(count * K));
    sum = add_rn(sum, mul_rn(share, div_rn(total, real(count))));
  }
  return sum;
}

double aux_loss(const RouterSpec& spec, const Routing& routing, std::int64_t T) {
  const std::int64_t E = spec.experts, K = spec.top_k;
  const float* const shares = routing.shares.view.as<float>();
  double sum = 0.0;
  if (spec.balance == Balance::batch) {
    sum = imbalance(shares, 0, T, routing.counts.data(), E, K);
  } else {
    const std::int64_t length = sequence_tokens(spec, T);
    for (std::int64_t s = 0; s < T / length; ++s)
      sum = add_rn(sum, imbalance(shares, s * length, length, routing.sequence_counts.data() + s * E, E, K));
    sum = div_rn(sum, real(T / length));
  }
  return mul_rn(mul_rn(static_cast<double>(spec.aux_coefficient), real(E)), sum);
}

/// Slope of the aux loss in the share of each expert, [scopes, E]: coefficient * E * f_e * loss_scale / T.
std::vector<float> aux_slopes(const RouterSpec& spec, const Routing& routing, std::int64_t T, double per_token) {
  const bool whole = spec.balance == Balance::batch;
  const std::vector<std::int64_t>& counts = whole ? routing.counts : routing.sequence_counts;
  const double slots = real((whole ? T : sequence_tokens(spec, T)) * spec.top_k);
  std::vector<float> slopes(counts.size());
  for (std::size_t i = 0; i < slopes.size(); ++i) {
    const double share = T == 0 ? 0.0 : div_rn(real(counts[i]), slots);
    const double slope = mul_rn(mul_rn(static_cast<double>(spec.aux_coefficient), real(spec.experts)), share);
    slopes[i] = static_cast<float>(mul_rn(slope, per_token));
  }
  return slopes;
}

void check_spec(const RouterSpec& spec, std::int64_t T) {
  const std::int64_t E = spec.experts;
  NG_CHECK(spec.top_k >= 1 && spec.top_k <= E, "top ", spec.top_k, " of ", E);
  NG_CHECK_GE(spec.row_alignment, 1);
  NG_CHECK(spec.groups >= 1 && E % spec.groups == 0, E, " experts in ", spec.groups, " groups");
  NG_CHECK(spec.groups_kept >= 1 && spec.groups_kept <= spec.groups, spec.groups_kept, " of ", spec.groups, " groups");
  NG_CHECK_GE(spec.groups_kept * (E / spec.groups), spec.top_k, "experts in the groups that are kept");
  NG_CHECK(spec.group_score == GroupScore::max || E / spec.groups >= 2, "a sum of two in groups of one");
  NG_CHECK(sequence_tokens(spec, T) == 0 || T % sequence_tokens(spec, T) == 0, T, " tokens in sequences of ",
           spec.sequence_length);
}

}  // namespace

Routing CpuBackend::route(const RouterSpec& spec, const TensorView& logits, const Placement& tokens,
                          const TensorView& bias) {
  const std::int64_t T = logits.rows;
  const std::int64_t E = spec.experts;
  const std::int64_t K = spec.top_k;
  NG_CHECK(logits.dtype == Dtype::f32, "router logits are f32");
  NG_CHECK_EQ(logits.cols, E);
  check_spec(spec, T);
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
    Chooser chooser(spec);
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const x = reinterpret_cast<const float*>(logits.row(t));
      float* const p = probabilities + t * E;
      const SoftmaxSums sums = kernels_.softmax(x, p, E);
      log_sum_exp[t] = add_rn(sums.maximum, sums.log_sum);
      entropy[static_cast<std::size_t>(t)] = spec.gate == Gate::softmax
                                                 ? kernels_.entropy(x, p, sums, E)
                                                 : kernels_.sigmoid_gate(x, scores + t * E, shares + t * E, E);
      chooser.choose(scores + t * E, b, expert + t * K);
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
  if (spec.aux_coefficient != 0.0f) routing.aux_loss = aux_loss(spec, routing, T);
  const double z = tree_sum(T, [&](std::int64_t t) {
    const double lse = static_cast<double>(log_sum_exp[t]);
    return mul_rn(lse, lse);
  });
  routing.z_loss = mul_rn(static_cast<double>(spec.z_coefficient), div_rn(z, real(T)));
  routing.entropy = div_rn(
      tree_sum(T, [&](std::int64_t t) { return static_cast<double>(entropy[static_cast<std::size_t>(t)]); }), real(T));
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
  const double per_token = T == 0 ? 0.0 : div_rn(static_cast<double>(loss_scale), real(T));
  const std::vector<float> d_aux = aux_slopes(spec, routing, T, per_token);
  const std::int64_t scope = spec.balance == Balance::batch ? T : sequence_tokens(spec, T);
  const float d_z = static_cast<float>(mul_rn(2.0 * static_cast<double>(spec.z_coefficient), per_token));
  const bool sigmoid = spec.gate == Gate::sigmoid;
  pool_.parallel_ranges(T, piece_rows(E), [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> d(static_cast<std::size_t>(K));
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const p = probabilities + t * E;
      const float* const s = scores + t * E;
      const float* const share = shares + t * E;
      const float* const a = d_aux.data() + t / scope * E;
      const float* const w = weight + t * K;
      const std::int32_t* const chosen = expert + t * K;
      float* const out = reinterpret_cast<float*>(d_logits.row(t));
      const float mean_aux = kernels_.dot(share, a, E);
      const float z = mul_rn(d_z, log_sum_exp[t]);
      float mean = 0.0f;  // sum_k w_k dw_k
      for (std::int64_t k = 0; k < K; ++k) {
        d[static_cast<std::size_t>(k)] = row_of_slot[t * K + k] < 0 ? 0.0f : dw[t * K + k];
        mean = fma_rn(w[k], d[static_cast<std::size_t>(k)], mean);
      }
      if (spec.renormalize) mean = div_rn(mean, spec.routed_scaling);
      const float shared = spec.renormalize ? z : sub_rn(z, mean);  // of the softmax
      for (std::int64_t e = 0; e < E; ++e) {
        const float centered = sub_rn(a[e], mean_aux);
        out[e] = sigmoid ? fma_rn(p[e], z, mul_rn(sub_rn(1.0f, s[e]), mul_rn(share[e], centered)))
                         : mul_rn(p[e], add_rn(centered, shared));
      }
      if (spec.renormalize && K == 1) continue;  // the weight is constant
      for (std::int64_t k = 0; k < K; ++k) {
        const float slope = sigmoid ? mul_rn(w[k], sub_rn(1.0f, s[chosen[k]])) : w[k];
        const float gradient = d[static_cast<std::size_t>(k)];
        float& at = out[chosen[k]];
        at = fma_rn(slope, spec.renormalize ? sub_rn(gradient, mean) : gradient, at);
      }
    }
  });
}

}  // namespace ng::cpu
