// SPDX-License-Identifier: Apache-2.0
//
// The gradient estimator: one thread one element.
#include "plain/estimator.hpp"

#include "plain/quantize_threads.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

struct MultiplyByEstimator {
  EstimatorJob job;
  NG_HD void operator()(std::int64_t i) const {
    const QuantizeJob& w = job.weight;
    const std::int64_t r = i / w.cols;
    const std::int64_t c = i % w.cols;
    const TileScale scale = w.spec.scale_format == ScaleFormat::none ? TileScale{} : w.tiles[tile_number(w, r, c)];
    const float x = scaled_value(w.spec, scale, load<float>(w, r, c));
    float& gradient = static_cast<float*>(job.gradient.data)[r * job.gradient.stride + c];
    gradient = mul_rn(gradient, estimator_factor(w.spec.element, job.spec, job.constants, x));
  }
};

}  // namespace

void multiply_by_estimator(const EstimatorJob& job, Stream stream) {
  for_each("multiply_by_estimator", job.weight.rows * job.weight.cols, stream, MultiplyByEstimator{job});
}

}  // namespace ng::cuda::plain
