// SPDX-License-Identifier: Apache-2.0
//
// Long sums: one thread one leaf, then one thread a part of the tree.
#include "plain/long_sum.hpp"

#include <utility>

#include "plain/elements.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

constexpr std::int64_t kLeaf = static_cast<std::int64_t>(kSummationLeaf);

struct Leaves {
  TensorView x;
  bool square;
  double* partials;
  NG_HD void operator()(std::int64_t leaf) const {
    const std::int64_t count = x.rows * x.cols;
    const std::int64_t begin = leaf * kLeaf;
    const std::int64_t end = begin + kLeaf < count ? begin + kLeaf : count;
    double sum = 0.0;
    for (std::int64_t i = begin; i < end; ++i)
      sum = add_rn(sum, sum_term(load_real(x, i / x.cols, i % x.cols), square));
    partials[leaf] = sum;
  }
};

struct TreeStep {
  double* from;
  double* to;
  std::int64_t count;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t begin = i * kTreeStep;
    const std::int64_t rest = count - begin;
    to[i] = ng::reduce_tree(from + begin, static_cast<std::size_t>(rest < kTreeStep ? rest : kTreeStep));
  }
};

}  // namespace

void sum_leaves(const TensorView& x, bool square, double* partials, Stream stream) {
  const std::size_t leaves = summation_leaves(static_cast<std::size_t>(x.count()));
  for_each("sum, leaves", static_cast<std::int64_t>(leaves), stream, Leaves{x, square, partials});
}

const double* reduce_tree(double* partials, double* scratch, std::int64_t count, Stream stream) {
  double* from = partials;
  double* to = scratch;
  while (count > 1) {
    const std::int64_t roots = (count + kTreeStep - 1) / kTreeStep;
    for_each("sum, tree", roots, stream, TreeStep{from, to, count});
    std::swap(from, to);
    count = roots;
  }
  return from;
}

}  // namespace ng::cuda::plain
