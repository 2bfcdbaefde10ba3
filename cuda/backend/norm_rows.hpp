// SPDX-License-Identifier: Apache-2.0
//
// RMS norms of rows, or of the parts of rows (see plain/norm.hpp), by the kernels that serve them.
#pragma once

#include "narrowgauge/tensor/tensor_view.hpp"

namespace ng::cuda {

/// `fast`: whether a fast kernel may be asked. rstd [rows, parts].
void norm_rows(bool fast, const TensorView& x, const float* gain, float epsilon, const TensorView& y,
               const TensorView& rstd);
/// The gradient of the gain, then that of x, since dx may be the memory of dy.
void norm_rows_backward(bool fast, const TensorView& x, const float* gain, const TensorView& rstd, const TensorView& dy,
                        const TensorView& dx, bool accumulate, float* d_gain);

}  // namespace ng::cuda
