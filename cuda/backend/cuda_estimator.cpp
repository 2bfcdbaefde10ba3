// SPDX-License-Identifier: Apache-2.0
//
// The gradient estimator of a weight on the GPU: scales as the quantizer makes them, then one factor per element.
#include "backend/cuda_backend.hpp"
#include "backend/view_checks.hpp"
#include "fast/estimator.hpp"
#include "narrowgauge/base/check.hpp"
#include "plain/estimator.hpp"
#include "plain/quantize.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

void CudaBackend::multiply_by_estimator(const EstimatorSpec& estimator, const QuantizerSpec& spec,
                                        const RowGroups& groups, const TensorView& weight, const TensorView& gradient) {
  NG_CHECK(weight.dtype == Dtype::f32 && gradient.dtype == Dtype::f32);
  NG_CHECK(spec.hadamard.size == 0 && spec.outlier.quantile == 0.0 && spec.rule != ScaleRule::four_over_six);
  check_shape(gradient, weight.rows, weight.cols);
  EstimatorJob job;
  job.spec = estimator;
  job.constants = estimator_constants(spec.element, estimator);
  job.gradient = gradient;
  QuantizerSpec scaled = spec;
  scaled.cast.nan = NanChoice::cuda;  // NaN is counted where the weight is quantized
  QuantizeJob& w = job.weight;
  w = describe_job(StepContext{}, weight, groups, scaled, Orientation::row, Site{});
  const Buffer extents = to_device(group_extents(groups, weight.rows, w.tile_height));
  w.groups = extents.as<GroupExtent>();
  const bool by_fast = fast() && fast::estimator_serves(job);
  const auto multiply = [&] {
    by_fast ? fast::multiply_by_estimator(job, nullptr) : plain::multiply_by_estimator(job, nullptr);
  };
  if (spec.scale_format == ScaleFormat::none || (by_fast && fast::estimator_finds_scales(job))) return multiply();

  const std::size_t tiles = static_cast<std::size_t>(w.row_tiles * w.col_tiles);
  const std::size_t group_count = static_cast<std::size_t>(w.group_count);
  const Buffer tile_amax = allocate(tiles * sizeof(std::uint32_t));
  const Buffer tile_scales = allocate(tiles * sizeof(TileScale));
  const Buffer scales = allocate(tiles * sizeof(float));  // as stored: nobody reads them here
  const Buffer group_amax = allocate(group_count * sizeof(std::uint32_t));
  const Buffer tensor = allocate(group_count * sizeof(TensorScale));
  const Buffer tensor_scales = allocate(group_count * sizeof(float));
  w.tile_amax = tile_amax.as<std::uint32_t>();
  w.tiles = tile_scales.as<TileScale>();
  w.scales = scales.data.get();
  w.scale_cols = w.col_tiles;
  w.group_amax = group_amax.as<std::uint32_t>();
  w.tensor = tensor.as<TensorScale>();
  w.tensor_scales = tensor_scales.as<float>();
  fill_bytes(tile_amax.data.get(), 0, tile_amax.bytes);
  plain::tile_amax(w, Dtype::f32, nullptr);
  if (needs_tensor_amax(spec.rule)) {
    fill_bytes(group_amax.data.get(), 0, group_amax.bytes);
    plain::group_amax(w, nullptr);
    plain::tensor_scales(w, nullptr);
  }
  plain::tile_scales(w, Dtype::f32, nullptr);
  multiply();
}

}  // namespace ng::cuda
