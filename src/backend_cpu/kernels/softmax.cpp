// SPDX-License-Identifier: Apache-2.0
//
// Softmax of one row in FP32: largest element, exp of the differences, sum of 8 interleaved chains, one division each;
// and the sigmoid gate's scores with their shares of the row's sum.
#include "kernels.hpp"
#include "narrowgauge/numerics/elementary.hpp"
#include "row_sums.hpp"

namespace ng::cpu::NG_ISA {

namespace {

SoftmaxSums softmax(const float* logits, float* probabilities, std::int64_t n) {
  const float maximum = largest_of(logits, n, logits[0]);
  for (std::int64_t i = 0; i < n; ++i) probabilities[i] = exp_rn(sub_rn(logits[i], maximum));
  const float sum = sum_of_chains(probabilities, n);
  for (std::int64_t i = 0; i < n; ++i) probabilities[i] = div_rn(probabilities[i], sum);
  return {maximum, log_rn(sum)};
}

/// -sum p log p = log_sum - sum p * (x - maximum); what has p = 0 adds nothing.
float entropy(const float* logits, const float* probabilities, SoftmaxSums sums, std::int64_t n) {
  float sum = 0.0f;
  for (std::int64_t i = 0; i < n; ++i)
    if (probabilities[i] != 0.0f) sum = fma_rn(probabilities[i], sub_rn(logits[i], sums.maximum), sum);
  return sub_rn(sums.log_sum, sum);
}

float sigmoid_gate(const float* logits, float* scores, float* shares, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) scores[i] = sigmoid_rn(logits[i]);
  const float sum = sum_of_chains(scores, n);
  for (std::int64_t i = 0; i < n; ++i) shares[i] = sum == 0.0f ? 0.0f : div_rn(scores[i], sum);
  float entropy = 0.0f;
  for (std::int64_t i = 0; i < n; ++i)
    if (shares[i] != 0.0f) entropy = fma_rn(shares[i], log_rn(shares[i]), entropy);
  return -entropy;
}

}  // namespace

void add_softmax_kernels(CpuKernels& table) {
  table.softmax = softmax;
  table.entropy = entropy;
  table.sigmoid_gate = sigmoid_gate;
}

}  // namespace ng::cpu::NG_ISA
