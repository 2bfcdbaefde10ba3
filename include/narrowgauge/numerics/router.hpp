// SPDX-License-Identifier: Apache-2.0
//
// A router's arithmetic for one token, and its losses: choice of experts, combine weights, order of dropping, padding,
// balance loss, and the gradient of the logits. What the numbers mean and in which order they are rounded is written at
// Backend::route and Backend::route_backward. Softmax and the sigmoid gate are in softmax.hpp.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"
#include "narrowgauge/numerics/router_spec.hpp"

namespace ng {

// ---- choice

/// Whether `next` is chosen before the best so far of lower index: ties stay with the lower one, and so does NaN.
NG_HD bool chosen_before(float next, float best) {
  return next > best;
}

/// The `count` largest of the n values that are open, falling, ties to the lower index; those are closed then.
NG_HD void choose_largest(const float* values, std::uint8_t* open, std::int64_t n, std::int64_t count,
                          std::int32_t* chosen) {
  for (std::int64_t k = 0; k < count; ++k) {
    std::int64_t best = -1;
    for (std::int64_t i = 0; i < n; ++i)
      if (open[i] && (best < 0 || chosen_before(values[i], values[best]))) best = i;
    chosen[k] = static_cast<std::int32_t>(best);
    open[best] = 0;
  }
}

/// Score of a group of n experts from their selection scores.
NG_HD float group_score(GroupScore kind, const float* c, std::int64_t n) {
  std::int64_t best = 0;
  for (std::int64_t e = 1; e < n; ++e)
    if (chosen_before(c[e], c[best])) best = e;
  if (kind == GroupScore::max) return c[best];
  std::int64_t second = best == 0 ? 1 : 0;
  for (std::int64_t e = second + 1; e < n; ++e)
    if (e != best && chosen_before(c[e], c[second])) second = e;
  return add_rn(c[best], c[second]);
}

/// Selection score of an expert; `bias` may be null.
NG_HD float selection_score(float score, const float* bias, std::int64_t expert) {
  return bias == nullptr ? score : add_rn(score, bias[expert]);
}

/// Memory for the choice of one token; contents before and after mean nothing.
struct ChoiceScratch {
  float* selection;           ///< [E]
  float* group_scores;        ///< [groups]
  std::int32_t* kept;         ///< [groups_kept]
  std::uint8_t* open;         ///< [E]
  std::uint8_t* open_groups;  ///< [groups]
};

/// The slots of one token, [K], from its scores. `bias` may be null.
NG_HD void choose_experts(const RouterSpec& spec, const float* scores, const float* bias, const ChoiceScratch& scratch,
                          std::int32_t* chosen) {
  const std::int64_t size = spec.experts / spec.groups;
  for (std::int64_t e = 0; e < spec.experts; ++e) {
    scratch.selection[e] = selection_score(scores[e], bias, e);
    scratch.open[e] = 1;
  }
  if (spec.groups_kept < spec.groups) {
    for (std::int64_t g = 0; g < spec.groups; ++g) {
      scratch.group_scores[g] = group_score(spec.group_score, scratch.selection + g * size, size);
      scratch.open_groups[g] = 1;
    }
    choose_largest(scratch.group_scores, scratch.open_groups, spec.groups, spec.groups_kept, scratch.kept);
    for (std::int64_t g = 0; g < spec.groups; ++g)
      if (scratch.open_groups[g])  // not kept
        for (std::int64_t e = g * size; e < (g + 1) * size; ++e) scratch.open[e] = 0;
  }
  choose_largest(scratch.selection, scratch.open, spec.experts, spec.top_k, chosen);
}

// ---- combine weights

/// Weight of a slot; `total`: sum of the token's chosen scores in slot order.
NG_HD float combine_weight(const RouterSpec& spec, float score, float total) {
  const float share = !spec.renormalize ? score : total == 0.0f ? 0.0f : div_rn(score, total);
  return mul_rn(share, spec.routed_scaling);
}

/// The weights of one token's slots, [K].
NG_HD void combine_weights(const RouterSpec& spec, const float* scores, const std::int32_t* chosen, float* weight) {
  float total = 0.0f;
  for (std::int64_t k = 0; k < spec.top_k; ++k) total = add_rn(total, scores[chosen[k]]);
  for (std::int64_t k = 0; k < spec.top_k; ++k) weight[k] = combine_weight(spec, scores[chosen[k]], total);
}

// ---- capacity and rows

/// Tokens of one sequence of `tokens`.
NG_HD std::int64_t sequence_tokens(const RouterSpec& spec, std::int64_t tokens) {
  return spec.sequence_length > 0 ? spec.sequence_length : tokens;
}

/// Slots that an expert serves of a sequence of `length` tokens, of which it has at most one each.
NG_HD std::int64_t expert_capacity(const RouterSpec& spec, std::int64_t length) {
  const double even =
      div_rn(mul_rn(mul_rn(spec.capacity_factor, static_cast<double>(length)), static_cast<double>(spec.top_k)),
             static_cast<double>(spec.experts));
  if (!(even < static_cast<double>(length))) return length;
  const std::int64_t whole = static_cast<std::int64_t>(even);
  return whole + (static_cast<double>(whole) < even ? 1 : 0);
}

/// Key of a slot's score s >= 0: slots are kept by falling key, ties to the lower token. Ordered as numbers are, NaN
/// above all.
NG_HD std::uint32_t drop_key(float score) {
  return score == score ? bits_of(score) : kQuietNanBits;
}

/// Rows of an expert that serves `count` slots.
NG_HD std::int64_t padded_rows(const RouterSpec& spec, std::int64_t count) {
  return (count + spec.row_alignment - 1) / spec.row_alignment * spec.row_alignment;
}

/// Id of an expert's padding row number `index`: behind all slots of the step, and dependent on neither the alignment
/// nor other micro-batches, since a transform along the rows may put values there, which draw random bits of their own.
/// `step_tokens`: of the whole step; `first_token`: the micro-batch's first one in it.
NG_HD std::int64_t padding_row_id(const RouterSpec& spec, std::int64_t expert, std::int64_t index,
                                  std::int64_t step_tokens, std::int64_t first_token) {
  return step_tokens * spec.top_k + (index * spec.experts + expert) * step_tokens + first_token;
}

// ---- losses

/// Term of a token in the z loss.
NG_HD double squared(float log_sum_exp) {
  return mul_rn(static_cast<double>(log_sum_exp), static_cast<double>(log_sum_exp));
}

/// sum_e f_e P_e of one scope of `tokens` tokens: `counts` and `share_sums` [E].
NG_HD double imbalance(const RouterSpec& spec, const std::int64_t* counts, const double* share_sums,
                       std::int64_t tokens) {
  double sum = 0.0;
  for (std::int64_t e = 0; e < spec.experts; ++e) {
    const double load = div_rn(static_cast<double>(counts[e]), static_cast<double>(tokens * spec.top_k));
    sum = add_rn(sum, mul_rn(load, div_rn(share_sums[e], static_cast<double>(tokens))));
  }
  return sum;
}

/// Tokens over which one balance is taken, of `tokens` > 0.
NG_HD std::int64_t balance_tokens(const RouterSpec& spec, std::int64_t tokens) {
  return spec.balance == Balance::batch ? tokens : sequence_tokens(spec, tokens);
}

/// The aux loss of `tokens` > 0; `counts` and `share_sums` of each scope, [tokens / balance_tokens, E].
NG_HD double aux_loss(const RouterSpec& spec, const std::int64_t* counts, const double* share_sums,
                      std::int64_t tokens) {
  const std::int64_t length = balance_tokens(spec, tokens);
  double sum = 0.0;
  for (std::int64_t s = 0; s < tokens / length; ++s)
    sum = add_rn(sum, imbalance(spec, counts + s * spec.experts, share_sums + s * spec.experts, length));
  if (spec.balance == Balance::sequence) sum = div_rn(sum, static_cast<double>(tokens / length));
  return mul_rn(mul_rn(static_cast<double>(spec.aux_coefficient), static_cast<double>(spec.experts)), sum);
}

/// The z loss from the sum of the tokens' terms.
NG_HD double z_loss(const RouterSpec& spec, double sum, std::int64_t tokens) {
  return mul_rn(static_cast<double>(spec.z_coefficient), div_rn(sum, static_cast<double>(tokens)));
}

// ---- gradient of the logits

/// Gradient of the step's loss in the term of one of `tokens` > 0.
NG_HD double gradient_per_token(float loss_scale, std::int64_t tokens) {
  return div_rn(static_cast<double>(loss_scale), static_cast<double>(tokens));
}

/// Slope of the aux loss in an expert's share: coefficient * E * f_e * per_token. `count`: its slots in the scope;
/// `tokens`: all.
NG_HD float aux_slope(const RouterSpec& spec, std::int64_t count, std::int64_t tokens, double per_token) {
  const double load =
      div_rn(static_cast<double>(count), static_cast<double>(balance_tokens(spec, tokens) * spec.top_k));
  const double slope =
      mul_rn(mul_rn(static_cast<double>(spec.aux_coefficient), static_cast<double>(spec.experts)), load);
  return static_cast<float>(mul_rn(slope, per_token));
}

/// Slope of the z loss in log_sum_exp, over log_sum_exp.
NG_HD float z_slope(const RouterSpec& spec, double per_token) {
  return static_cast<float>(mul_rn(2.0 * static_cast<double>(spec.z_coefficient), per_token));
}

/// What the gradients of one token's logits have in common.
struct TokenGradient {
  float mean_aux;   ///< row sum of share * slope
  float mean_slot;  ///< sum over the slots of w_k d_k, over routed_scaling if renormalized
  float common;     ///< slope of the z loss; under softmax without renormalize less mean_slot
};

/// d_k of a slot: nothing of a dropped one.
NG_HD float slot_slope(std::int32_t row, float d_weight) {
  return row < 0 ? 0.0f : d_weight;
}

/// From the token's full weights, the gradients of its weights and its rows, [K].
NG_HD TokenGradient token_gradient(const RouterSpec& spec, float mean_aux, float z_slope, float log_sum_exp,
                                   const float* weight, const float* d_weight, const std::int32_t* row_of_slot) {
  float mean = 0.0f;
  for (std::int64_t k = 0; k < spec.top_k; ++k) mean = fma_rn(weight[k], slot_slope(row_of_slot[k], d_weight[k]), mean);
  if (spec.renormalize) mean = div_rn(mean, spec.routed_scaling);
  const float z = mul_rn(z_slope, log_sum_exp);
  return {mean_aux, mean, spec.gate == Gate::softmax && !spec.renormalize ? sub_rn(z, mean) : z};
}

/// Gradient of an expert's logit but for what a slot adds. `slope`: of the aux loss in its share.
NG_HD float expert_gradient(Gate gate, const TokenGradient& token, float probability, float score, float share,
                            float slope) {
  const float centered = sub_rn(slope, token.mean_aux);
  if (gate == Gate::softmax) return mul_rn(probability, add_rn(centered, token.common));
  return fma_rn(probability, token.common, mul_rn(sub_rn(1.0f, score), mul_rn(share, centered)));
}

/// Whether slots add anything: one renormalized slot has a constant weight.
NG_HD bool slots_have_gradients(const RouterSpec& spec) {
  return !(spec.renormalize && spec.top_k == 1);
}

/// `gradient` of a chosen expert's logit with what its slot adds.
NG_HD float add_slot_gradient(const RouterSpec& spec, const TokenGradient& token, float weight, float score, float d,
                              float gradient) {
  const float slope = spec.gate == Gate::sigmoid ? mul_rn(weight, sub_rn(1.0f, score)) : weight;
  return fma_rn(slope, spec.renormalize ? sub_rn(d, token.mean_slot) : d, gradient);
}

/// The gradients of one token's logits, [E]; its probabilities, scores, shares and slopes [E]; its slots [K].
NG_HD void logit_gradients(const RouterSpec& spec, TokenGradient token, const float* probabilities, const float* scores,
                           const float* shares, const float* slopes, const std::int32_t* chosen, const float* weight,
                           const float* d_weight, const std::int32_t* row_of_slot, float* gradients) {
  const Gate gate = spec.gate;  // values: `gradients` could lie anywhere
  const std::int64_t experts = spec.experts;
  for (std::int64_t e = 0; e < experts; ++e)
    gradients[e] = expert_gradient(gate, token, probabilities[e], scores[e], shares[e], slopes[e]);
  if (!slots_have_gradients(spec)) return;
  for (std::int64_t k = 0; k < spec.top_k; ++k) {
    const std::int32_t e = chosen[k];
    gradients[e] =
        add_slot_gradient(spec, token, weight[k], scores[e], slot_slope(row_of_slot[k], d_weight[k]), gradients[e]);
  }
}

}  // namespace ng
