// SPDX-License-Identifier: Apache-2.0
//
// RMS norms from one read of each tensor. Parameters and results are those of plain/norm.hpp, byte for byte.
#pragma once

#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::fast {

/// Whether both kernels serve: `views` (x, y or dy, dx) and `gain` are whole eights (eight_views.cuh), each of
/// `parts` too, and a part fits into shared memory.
[[nodiscard]] bool rms_norm_serves(std::initializer_list<const TensorView*> views, const float* gain,
                                   std::int64_t parts);

void rms_norm(const TensorView& x, const float* gain, float epsilon, const TensorView& y, const TensorView& rstd,
              Stream stream);
void rms_norm_backward(const TensorView& x, const float* gain, const TensorView& rstd, const TensorView& dy,
                       const TensorView& dx, bool accumulate, Stream stream);

}  // namespace ng::cuda::fast
