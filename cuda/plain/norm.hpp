// SPDX-License-Identifier: Apache-2.0
//
// RMS norms of f32 and bf16 views (see Backend), of whole rows or of the `parts` neighbouring parts of each row, which
// share one gain of cols / parts elements; rstd and means are f32 views [rows, parts]. Asynchronous on `stream`.
#pragma once

#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::plain {

void rms_norm(const TensorView& x, const float* gain, float epsilon, const TensorView& y, const TensorView& rstd,
              Stream stream);
/// dx = gradient, or round(dx + gradient); dx may be dy. `means` is scratch.
void rms_norm_backward(const TensorView& x, const float* gain, const TensorView& rstd, const TensorView& dy,
                       const TensorView& dx, bool accumulate, const TensorView& means, Stream stream);
/// d_gain += its gradient, down the rows, in each over the parts.
void gain_gradient(const TensorView& x, const TensorView& rstd, const TensorView& dy, float* d_gain, Stream stream);

}  // namespace ng::cuda::plain
