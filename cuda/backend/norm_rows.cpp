// SPDX-License-Identifier: Apache-2.0
//
// Which kernels norm rows.
#include "backend/norm_rows.hpp"

#include "fast/columns.hpp"
#include "fast/rows.hpp"
#include "narrowgauge/tensor/storage.hpp"
#include "plain/norm.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

void norm_rows(bool fast, const TensorView& x, const float* gain, float epsilon, const TensorView& y,
               const TensorView& rstd) {
  if (fast && fast::rms_norm_serves({&x, &y}, gain, rstd.cols))
    fast::rms_norm(x, gain, epsilon, y, rstd, nullptr);
  else
    plain::rms_norm(x, gain, epsilon, y, rstd, nullptr);
}

void norm_rows_backward(bool fast, const TensorView& x, const float* gain, const TensorView& rstd, const TensorView& dy,
                        const TensorView& dx, bool accumulate, float* d_gain) {
  if (fast && fast::gain_gradient_serves(x, dy, rstd.cols))
    fast::gain_gradient(x, rstd, dy, d_gain, nullptr);
  else
    plain::gain_gradient(x, rstd, dy, d_gain, nullptr);
  if (fast && fast::rms_norm_serves({&x, &dy, &dx}, gain, rstd.cols))
    return fast::rms_norm_backward(x, gain, rstd, dy, dx, accumulate, nullptr);
  const Tensor means =
      make_tensor(allocate(static_cast<std::size_t>(rstd.count()) * sizeof(float)), Dtype::f32, rstd.rows, rstd.cols);
  plain::rms_norm_backward(x, gain, rstd, dy, dx, accumulate, means.view, nullptr);
}

}  // namespace ng::cuda
