// SPDX-License-Identifier: Apache-2.0
//
// Forms of a tensor on the GPU: quantized ones, plain ones, decoding. Two quantized forms of one tensor, by rows and by
// columns, are made together, so that a fast kernel reads the tensor once. The host waits only for what it must know:
// amaxes for a history, counts of forbidden NaN, sizes of residuals.
#include <algorithm>
#include <string>
#include <vector>

#include "backend/cuda_backend.hpp"
#include "backend/cuda_quantizer.hpp"
#include "backend/outliers.hpp"
#include "fast/quantize_rows.hpp"
#include "fast/quantize_tiles.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "plain/quantize.hpp"
#include "plain/quantize_threads.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

const std::uint32_t* bits_or_null(const Buffer& amax) {
  return amax.data != nullptr ? amax.as<std::uint32_t>() : nullptr;
}

/// Whether a request's form may be made before those that come between: nothing else can stop on it or see it.
bool may_share_read(const FormRequest& request) {
  const OperandSpec& spec = request.spec;
  return spec.kind == OperandKind::quantized && spec.source != FormSource::fprop &&
         spec.quantizer.outlier.quantile == 0.0 && !plain::counts_nan(spec.quantizer);
}

Orientation orientation_of(const FormRequest& request) {
  return orientation_of(request.operand, request.gemm);
}

/// The first request after `i` with which it can share a read, or the number of requests.
std::size_t partner_of(std::span<const FormRequest> requests, std::size_t i) {
  if (!may_share_read(requests[i])) return requests.size();
  for (std::size_t j = i + 1; j < requests.size(); ++j)
    if (may_share_read(requests[j]) && orientation_of(requests[j]) != orientation_of(requests[i])) return j;
  return requests.size();
}

}  // namespace

void CudaBackend::dequantize(const QuantizedTensor& q, const TensorView& out) {
  cuda::dequantize(q, out, choice_);
}

QuantizedTensor CudaBackend::quantize_source(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                             const QuantizerSpec& spec, Orientation orientation, const Site& site,
                                             const Buffer& amax) {
  const SplitSource source = split_outliers(context, x, groups, spec, orientation, ResidualWanted::yes, choice_);
  QuantizePlan plan(context, source.view, groups, source.spec, orientation, site, choice_, bits_or_null(amax));
  plan.run(nullptr);
  QuantizedTensor result = plan.result();
  result.spec = spec;
  result.residual = source.residual;
  return result;
}

QuantizedTensor CudaBackend::quantize(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                      const QuantizerSpec& spec, Orientation orientation, const Site& site) {
  return quantize_source(context, x, groups, spec, orientation, site, Buffer{});
}

QuantizedTensor CudaBackend::quantize_known_amax(const StepContext& context, const TensorView& x,
                                                 const RowGroups& groups, const QuantizerSpec& spec,
                                                 Orientation orientation, const Site& site, const Buffer& amax) {
  const bool one = needs_tensor_amax(spec.rule) && spec.tensor_scope == TensorScope::whole;
  NG_CHECK_EQ(amax.bytes, (one ? 1u : static_cast<std::size_t>(groups.count())) * sizeof(float));
  return quantize_source(context, x, groups, spec, orientation, site, amax);
}

Buffer CudaBackend::tensor_amax(const StepContext& context, const TensorView& original, const RowGroups& groups,
                                const QuantizerSpec& wanted, Orientation orientation) {
  const SplitSource source =
      split_outliers(context, original, groups, wanted, orientation, ResidualWanted::no, choice_);
  const TensorView& x = source.view;
  const QuantizerSpec& spec = source.spec;
  const std::size_t count = spec.tensor_scope == TensorScope::whole ? 1u : static_cast<std::size_t>(groups.count());
  Buffer result = allocate(count * sizeof(float));
  fill_bytes(result.data.get(), 0, result.bytes);
  QuantizeJob job = describe_job(context, x, groups, spec, orientation, Site{});
  job.group_amax = result.as<std::uint32_t>();
  std::vector<GroupExtent> extents = group_extents(groups, x.rows, job.tile_height);
  const Buffer device_extents = to_device(extents);
  job.groups = device_extents.as<GroupExtent>();
  if (fast() && fast::serves_tensor_amax(job, x.dtype)) {
    fast::tensor_amax(job, x.dtype, nullptr);
    return result;
  }
  if (fast() && fast::tiles_serve(job, x.dtype, extents)) {
    const bool row_form = orientation == Orientation::row;
    fast::tiles_amax(row_form ? &job : nullptr, row_form ? nullptr : &job, x.dtype, nullptr);
    return result;
  }
  // Each group as one tile, whose amax is the group's; NaN is counted where the tensor is quantized.
  job.tile_height = job.tile_width = 0;
  extents = group_extents(groups, x.rows, 0);
  job.row_tiles = extents.back().first_tile + tile_count(extents.back().end - extents.back().begin, 0);
  job.col_tiles = tile_count(x.cols, 0);
  job.spec.cast.nan = NanChoice::cuda;
  copy_to_device(device_extents.data.get(), extents.data(), device_extents.bytes);
  const Buffer tile_amax = allocate(static_cast<std::size_t>(job.row_tiles * job.col_tiles) * sizeof(std::uint32_t));
  fill_bytes(tile_amax.data.get(), 0, tile_amax.bytes);
  job.tile_amax = tile_amax.as<std::uint32_t>();
  Dtype dtype = x.dtype;
  Buffer transformed;
  if (spec.hadamard.size != 0) {
    transformed = allocate(static_cast<std::size_t>(x.rows * x.cols) * sizeof(float));
    job.transformed = transformed.as<float>();
    plain::hadamard(job, dtype, nullptr);
    job.source = job.transformed;
    job.stride = job.cols;
    dtype = Dtype::f32;
  }
  plain::tile_amax(job, dtype, nullptr);
  plain::group_amax(job, nullptr);
  return result;
}

Buffer CudaBackend::scaling_amax(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                 const FormRequest& request, Orientation orientation) {
  AmaxHistory* const history = request.history;
  if (history == nullptr) return {};
  const std::vector<float> past = history->reduced();
  if (context.phase == Phase::train) {
    const Buffer seen = tensor_amax(context, x, groups, request.spec.quantizer, orientation);
    const std::vector<float> amax = to_host<float>(seen.data.get(), seen.bytes / sizeof(float));
    history->note(amax.data(), static_cast<std::int64_t>(amax.size()));
  }
  return past.empty() ? Buffer{} : to_device(past);
}

Tensor CudaBackend::decoded_fprop(const TensorForms& forms, DecodedResidual residual, Dtype dtype) {
  const Form* first = forms.find(Gemm::fprop);
  NG_CHECK(first != nullptr && first->quantized != nullptr);
  const QuantizedTensor& q = *first->quantized;
  Tensor decoded = tensor(residual == DecodedResidual::added ? Dtype::f32 : dtype, q.rows, q.cols);
  dequantize(q, decoded.view);
  if (residual == DecodedResidual::added) {
    NG_CHECK(q.residual != nullptr);
    add_residual(*q.residual, decoded.view);
    if (dtype != Dtype::f32) {
      const Tensor rounded = tensor(dtype, q.rows, q.cols);
      cast(decoded.view, rounded.view);
      decoded = rounded;
    }
  }
  decoded.view.placement = forms.original.view.placement;
  return decoded;
}

TensorForms CudaBackend::produce(const StepContext& context, const Tensor& x, const RowGroups& groups,
                                 std::span<const FormRequest> requests) {
  TensorForms result{x, groups, {}};
  std::vector<std::shared_ptr<const QuantizedTensor>> ahead(requests.size());  // made with an earlier one
  const auto make_with_partner = [&](std::size_t i, std::size_t partner) {
    const auto plan_of = [&](std::size_t n) {
      const FormRequest& request = requests[n];
      const Orientation orientation = orientation_of(request);
      const Buffer amax = scaling_amax(context, x.view, groups, request, orientation);
      return QuantizePlan(context, x.view, groups, request.spec.quantizer, orientation, *request.site, choice_,
                          bits_or_null(amax));
    };
    const bool row_first = orientation_of(requests[i]) == Orientation::row;
    const std::size_t row = row_first ? i : partner;
    const std::size_t column = row_first ? partner : i;
    QuantizePlan row_plan = plan_of(row);
    RowAndColumnPlan both(std::move(row_plan), plan_of(column));
    both.run(nullptr);
    ahead[row] = std::make_shared<QuantizedTensor>(both.row());
    ahead[column] = std::make_shared<QuantizedTensor>(both.column());
  };
  const auto quantized_form = [&](std::size_t i, const TensorView& from) {
    const FormRequest& request = requests[i];
    Form form{request.gemm, orientation_of(request), OperandKind::quantized, {}, {}};
    if (ahead[i] == nullptr)
      if (const std::size_t partner = partner_of(requests, i); partner < requests.size()) make_with_partner(i, partner);
    form.quantized = ahead[i];
    if (form.quantized == nullptr) {
      const Buffer amax = scaling_amax(context, from, groups, request, form.orientation);
      form.quantized = std::make_shared<QuantizedTensor>(
          quantize_source(context, from, groups, request.spec.quantizer, form.orientation, *request.site, amax));
    }
    if (form.quantized->nan_inputs > 0)
      throw DivergedError("NaN reached " + request.site->name + " (" + std::to_string(form.quantized->nan_inputs) +
                          " elements), whose quantizer forbids it (nan = error)");
    if (tap_ != nullptr && tap_->wants(context, *request.site))
      tap_->quantized(QuantizationEvent{context, *request.site, from, groups, *form.quantized});
    return form;
  };
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const FormRequest& request = requests[i];
    if (request.spec.kind == OperandKind::quantized) {
      const bool decoded = request.spec.source == FormSource::fprop;
      const Tensor from = decoded ? decoded_fprop(result, DecodedResidual::dropped, Dtype::f32) : x;
      result.forms.push_back(quantized_form(i, from.view));
      continue;
    }
    const Dtype dtype = dtype_of(request.spec.kind);
    Form form{request.gemm, orientation_of(request), request.spec.kind, {}, {}};
    for (std::size_t j = 0; j < i; ++j)
      if (requests[j].spec == request.spec) form.plain = result.forms[j].plain;
    if (!form.plain) {
      if (request.spec.source == FormSource::fprop) {
        form.plain = decoded_fprop(result, request.spec.residual, dtype);
      } else if (x.view.dtype == dtype) {
        form.plain = x;
      } else {
        form.plain = tensor(dtype, x.view.rows, x.view.cols);
        cast(x.view, form.plain.view);
      }
    }
    result.forms.push_back(std::move(form));
  }
  if (tap_ == nullptr) return result;
  for (std::size_t i = 0; i < requests.size(); ++i)
    if (tap_->wants_original(context, *requests[i].site)) result.forms[i].original = x;
  return result;
}

}  // namespace ng::cuda
