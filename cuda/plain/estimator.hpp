// SPDX-License-Identifier: Apache-2.0
//
// Launches the plain kernel of the gradient estimator. Asynchronous on `stream`.
#pragma once

#include "narrowgauge/numerics/gradient_estimator.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"
#include "plain/quantize_job.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda {

/// gradient[i] *= factor of job.source[i] (f32) under the scale of its tile, job.tiles.
struct EstimatorJob {
  QuantizeJob weight{};  ///< row orientation; its codes and scales are not written
  EstimatorSpec spec{};
  EstimatorConstants constants{};
  TensorView gradient{};  ///< f32
};

namespace plain {

void multiply_by_estimator(const EstimatorJob& job, Stream stream);

}  // namespace plain
}  // namespace ng::cuda
