// SPDX-License-Identifier: Apache-2.0
//
// The outlier split on the GPU: bounds, the clamped copy, the residual with memory of its exact size; and the
// residual's way back into decoded values and products.
#include <algorithm>

#include "backend/cuda_backend.hpp"
#include "backend/outliers.hpp"
#include "backend/view_checks.hpp"
#include "fast/outliers.hpp"
#include "fast/residual_product.hpp"
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

/// One split: bounds, clamped values, and memory of the exact size for its residual. Fast kernels do the lines of a
/// column form on a transposed copy.
class Split {
 public:
  Split(const OutlierJob& job, const std::vector<GroupExtent>& extents, KernelChoice choice)
      : job_(job),
        fast_(choice == KernelChoice::fastest && fast::outliers_serve(job)),
        by_row_(job.spec.scope == OutlierScope::row),
        row_form_(job.orientation == Orientation::row) {
    for (const GroupExtent& group : extents) {
      if (!row_form_ && group.begin % 8 != 0) job_.aligned = false;
      const std::int64_t length = row_form_ ? job.x.cols : group.end - group.begin;
      if (length == 0) continue;
      const OutlierRanks ranks = outlier_ranks(job.spec.quantile, length);
      capacity_ = std::max(capacity_, ranks.low + length - 1 - ranks.high);
    }
  }

  /// The residual is dropped.
  void clamp() {
    begin();
    if (fast_ && by_row_)
      fast::split_by_row(job_, 0, nullptr);
    else
      split_by_bounds();
  }

  std::shared_ptr<const SparseResidual> clamp_and_keep() {
    const std::int64_t lines = row_form_ ? job_.x.rows : job_.x.cols;
    auto residual = std::make_shared<SparseResidual>();
    residual->format = residual_format(job_.spec.residual);
    residual->rows = lines;
    residual->cols = row_form_ ? job_.x.cols : job_.x.rows;
    residual->row_pointers = allocate(static_cast<std::size_t>(lines + 1) * sizeof(std::int64_t));
    const Buffer positions = row_form_ ? residual->row_pointers
                                       : allocate(static_cast<std::size_t>(job_.segments + 1) * sizeof(std::int64_t));
    job_.positions = positions.as<std::int64_t>();
    job_.format = format_of(residual->format);
    const std::size_t width = residual->format == FormatId::bf16 ? 2 : 1;
    begin();
    OutlierJob loose = job_;  // entries of each segment in a place of their own, before their number is known
    Buffer loose_columns, loose_values;
    if (fast_ && by_row_) {
      const std::size_t most = static_cast<std::size_t>(job_.segments * capacity_);
      loose_columns = allocate(most * sizeof(std::int32_t));
      loose_values = allocate(most * width);
      loose.columns = loose_columns.as<std::int32_t>();
      loose.values = loose_values.data.get();
      fast::split_by_row(loose, capacity_, nullptr);
    } else if (fast_) {
      fast::count_outliers(job_, nullptr);
    }
    fast_ ? fast::sum_positions(job_, nullptr) : plain::outlier_positions(job_, nullptr);
    if (!row_form_) plain::residual_rows(job_, lines, residual->row_pointers.as<std::int64_t>(), nullptr);
    copy_to_host(&residual->count, job_.positions + job_.segments, sizeof residual->count);
    const std::size_t count = static_cast<std::size_t>(residual->count);
    residual->columns = allocate(count * sizeof(std::int32_t));
    residual->values = allocate(count * width);
    job_.columns = residual->columns.as<std::int32_t>();
    job_.values = residual->values.data.get();
    if (fast_ && by_row_)
      fast::pack_residual(job_, loose, capacity_, nullptr);
    else
      split_by_bounds();
    return residual;
  }

  /// Where the clamped values are in the end, if not in job.clamped: contiguous rows, the stride that of the view.
  Buffer turned_back(TensorView& view) const {
    if (!job_.turned) return {};
    Buffer result = allocate(fast::turned_bytes(job_.clamped));
    fast::turn(job_.clamped, result.data.get(), nullptr);
    view.data = result.data.get();
    view.stride = static_cast<std::int64_t>(result.bytes / size_of(view.dtype)) / std::max<std::int64_t>(view.rows, 1);
    return result;
  }

 private:
  /// Bounds, where they are not found together with what they clamp; the transposed copy.
  void begin() {
    if (!fast_ || !by_row_) {
      const std::int64_t count = by_row_ ? job_.segments : job_.group_count;
      bounds_ = allocate(static_cast<std::size_t>(count) * sizeof(OutlierBounds));
      job_.bounds = bounds_.as<OutlierBounds>();
      if (!fast_) return plain::outlier_bounds(job_, nullptr);
      const Buffer workspace = allocate(fast::tensor_bounds_bytes(job_));
      fast::tensor_bounds(job_, workspace.data.get(), nullptr);
    }
    if (row_form_) return;
    const TensorView x = job_.x;
    turned_ = allocate(fast::turned_bytes(x));
    fast::turn(x, turned_.data.get(), nullptr);
    const std::int64_t pitch =
        static_cast<std::int64_t>(turned_.bytes / size_of(x.dtype)) / std::max<std::int64_t>(x.cols, 1);
    job_.x = job_.clamped = TensorView{turned_.data.get(), x.dtype, x.cols, x.rows, pitch, {}};
    job_.turned = true;
  }

  void split_by_bounds() { fast_ ? fast::split_by_bounds(job_, nullptr) : plain::split_outliers(job_, nullptr); }

  OutlierJob job_;
  bool fast_;
  bool by_row_;
  bool row_form_;
  std::int64_t capacity_ = 0;  // entries that a segment can have: ranks beyond its bounds
  Buffer bounds_, turned_;
};

}  // namespace

SplitSource split_outliers(const StepContext& context, const TensorView& x, const RowGroups& groups,
                           const QuantizerSpec& spec, Orientation orientation, ResidualWanted wanted,
                           KernelChoice choice) {
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
  job.groups = device_groups.as<GroupExtent>();
  job.group_count = groups.count();
  job.segments = orientation == Orientation::row ? x.rows : x.cols * job.group_count;
  Split split(job, extents, choice);
  if (wanted == ResidualWanted::no || spec.outlier.residual == OutlierResidual::none)
    split.clamp();
  else
    result.residual = split.clamp_and_keep();
  if (Buffer back = split.turned_back(result.view); back.data != nullptr) result.memory = std::move(back);
  return result;
}

void add_residual(const SparseResidual& residual, const TensorView& decoded) {
  NG_CHECK(decoded.dtype == Dtype::f32);
  check_shape(decoded, residual.rows, residual.cols);
  plain::add_residual(view_of(residual), decoded, nullptr);
}

void add_residual_rows(const SparseResidual& a, std::int64_t row0, const TensorView& b, const TensorView& out,
                       KernelChoice choice) {
  NG_CHECK(out.dtype == Dtype::f32);
  check_real(b);
  NG_CHECK_LE(row0 + out.rows, a.rows);
  NG_CHECK_EQ(out.cols, b.rows);
  NG_CHECK_EQ(b.cols, a.cols);
  if (choice == KernelChoice::plain || !fast::residual_product_serves(b, out))
    return plain::add_residual_product(view_of(a), row0, b, out, nullptr);
  const Buffer turned = allocate(fast::turned_bytes(b));
  fast::turn(b, turned.data.get(), nullptr);
  fast::add_residual_product(view_of(a), row0, b, turned.data.get(), out, nullptr);
}

void CudaBackend::add_residual_product(const SparseResidual& a, const TensorView& b, const TensorView& out) {
  NG_CHECK_EQ(out.rows, a.rows);
  add_residual_rows(a, 0, b, out, choice_);
}

}  // namespace ng::cuda
