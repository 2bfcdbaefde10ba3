// SPDX-License-Identifier: Apache-2.0
//
// The plain kernels of the router. The arithmetic of a token is that of numerics/router.hpp and numerics/softmax.hpp;
// integers are counted in orders that do not show.
#include "plain/router.hpp"

#include "narrowgauge/numerics/softmax.hpp"
#include "narrowgauge/numerics/summation_order.hpp"
#include "plain/elements.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

struct RouteToken {
  RouterJob job;
  ChoiceScratch scratch;
  NG_HD void operator()(std::int64_t t) const {
    const std::int64_t E = job.spec.experts, K = job.spec.top_k, groups = job.spec.groups;
    const float* const x = static_cast<const float*>(job.logits.data) + t * job.logits.stride;
    float* const p = job.probabilities + t * E;
    float* const s = job.scores + t * E;
    const SoftmaxSums sums = softmax(x, p, E);
    job.log_sum_exp[t] = add_rn(sums.maximum, sums.log_sum);
    job.entropy[t] =
        job.spec.gate == Gate::softmax ? softmax_entropy(x, p, sums, E) : sigmoid_gate(x, s, job.shares + t * E, E);
    const ChoiceScratch own{scratch.selection + t * E, scratch.group_scores + t * groups,
                            scratch.kept + t * job.spec.groups_kept, scratch.open + t * E,
                            scratch.open_groups + t * groups};
    choose_experts(job.spec, s, job.bias, own, job.expert + t * K);
    combine_weights(job.spec, s, job.expert + t * K, job.full_weight + t * K);
    for (std::int64_t k = 0; k < K; ++k) job.row_of_slot[t * K + k] = 0;
  }
};

/// Calls `visit` with the slots of thread (piece, expert) that have a row, ascending.
template <class Visit>
NG_HD void for_slots(const RouterJob& job, std::int64_t piece, std::int64_t expert, const Visit& visit) {
  const std::int64_t K = job.spec.top_k;
  const std::int64_t first = piece / job.sequence_pieces() * job.length;  // of the sequence
  const std::int64_t begin = first + piece % job.sequence_pieces() * kPieceTokens;
  const std::int64_t end = begin + kPieceTokens < first + job.length ? begin + kPieceTokens : first + job.length;
  for (std::int64_t i = begin * K; i < end * K; ++i)
    if (job.expert[i] == expert && job.row_of_slot[i] >= 0) visit(i);
}

struct CountSlots {
  RouterJob job;
  NG_HD void operator()(std::int64_t i) const {
    std::int32_t count = 0;
    for_slots(job, i / job.spec.experts, i % job.spec.experts, [&](std::int64_t) { ++count; });
    job.piece_counts[i] = count;
  }
};

struct SumPieces {
  RouterJob job;
  std::int64_t* totals;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t E = job.spec.experts;
    std::int32_t* const counts = job.piece_counts + i / E * job.sequence_pieces() * E + i % E;
    std::int32_t sum = 0;
    for (std::int64_t piece = 0; piece < job.sequence_pieces(); ++piece) {
      const std::int32_t count = counts[piece * E];
      counts[piece * E] = sum;
      sum += count;
    }
    totals[i] = sum;
  }
};

struct ListSlots {
  RouterJob job;
  DropLists lists;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t E = job.spec.experts, piece = i / E, e = i % E;
    std::int32_t* const token_at = lists.token_at + (piece / job.sequence_pieces() * E + e) * job.length;
    std::int32_t position = job.piece_counts[i];
    for_slots(job, piece, e, [&](std::int64_t slot) {
      lists.position[slot] = position;
      token_at[position++] = static_cast<std::int32_t>(slot / job.spec.top_k);
    });
  }
};

struct DropSlots {
  RouterJob job;
  DropLists lists;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t E = job.spec.experts, e = job.expert[i];
    const std::int64_t list = i / job.spec.top_k / job.length * E + e;
    const std::int64_t count = job.sequence_counts[list];
    std::int64_t before = lists.position[i];  // slots that are kept rather than this one
    if (count > lists.capacity && job.spec.drop == Drop::probability) {
      const std::int32_t* const token_at = lists.token_at + list * job.length;
      const std::uint32_t own = drop_key(job.scores[i / job.spec.top_k * E + e]);
      const std::int64_t position = before;
      before = 0;
      for (std::int64_t other = 0; other < count; ++other) {
        const std::uint32_t key = drop_key(job.scores[token_at[other] * E + e]);
        if (key > own || (key == own && other < position)) ++before;
      }
    }
    const bool dropped = before >= lists.capacity;
    job.row_of_slot[i] = dropped ? -1 : 0;
    job.weight[i] = dropped ? 0.0f : job.full_weight[i];
  }
};

struct ExpertBases {
  RouterJob job;
  NG_HD void operator()(std::int64_t e) const {
    std::int64_t sum = 0;
    for (std::int64_t s = 0; s < job.sequences(); ++s) {
      const std::int64_t i = s * job.spec.experts + e;
      job.kept_before[i] = sum;
      sum += job.kept_counts[i];
    }
    job.served[e] = sum;
  }
};

struct ExpertOffsets {
  RouterJob job;
  NG_HD void operator()(std::int64_t i) const {
    std::int64_t sum = 0;
    for (std::int64_t e = 0; e < i; ++e) sum += padded_rows(job.spec, job.served[e]);
    job.offsets[i] = sum;
  }
};

struct NumberSlots {
  RouterJob job;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t E = job.spec.experts, piece = i / E, e = i % E;
    std::int64_t row = job.offsets[e] + job.kept_before[piece / job.sequence_pieces() * E + e] + job.piece_counts[i];
    for_slots(job, piece, e, [&](std::int64_t slot) { job.row_of_slot[slot] = static_cast<std::int32_t>(row++); });
  }
};

struct PlaceSlots {
  RouterJob job;
  std::int32_t* token_of_row;
  std::int64_t* slot_of_row;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t K = job.spec.top_k, t = i / K;
    const std::int32_t row = job.row_of_slot[i];
    if (row < 0) return;
    token_of_row[row] = static_cast<std::int32_t>(t);
    slot_of_row[row] = logical_row_of(job.placement, t) * K + i % K;
  }
};

struct PlacePadding {
  RouterJob job;
  std::int32_t* token_of_row;
  std::int64_t* slot_of_row;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t e = i % job.spec.experts, index = i / job.spec.experts;
    const std::int64_t row = job.offsets[e] + job.served[e] + index;
    if (row >= job.offsets[e + 1]) return;
    token_of_row[row] = -1;
    slot_of_row[row] = padding_row_id(job.spec, e, index, job.placement.rows, logical_row_of(job.placement, 0));
  }
};

struct TokenLeaves {
  RouterJob job;
  double* leaves;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t count = static_cast<std::int64_t>(summation_leaves(static_cast<std::size_t>(job.tokens)));
    leaves[i] = i < count ? sum_leaf(i, job.tokens, [&](std::int64_t t) { return squared(job.log_sum_exp[t]); })
                          : sum_leaf(i - count, job.tokens,
                                     [&](std::int64_t t) { return static_cast<double>(job.entropy[t]); });
  }
};

/// Thread (scope, leaf, expert): neighbours read neighbours.
struct ShareLeaves {
  RouterJob job;
  std::int64_t scope, count;  // tokens and leaves of a scope
  double* leaves;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t E = job.spec.experts, e = i % E, leaf = i / E % count, s = i / E / count;
    const float* const shares = job.shares + s * scope * E + e;
    leaves[(s * E + e) * count + leaf] =
        sum_leaf(leaf, scope, [&](std::int64_t t) { return static_cast<double>(shares[t * E]); });
  }
};

struct ReduceTree {
  std::int64_t leaves;
  double* partials;
  double* sums;
  NG_HD void operator()(std::int64_t i) const {
    sums[i] = reduce_tree(partials + i * leaves, static_cast<std::size_t>(leaves));
  }
};

struct CountChoices {
  RouterGradientJob job;
  NG_HD void operator()(std::int64_t i) const {
    atomic_add(&job.counts[i / job.spec.top_k / job.scope * job.spec.experts + job.expert[i]], 1);
  }
};

struct AuxSlopes {
  RouterGradientJob job;
  NG_HD void operator()(std::int64_t i) const {
    job.slopes[i] = aux_slope(job.spec, static_cast<std::int64_t>(job.counts[i]), job.tokens, job.per_token);
  }
};

struct LogitGradients {
  RouterGradientJob job;
  NG_HD void operator()(std::int64_t t) const {
    const std::int64_t E = job.spec.experts, slot = t * job.spec.top_k;
    const float* const shares = job.shares + t * E;
    const float* const slopes = job.slopes + t / job.scope * E;
    const TokenGradient token =
        token_gradient(job.spec, dot_of_chains(shares, slopes, E), z_slope(job.spec, job.per_token), job.log_sum_exp[t],
                       job.full_weight + slot, job.d_weight + slot, job.row_of_slot + slot);
    logit_gradients(job.spec, token, job.probabilities + t * E, job.scores + t * E, shares, slopes, job.expert + slot,
                    job.full_weight + slot, job.d_weight + slot, job.row_of_slot + slot,
                    static_cast<float*>(job.d_logits.data) + t * job.d_logits.stride);
  }
};

std::int64_t leaves_of(std::int64_t terms) {
  return static_cast<std::int64_t>(summation_leaves(static_cast<std::size_t>(terms)));
}

}  // namespace

void route_tokens(const RouterJob& job, const ChoiceScratch& scratch, Stream stream) {
  for_each("route_tokens", job.tokens, stream, RouteToken{job, scratch});
}

void count_slots(const RouterJob& job, Stream stream) {
  for_each("count_slots", job.pieces() * job.spec.experts, stream, CountSlots{job});
}

void sum_pieces(const RouterJob& job, std::int64_t* totals, Stream stream) {
  for_each("sum_pieces", job.sequences() * job.spec.experts, stream, SumPieces{job, totals});
}

void list_slots(const RouterJob& job, const DropLists& lists, Stream stream) {
  for_each("list_slots", job.pieces() * job.spec.experts, stream, ListSlots{job, lists});
}

void drop_slots(const RouterJob& job, const DropLists& lists, Stream stream) {
  for_each("drop_slots", job.slots(), stream, DropSlots{job, lists});
}

void expert_offsets(const RouterJob& job, Stream stream) {
  for_each("expert_bases", job.spec.experts, stream, ExpertBases{job});
  for_each("expert_offsets", job.spec.experts + 1, stream, ExpertOffsets{job});
}

void number_slots(const RouterJob& job, Stream stream) {
  for_each("number_slots", job.pieces() * job.spec.experts, stream, NumberSlots{job});
}

void place_rows(const RouterJob& job, std::int32_t* token_of_row, std::int64_t* slot_of_row, Stream stream) {
  for_each("place_slots", job.slots(), stream, PlaceSlots{job, token_of_row, slot_of_row});
  for_each("place_padding", job.spec.experts * (job.spec.row_alignment - 1), stream,
           PlacePadding{job, token_of_row, slot_of_row});
}

void token_sums(const RouterJob& job, const RouterSums& sums, Stream stream) {
  const std::int64_t leaves = leaves_of(job.tokens);
  for_each("token_leaves", 2 * leaves, stream, TokenLeaves{job, sums.token_leaves});
  for_each("token_sums", 2, stream, ReduceTree{leaves, sums.token_leaves, sums.token_sums});
}

void share_sums(const RouterJob& job, const RouterSums& sums, std::int64_t scope, Stream stream) {
  const std::int64_t leaves = leaves_of(scope), trees = job.tokens / scope * job.spec.experts;
  for_each("share_leaves", trees * leaves, stream, ShareLeaves{job, scope, leaves, sums.share_leaves});
  for_each("share_sums", trees, stream, ReduceTree{leaves, sums.share_leaves, sums.share_sums});
}

void aux_slopes(const RouterGradientJob& job, Stream stream) {
  for_each("count_choices", job.tokens * job.spec.top_k, stream, CountChoices{job});
  for_each("aux_slopes", job.tokens / job.scope * job.spec.experts, stream, AuxSlopes{job});
}

void route_backward(const RouterGradientJob& job, Stream stream) {
  for_each("route_backward", job.tokens, stream, LogitGradients{job});
}

}  // namespace ng::cuda::plain
