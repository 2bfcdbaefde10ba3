// SPDX-License-Identifier: Apache-2.0
//
// The outlier split on the GPU: bounds, the clamped copy, the residual with memory of its exact size; and the
// residual's way back into decoded values and products.
#include "backend/cuda_backend.hpp"
#include "backend/outliers.hpp"
#include "backend/view_checks.hpp"
#include "narrowgauge/base/check.hpp"
#include "plain/outliers.hpp"
#include "plain/quantize.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

ResidualView view_of(const SparseResidual& residual) {
  return ResidualView{format_of(residual.format), residual.row_pointers.as<std::int64_t>(),
                      residual.columns.as<std::int32_t>(), residual.values.data.get()};
}

/// x transformed, FP32.
Buffer transformed(const StepContext& context, const TensorView& x, const RowGroups& groups, const QuantizerSpec& spec,
                   Orientation orientation) {
  Buffer result = allocate(static_cast<std::size_t>(x.count()) * sizeof(float));
  QuantizerSpec transform = spec;
  transform.outlier = OutlierSpec{};
  QuantizeJob job = describe_job(context, x, groups, transform, orientation, Site{});
  job.transformed = result.as<float>();
  plain::hadamard(job, x.dtype, nullptr);
  return result;
}

}  // namespace

SplitSource split_outliers(const StepContext& context, const TensorView& x, const RowGroups& groups,
                           const QuantizerSpec& spec, Orientation orientation, ResidualWanted wanted,
                           KernelChoice /*choice*/) {
  check_real(x);
  SplitSource result{x, spec, {}, nullptr};
  if (spec.outlier.quantile == 0.0) return result;
  result.spec.outlier = OutlierSpec{};
  result.spec.hadamard = HadamardSpec{};
  OutlierJob job;
  job.spec = spec.outlier;
  job.orientation = orientation;
  job.x = x;
  if (spec.hadamard.size != 0) {  // a copy already, which is clamped where it lies
    result.memory = transformed(context, x, groups, spec, orientation);
    job.x.dtype = Dtype::f32;
    job.x.data = result.memory.data.get();
    job.x.stride = x.cols;
  } else {
    result.memory = allocate(static_cast<std::size_t>(x.count()) * size_of(x.dtype));
  }
  result.view.dtype = job.x.dtype;
  result.view.data = result.memory.data.get();
  result.view.stride = x.cols;
  job.clamped = result.view;

  const std::vector<GroupExtent> extents = group_extents(groups, x.rows, 1);
  const Buffer device_groups = to_device(extents);
  const bool row_form = orientation == Orientation::row;
  const std::int64_t lines = row_form ? x.rows : x.cols;
  job.groups = device_groups.as<GroupExtent>();
  job.group_count = groups.count();
  job.segments = row_form ? lines : lines * job.group_count;
  const bool by_row = job.spec.scope == OutlierScope::row;
  const Buffer bounds =
      allocate(static_cast<std::size_t>(by_row ? job.segments : job.group_count) * sizeof(OutlierBounds));
  job.bounds = bounds.as<OutlierBounds>();
  plain::outlier_bounds(job, nullptr);
  if (wanted == ResidualWanted::no || job.spec.residual == OutlierResidual::none) {
    plain::split_outliers(job, nullptr);
    return result;
  }

  auto residual = std::make_shared<SparseResidual>();
  residual->format = residual_format(job.spec.residual);
  residual->rows = lines;
  residual->cols = row_form ? x.cols : x.rows;
  residual->row_pointers = allocate(static_cast<std::size_t>(lines + 1) * sizeof(std::int64_t));
  const Buffer positions =
      row_form ? residual->row_pointers : allocate(static_cast<std::size_t>(job.segments + 1) * sizeof(std::int64_t));
  job.format = format_of(residual->format);
  job.positions = positions.as<std::int64_t>();
  plain::outlier_positions(job, nullptr);
  if (!row_form) plain::residual_rows(job, lines, residual->row_pointers.as<std::int64_t>(), nullptr);
  copy_to_host(&residual->count, job.positions + job.segments, sizeof residual->count);
  const std::size_t count = static_cast<std::size_t>(residual->count);
  residual->columns = allocate(count * sizeof(std::int32_t));
  residual->values = allocate(count * (residual->format == FormatId::bf16 ? 2 : 1));
  job.columns = residual->columns.as<std::int32_t>();
  job.values = residual->values.data.get();
  plain::split_outliers(job, nullptr);
  result.residual = std::move(residual);
  return result;
}

void add_residual(const SparseResidual& residual, const TensorView& decoded) {
  NG_CHECK(decoded.dtype == Dtype::f32);
  check_shape(decoded, residual.rows, residual.cols);
  plain::add_residual(view_of(residual), decoded, nullptr);
}

void add_residual_rows(const SparseResidual& a, std::int64_t row0, const TensorView& b, const TensorView& out,
                       KernelChoice /*choice*/) {
  NG_CHECK(out.dtype == Dtype::f32);
  check_real(b);
  NG_CHECK_LE(row0 + out.rows, a.rows);
  NG_CHECK_EQ(out.cols, b.rows);
  NG_CHECK_EQ(b.cols, a.cols);
  plain::add_residual_product(view_of(a), row0, b, out, nullptr);
}

void CudaBackend::add_residual_product(const SparseResidual& a, const TensorView& b, const TensorView& out) {
  NG_CHECK_EQ(out.rows, a.rows);
  add_residual_rows(a, 0, b, out, choice_);
}

}  // namespace ng::cuda
