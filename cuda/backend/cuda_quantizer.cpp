// SPDX-License-Identifier: Apache-2.0
//
// Quantize as a plan that is run once; dequantize as one kernel.
#include "backend/cuda_quantizer.hpp"

#include "fast/dequantize.hpp"
#include "narrowgauge/base/check.hpp"
#include "plain/quantize.hpp"

namespace ng::cuda {

CudaQuantizer::CudaQuantizer(KernelChoice choice) : device_(device_info()), choice_(choice) {}

QuantizedTensor CudaQuantizer::quantize(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                        const QuantizerSpec& spec, Orientation orientation, const Site& site,
                                        const std::uint32_t* known_amax) const {
  QuantizePlan plan(context, x, groups, spec, orientation, site, choice_, known_amax);
  plan.run(nullptr);
  return plan.result();
}

DequantizeJob describe_dequantize(const QuantizedTensor& q, Buffer& extents) {
  const bool row_form = q.orientation == Orientation::row;
  extents =
      to_device(group_extents(q.groups, row_form ? q.rows : q.cols, row_form ? q.spec.tile_rows : q.spec.tile_cols));
  DequantizeJob job;
  job.spec = q.spec;
  job.orientation = q.orientation;
  job.storage = q.storage;
  job.rows = q.rows;
  job.cols = q.cols;
  job.groups = extents.as<GroupExtent>();
  job.group_count = q.groups.count();
  job.codes = q.codes.as<std::uint8_t>();
  job.row_bytes = q.row_bytes;
  job.scales = q.scales.data.get();
  job.scale_cols = q.scale_cols;
  job.tensor_scales = q.has_tensor_scale() ? q.tensor_scales.as<float>() : nullptr;
  job.tensor_amaxes = q.tensor_amaxes.data != nullptr ? q.tensor_amaxes.as<float>() : nullptr;
  return job;
}

void dequantize(const QuantizedTensor& q, const TensorView& out, KernelChoice choice) {
  NG_CHECK_EQ(out.rows, q.rows);
  NG_CHECK_EQ(out.cols, q.cols);
  Buffer extents;
  DequantizeJob job = describe_dequantize(q, extents);
  job.out = out.data;
  job.out_stride = out.stride;
  if (choice == KernelChoice::fastest && fast::serves_dequantize(job))
    fast::dequantize(job, out.dtype, nullptr);
  else
    plain::dequantize(job, out.dtype, nullptr);
}

}  // namespace ng::cuda
