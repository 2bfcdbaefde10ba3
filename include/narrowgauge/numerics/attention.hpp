// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of causal attention but for its products: what becomes of one query's scores with a tile of keys, in
// the order that backend.hpp writes down. Rows are changed in place and hold the keys that the query sees, ascending.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/elementary.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"
#include "narrowgauge/numerics/row_sums.hpp"

namespace ng {

/// Keys of one tile of the written order.
constexpr int kAttentionKeys = 64;

/// The maximum before the first tile.
constexpr float kAttentionStart = -__builtin_inff();

struct AttentionScales {
  float exponent;  ///< c = fp32(log2(e) / sqrt(D))
  float score;     ///< fp32(1 / sqrt(D))
  bool round;      ///< probabilities and their gradients enter products in BF16
};

/// Of heads with `head_dim` columns.
NG_HD AttentionScales attention_scales(std::int64_t head_dim, bool round) {
  const double root = sqrt_rn(static_cast<double>(head_dim));
  return {static_cast<float>(div_rn(1.4426950408889634, root)), static_cast<float>(div_rn(1.0, root)), round};
}

/// exp2((score - maximum) * c): a probability before it is divided by the sum, or, of the old maximum, the factor for
/// what was summed before.
NG_HD float softmax_term(float score, float maximum, float c) {
  return exp2_rn(mul_rn(sub_rn(score, maximum), c));
}

/// A probability, or the gradient of a score, as it enters a product.
NG_HD float attention_operand(float value, bool round) {
  return round ? round_to_bf16(value) : value;
}

/// log_sum_exp in base 2.
NG_HD float attention_log_sum_exp(float maximum, float sum, float c) {
  return fma_rn(maximum, c, mul_rn(log_rn(sum), 1.44269504f));
}

/// Scores become operands of the product with the values. Returns the old sum carried over plus theirs, moves the
/// maximum on, and gives in `carry` the factor for what was summed before.
NG_HD float softmax_row(float* scores, std::int64_t seen, AttentionScales scales, float* maximum, float sum,
                        float* carry) {
  const float best = largest_of(scores, seen, *maximum);
  *carry = softmax_term(*maximum, best, scales.exponent);
  *maximum = best;
  for (std::int64_t i = 0; i < seen; ++i) scores[i] = softmax_term(scores[i], best, scales.exponent);
  const float total = fma_rn(sum, *carry, sum_of_chains(scores, seen));
  if (scales.round)
    for (std::int64_t i = 0; i < seen; ++i) scores[i] = round_to_bf16(scores[i]);
  return total;
}

/// A probability in the backward, from its score.
NG_HD float softmax_again(float score, float c, float log_sum_exp) {
  return exp2_rn(fma_rn(score, c, -log_sum_exp));
}

/// ds of a probability (not rounded), its gradient dp and the row's `mean`, the row sum of d_out * out.
NG_HD float score_gradient(float probability, float dp, float mean) {
  return mul_rn(probability, sub_rn(dp, mean));
}

/// Scores (in p) and dp (in ds) become the operands p and ds of the products of the backward.
NG_HD void gradient_row(float* p, float* ds, std::int64_t seen, AttentionScales scales, float log_sum_exp, float mean) {
  for (std::int64_t i = 0; i < seen; ++i) {
    const float probability = softmax_again(p[i], scales.exponent, log_sum_exp);
    p[i] = probability;
    ds[i] = score_gradient(probability, ds[i], mean);
  }
  if (!scales.round) return;
  for (std::int64_t i = 0; i < seen; ++i) p[i] = round_to_bf16(p[i]);
  for (std::int64_t i = 0; i < seen; ++i) ds[i] = round_to_bf16(ds[i]);
}

}  // namespace ng
