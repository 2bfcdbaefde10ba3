// SPDX-License-Identifier: Apache-2.0
//
// The leaves of a long sum at the speed of memory, byte for byte those of plain/long_sum.hpp.
#pragma once

#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::fast {

/// Contiguous views that begin at a multiple of four bytes.
[[nodiscard]] bool sum_leaves_serves(const TensorView& x);
void sum_leaves(const TensorView& x, bool square, double* partials, Stream stream);

}  // namespace ng::cuda::fast
