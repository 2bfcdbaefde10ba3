// SPDX-License-Identifier: Apache-2.0
//
// AdamW, the leaves of long sums, and normal numbers.
#include "kernels.hpp"
#include "narrowgauge/numerics/elementary.hpp"
#include "narrowgauge/numerics/summation_order.hpp"

namespace ng::cpu::NG_ISA {

namespace {

void adamw(const AdamWSpec& spec, const StepScalars& scalars, const float* gradient, float* master, float* first,
           float* second, std::int64_t n) {
  const float beta1 = spec.beta1;
  const float beta2 = spec.beta2;
  const float rest1 = sub_rn(1.0f, beta1);
  const float rest2 = sub_rn(1.0f, beta2);
  const float epsilon = spec.epsilon;
  const float decay = spec.weight_decay;
  const float rate = scalars.learning_rate;
  const float clip = scalars.clip_factor;
  const float bias1 = scalars.bias_correction1;
  const float bias2 = scalars.bias_correction2;
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = mul_rn(clip, gradient[i]);
    const float m = add_rn(mul_rn(beta1, first[i]), mul_rn(rest1, g));
    const float v = add_rn(mul_rn(beta2, second[i]), mul_rn(mul_rn(rest2, g), g));
    const float update = div_rn(mul_rn(m, bias1), add_rn(sqrt_rn(mul_rn(v, bias2)), epsilon));
    const float p = master[i];
    first[i] = m;
    second[i] = v;
    master[i] = sub_rn(p, mul_rn(rate, add_rn(update, mul_rn(decay, p))));
  }
}

/// Leaves that are summed side by side: each is one serial chain, so only different leaves may overlap.
constexpr std::int64_t kSideBySide = 8;
constexpr std::int64_t kLeaf = static_cast<std::int64_t>(kSummationLeaf);

template <bool kSquare>
NG_HD void leaves(const float* x, std::int64_t n, double* partials) {
  std::int64_t done = 0;
  for (; done + kSideBySide * kLeaf <= n; done += kSideBySide * kLeaf) {
    double sum[kSideBySide] = {};
    for (std::int64_t i = 0; i < kLeaf; ++i) {
      for (std::int64_t leaf = 0; leaf < kSideBySide; ++leaf) {
        const double term = static_cast<double>(x[done + leaf * kLeaf + i]);
        sum[leaf] = add_rn(sum[leaf], kSquare ? mul_rn(term, term) : term);
      }
    }
    for (const double leaf : sum) *partials++ = leaf;
  }
  for (; done < n; done += kLeaf) {
    double sum = 0.0;
    const std::int64_t end = done + kLeaf < n ? done + kLeaf : n;
    for (std::int64_t i = done; i < end; ++i) {
      const double term = static_cast<double>(x[i]);
      sum = add_rn(sum, kSquare ? mul_rn(term, term) : term);
    }
    *partials++ = sum;
  }
}

void sum_leaves(const float* x, std::int64_t n, double* partials) {
  leaves<false>(x, n, partials);
}
void square_leaves(const float* x, std::int64_t n, double* partials) {
  leaves<true>(x, n, partials);
}

void normal(const RandomStream& stream, std::uint64_t first, double deviation, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint64_t element = first + static_cast<std::uint64_t>(i);
    const PhiloxBlock block = random_block(stream, element / 2);
    const std::uint64_t word = 2 * (element % 2);
    out[i] = static_cast<float>(mul_rn(normal_from_bits(block.word[word], block.word[word + 1]), deviation));
  }
}

}  // namespace

void add_optimizer_kernels(CpuKernels& table) {
  table.adamw = adamw;
  table.sum_leaves = sum_leaves;
  table.square_leaves = square_leaves;
  table.normal = normal;
}

}  // namespace ng::cpu::NG_ISA
