// SPDX-License-Identifier: Apache-2.0
//
// Softmax, entropy and the sigmoid gate of one row.
#include "narrowgauge/numerics/softmax.hpp"

#include "kernels.hpp"

namespace ng::cpu::NG_ISA {

namespace {

SoftmaxSums softmax_row(const float* logits, float* probabilities, std::int64_t n) {
  return softmax(logits, probabilities, n);
}

float entropy_row(const float* logits, const float* probabilities, SoftmaxSums sums, std::int64_t n) {
  return softmax_entropy(logits, probabilities, sums, n);
}

float sigmoid_gate_row(const float* logits, float* scores, float* shares, std::int64_t n) {
  return sigmoid_gate(logits, scores, shares, n);
}

}  // namespace

void add_softmax_kernels(CpuKernels& table) {
  table.softmax = softmax_row;
  table.entropy = entropy_row;
  table.sigmoid_gate = sigmoid_gate_row;
}

}  // namespace ng::cpu::NG_ISA
