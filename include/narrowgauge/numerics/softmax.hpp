// SPDX-License-Identifier: Apache-2.0
//
// Softmax of one row in FP32: largest element, exp of the differences, sum of 8 interleaved chains, one division each;
// the loss and its gradient; and the sigmoid gate's scores with their shares of the row's sum. Rows are anything with
// `row[i]`, outputs pointers.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/elementary.hpp"
#include "narrowgauge/numerics/row_sums.hpp"

namespace ng {

/// What the softmax of one row leaves beside the probabilities.
struct SoftmaxSums {
  float maximum;
  float log_sum;  ///< log of sum exp(x - maximum)
};

/// e of one element; its probability is div_rn(e, sum of all e).
NG_HD float softmax_numerator(float x, float maximum) {
  return exp_rn(sub_rn(x, maximum));
}

/// The row of them.
template <class X>
struct SoftmaxNumerators {
  X x;
  float maximum;
  NG_HD float operator[](std::int64_t i) const { return softmax_numerator(x[i], maximum); }
};

/// Probabilities of n > 0 logits; `probabilities` may be the memory of the logits.
template <class X>
NG_HD SoftmaxSums softmax(X logits, float* probabilities, std::int64_t n) {
  const float maximum = largest_of(logits, n, logits[0]);
  for (std::int64_t i = 0; i < n; ++i) probabilities[i] = softmax_numerator(logits[i], maximum);
  const float sum = sum_of_chains(static_cast<const float*>(probabilities), n);
  for (std::int64_t i = 0; i < n; ++i) probabilities[i] = div_rn(probabilities[i], sum);
  return {maximum, log_rn(sum)};
}

/// Cross entropy of one row: logsumexp - x_target.
NG_HD float softmax_loss(SoftmaxSums sums, float x_target) {
  return sub_rn(sums.log_sum, sub_rn(x_target, sums.maximum));
}

/// Its gradient in a logit, times `scale`.
NG_HD float softmax_loss_gradient(float probability, bool is_target, float scale) {
  return mul_rn(scale, is_target ? sub_rn(probability, 1.0f) : probability);
}

/// Link of the chain sum p log p: what has p = 0 adds nothing.
NG_HD float entropy_link(float sum, float p, float log_p) {
  return p != 0.0f ? fma_rn(p, log_p, sum) : sum;
}

/// -sum p log p = log_sum - sum p * (x - maximum), a chain.
template <class X, class P>
NG_HD float softmax_entropy(X logits, P probabilities, SoftmaxSums sums, std::int64_t n) {
  float sum = 0.0f;
  for (std::int64_t i = 0; i < n; ++i) sum = entropy_link(sum, probabilities[i], sub_rn(logits[i], sums.maximum));
  return sub_rn(sums.log_sum, sum);
}

/// Share of a gate's score in the row's sum; 0 where that is 0.
NG_HD float gate_share(float score, float sum) {
  return sum == 0.0f ? 0.0f : div_rn(score, sum);
}

/// scores = sigmoid(logits), shares = scores / their row sum (0 where that is 0); the entropy of the shares.
template <class X>
NG_HD float sigmoid_gate(X logits, float* scores, float* shares, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) scores[i] = sigmoid_rn(logits[i]);
  const float sum = sum_of_chains(static_cast<const float*>(scores), n);
  for (std::int64_t i = 0; i < n; ++i) shares[i] = gate_share(scores[i], sum);
  float entropy = 0.0f;
  for (std::int64_t i = 0; i < n; ++i) entropy = entropy_link(entropy, shares[i], log_rn(shares[i]));
  return -entropy;
}

}  // namespace ng
