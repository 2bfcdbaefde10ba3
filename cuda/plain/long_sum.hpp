// SPDX-License-Identifier: Apache-2.0
//
// Long sums in double over the tree of summation_order.hpp; asynchronous on `stream`.
#pragma once

#include "narrowgauge/numerics/summation_order.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::plain {

/// Partial sums that one step of `reduce_tree` turns into one; a power of two, so that they are a part of the tree.
constexpr std::int64_t kTreeStep = 64;

/// The leaves of a sum of all elements of an f32 or bf16 view in row-major order, or of their squares.
void sum_leaves(const TensorView& x, bool square, double* partials, Stream stream);

/// Adds up `count` > 0 partial sums; where the root lies, in one of both. Overwrites `partials`, and `scratch` of at
/// least ceil(count / kTreeStep).
[[nodiscard]] const double* reduce_tree(double* partials, double* scratch, std::int64_t count, Stream stream);

}  // namespace ng::cuda::plain
