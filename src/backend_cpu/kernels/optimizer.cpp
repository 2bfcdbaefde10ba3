// SPDX-License-Identifier: Apache-2.0
//
// AdamW, the leaves of long sums, and normal numbers.
#include "kernels.hpp"
#include "narrowgauge/numerics/adamw.hpp"
#include "narrowgauge/numerics/normal_numbers.hpp"
#include "narrowgauge/numerics/summation_order.hpp"

namespace ng::cpu::NG_ISA {

namespace {

void adamw(const AdamWScalars& scalars, const float* gradient, float* master, float* first, float* second,
           std::int64_t n) {
  const AdamWScalars own = scalars;  // as the caller's, it might be thought to change with each store
  for (std::int64_t i = 0; i < n; ++i) {
    const AdamWState state = adamw_step(own, {master[i], first[i], second[i]}, gradient[i]);
    first[i] = state.first;
    second[i] = state.second;
    master[i] = state.master;
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
        sum[leaf] = add_rn(sum[leaf], sum_term(x[done + leaf * kLeaf + i], kSquare));
      }
    }
    for (const double leaf : sum) *partials++ = leaf;
  }
  for (; done < n; done += kLeaf) {
    double sum = 0.0;
    const std::int64_t end = done + kLeaf < n ? done + kLeaf : n;
    for (std::int64_t i = done; i < end; ++i) sum = add_rn(sum, sum_term(x[i], kSquare));
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
  for (std::int64_t i = 0; i < n; ++i) out[i] = normal_number(stream, first + static_cast<std::uint64_t>(i), deviation);
}

}  // namespace

void add_optimizer_kernels(CpuKernels& table) {
  table.adamw = adamw;
  table.sum_leaves = sum_leaves;
  table.square_leaves = square_leaves;
  table.normal = normal;
}

}  // namespace ng::cpu::NG_ISA
