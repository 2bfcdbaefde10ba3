// SPDX-License-Identifier: Apache-2.0
//
// From a view and a spec to the kernels' plain data, and the order of the kernels.
#include "backend/quantize_plan.hpp"

#include <algorithm>

#include "fast/quantize_patches.hpp"
#include "fast/quantize_rows.hpp"
#include "fast/quantize_tiles.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/quantize/four_over_six.hpp"
#include "plain/quantize.hpp"
#include "plain/quantize_threads.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

void patches_to(fast::PatchGoal goal, fast::PatchJob job, Dtype source, Stream stream) {
  job.goal = goal;
  fast::quantize_patches(job, source, stream);
}

}  // namespace

std::vector<GroupExtent> group_extents(const RowGroups& groups, std::int64_t rows, std::int64_t tile_height) {
  std::vector<GroupExtent> extents;
  std::int64_t first_tile = 0;
  for (std::int64_t g = 0; g < groups.count(); ++g) {
    const std::int64_t begin = groups.begin(g, rows);
    const std::int64_t end = groups.end(g, rows);
    NG_CHECK_LE(begin, end);
    NG_CHECK_LE(end, rows);
    extents.push_back(GroupExtent{begin, end, first_tile});
    first_tile += tile_count(end - begin, tile_height);
  }
  return extents;
}

QuantizeJob describe_job(const StepContext& context, const TensorView& x, const RowGroups& groups,
                         const QuantizerSpec& spec, Orientation orientation, const Site& site) {
  NG_CHECK(x.dtype == Dtype::f32 || x.dtype == Dtype::bf16);
  NG_CHECK(spec.outlier.quantile == 0.0, "outliers are split before");
  const bool row_form = orientation == Orientation::row;
  QuantizeJob job;
  job.spec = spec;
  job.orientation = orientation;
  job.storage = storage_of(spec.element);
  job.source = x.data;
  job.rows = x.rows;
  job.cols = x.cols;
  job.stride = x.stride;
  job.group_count = groups.count();
  job.tile_height = row_form ? spec.tile_rows : spec.tile_cols;
  job.tile_width = row_form ? spec.tile_cols : spec.tile_rows;
  const std::vector<GroupExtent> extents = group_extents(groups, x.rows, job.tile_height);
  const GroupExtent& last = extents.back();
  job.row_tiles = last.first_tile + tile_count(last.end - last.begin, job.tile_height);
  job.col_tiles = tile_count(x.cols, job.tile_width);
  job.stream = RandomStream{context.seed, RandomPurpose::stochastic_rounding, site.tensor_id,
                            static_cast<std::uint32_t>(context.step)};
  job.logical_cols = x.placement.cols;
  job.logical_row0 = x.placement.row0;
  job.logical_col0 = x.placement.col0;
  job.row_ids = x.placement.row_ids;
  job.signs = hadamard_sign_mask(spec.hadamard, context.seed);
  if (const std::int64_t n = spec.hadamard.size; n != 0) {
    if (row_form) NG_CHECK_EQ(x.cols % n, 0);
    for (const GroupExtent& g : extents)
      if (!row_form) NG_CHECK_EQ((g.end - g.begin) % n, 0);
  }
  if (spec.rule == ScaleRule::four_over_six) {
    NG_CHECK_GT(spec.tile_rows, 0);
    NG_CHECK_LE(spec.tile_rows, kFourOverSixLines);
  }
  return job;
}

QuantizedTensor describe_result(const QuantizeJob& job, const RowGroups& groups) {
  const bool row_form = job.orientation == Orientation::row;
  QuantizedTensor q;
  q.spec = job.spec;
  q.orientation = job.orientation;
  q.rows = row_form ? job.rows : job.cols;
  q.cols = row_form ? job.cols : job.rows;
  q.groups = groups;
  for (const GroupExtent& g : group_extents(groups, job.rows, job.tile_height)) q.tile_offsets.push_back(g.first_tile);
  q.tile_offsets.push_back(job.row_tiles);
  q.storage = job.storage;
  q.row_bytes = static_cast<std::int64_t>(packed_row_bytes(q.storage, static_cast<std::size_t>(q.cols)));
  q.scale_rows = row_form ? job.row_tiles : job.col_tiles;
  q.scale_cols = row_form ? job.col_tiles : job.row_tiles;
  return q;
}

QuantizePlan::QuantizePlan(const StepContext& context, const TensorView& x, const RowGroups& groups,
                           const QuantizerSpec& spec, Orientation orientation, const Site& site, KernelChoice choice,
                           const std::uint32_t* known_amax)
    : job_(describe_job(context, x, groups, spec, orientation, site)),
      result_(describe_result(job_, groups)),
      dtype_(x.dtype),
      extents_(group_extents(groups, x.rows, job_.tile_height)) {
  const bool row_form = orientation == Orientation::row;
  const std::size_t group_count = static_cast<std::size_t>(job_.group_count);
  const std::size_t code_bytes = static_cast<std::size_t>(result_.rows * result_.row_bytes);
  result_.codes = allocate(fast::patch_code_bytes(code_bytes));
  result_.codes.bytes = code_bytes;
  if (spec.scale_format != ScaleFormat::none)
    result_.scales = allocate(static_cast<std::size_t>(result_.scale_rows * result_.scale_cols) *
                              (spec.scale_format == ScaleFormat::f32 ? sizeof(float) : 1));
  job_.codes = result_.codes.as<std::uint8_t>();
  job_.row_bytes = result_.row_bytes;
  job_.scales = result_.scales.data.get();
  job_.scale_cols = result_.scale_cols;

  groups_ = to_device(extents_);
  job_.groups = groups_.as<GroupExtent>();

  const bool two_level = needs_tensor_amax(spec.rule);
  const bool whole_tile = spec.scale_format != ScaleFormat::none && spec.tile_rows == 0 && spec.tile_cols == 0;
  NG_CHECK(known_amax == nullptr || two_level || whole_tile, "an amax is known, but nothing is scaled by it");
  if (choice == KernelChoice::fastest) {
    tiles_serve_ = fast::tiles_serve(job_, x.dtype, extents_);
    if (fast::serves(job_, x.dtype))
      path_ = KernelPath::rows;
    else if (tiles_serve_)
      path_ = KernelPath::tiles;
    else if (auto cut =
                 fast::cut_into_patches(row_form ? &job_ : nullptr, row_form ? nullptr : &job_, x.dtype, extents_)) {
      path_ = KernelPath::patches;
      bands_ = to_device(cut->bands);
      patches_ = cut->job;
      patches_->bands = bands_.as<fast::PatchBand>();
    }
  }
  if (two_level) {
    known_amax_ = known_amax != nullptr;
    flat_amax_ = path_ != KernelPath::plain && fast::serves_tensor_amax(job_, x.dtype);
    result_.tensor_scales = allocate(group_count * sizeof(float));
    job_.tensor_scales = result_.tensor_scales.as<float>();
    if (spec.decode == DecodeOrder::te) {
      result_.tensor_amaxes = allocate(group_count * sizeof(float));
      job_.tensor_amaxes = result_.tensor_amaxes.as<float>();
    }
    tensor_ = allocate(group_count * sizeof(TensorScale));
    job_.tensor = tensor_.as<TensorScale>();
    group_amax_ = allocate(group_count * sizeof(std::uint32_t));
    job_.group_amax = group_amax_.as<std::uint32_t>();
    if (known_amax_) {
      const std::size_t known = spec.tensor_scope == TensorScope::whole ? 1 : group_count;
      copy_on_device(job_.group_amax, known_amax, known * sizeof(std::uint32_t));
    }
  } else if (known_amax != nullptr) {
    known_tiles_ = allocate(group_count * sizeof(std::uint32_t));
    copy_on_device(known_tiles_.data.get(), known_amax, known_tiles_.bytes);
  }
  if (path_ == KernelPath::rows || path_ == KernelPath::tiles) return;
  if (path_ == KernelPath::plain || plain::counts_nan(spec)) {
    nan_inputs_ = allocate(sizeof(unsigned long long));
    job_.nan_inputs = nan_inputs_.as<unsigned long long>();
  }
  if (path_ == KernelPath::patches) {
    if (patches_->forms[0].scales_known) allocate_tiles();
    patches_->forms[0].job = job_;
    return;
  }
  if (spec.hadamard.size != 0) {
    transformed_ = allocate(static_cast<std::size_t>(x.rows * x.cols) * sizeof(float));
    job_.transformed = transformed_.as<float>();
  }
  allocate_tiles();
}

void QuantizePlan::allocate_tiles() {
  if (tiles_.data != nullptr) return;
  const std::size_t tiles = static_cast<std::size_t>(job_.row_tiles * job_.col_tiles);
  tile_amax_ = allocate(tiles * sizeof(std::uint32_t));
  job_.tile_amax = tile_amax_.as<std::uint32_t>();
  tiles_ = allocate(tiles * sizeof(TileScale));
  job_.tiles = tiles_.as<TileScale>();
}

void QuantizePlan::prepare(Stream stream, bool find_amax) {
  if (!needs_tensor_amax(job_.spec.rule)) return;
  if (!known_amax_ && find_amax) {
    const bool row_form = job_.orientation == Orientation::row;
    fill_bytes(group_amax_.data.get(), 0, group_amax_.bytes, stream);
    if (flat_amax_)
      fast::tensor_amax(job_, dtype_, stream);
    else if (path_ == KernelPath::patches)
      patches_to(fast::PatchGoal::group_amax, *patches_, dtype_, stream);
    else
      fast::tiles_amax(row_form ? &job_ : nullptr, row_form ? nullptr : &job_, dtype_, stream);
  }
  plain::tensor_scales(job_, stream);
}

void QuantizePlan::prepare_tiles(Stream stream, bool find_amax) {
  if (known_tiles_.data != nullptr) {
    plain::known_tile_amax(job_, known_tiles_.as<std::uint32_t>(), stream);
  } else if (find_amax) {
    fill_bytes(tile_amax_.data.get(), 0, tile_amax_.bytes, stream);
    if (job_.row_tiles * job_.col_tiles == 1 && job_.spec.hadamard.size == 0 &&
        fast::serves_tensor_amax(job_, dtype_)) {
      QuantizeJob tensor = job_;
      tensor.group_amax = job_.tile_amax;
      fast::tensor_amax(tensor, dtype_, stream);
    } else {
      patches_to(fast::PatchGoal::tile_amax, *patches_, dtype_, stream);
    }
  }
  plain::tile_scales(job_, dtype_, stream);
}

void QuantizePlan::zero_what_patches_add_to(Stream stream) {
  if (nan_inputs_.data != nullptr) fill_bytes(nan_inputs_.data.get(), 0, nan_inputs_.bytes, stream);
  for (int f = 0; f < patches_->form_count; ++f)
    if (patches_->forms[f].shared_words) fill_bytes(job_.codes, 0, fast::patch_code_bytes(result_.codes.bytes), stream);
}

void QuantizePlan::run(Stream stream) {
  if (path_ == KernelPath::rows) {
    prepare(stream, true);
    fast::quantize_rows(job_, dtype_, stream);
    return;
  }
  if (path_ == KernelPath::tiles) {
    prepare(stream, true);
    const bool row_form = job_.orientation == Orientation::row;
    fast::quantize_tiles(row_form ? &job_ : nullptr, row_form ? nullptr : &job_, dtype_, stream);
    return;
  }
  if (path_ == KernelPath::patches) {
    prepare(stream, true);
    if (patches_->forms[0].scales_known) prepare_tiles(stream, true);
    zero_what_patches_add_to(stream);
    fast::quantize_patches(*patches_, dtype_, stream);
    return;
  }
  const bool two_level = needs_tensor_amax(job_.spec.rule);
  if (two_level && !known_amax_) fill_bytes(group_amax_.data.get(), 0, group_amax_.bytes, stream);
  QuantizeJob job = job_;
  Dtype dtype = dtype_;
  if (job.transformed != nullptr) {
    plain::hadamard(job, dtype, stream);
    job.source = job.transformed;
    job.stride = job.cols;
    dtype = Dtype::f32;
  }
  fill_bytes(tile_amax_.data.get(), 0, tile_amax_.bytes, stream);
  fill_bytes(nan_inputs_.data.get(), 0, nan_inputs_.bytes, stream);
  plain::tile_amax(job, dtype, stream);
  if (known_tiles_.data != nullptr) plain::known_tile_amax(job, known_tiles_.as<std::uint32_t>(), stream);
  if (two_level) {
    if (!known_amax_) plain::group_amax(job, stream);
    plain::tensor_scales(job, stream);
  }
  if (job.spec.scale_format != ScaleFormat::none) plain::tile_scales(job, dtype, stream);
  plain::encode(job, dtype, stream);
}

RowAndColumnPlan::RowAndColumnPlan(QuantizePlan row, QuantizePlan column)
    : row_(std::move(row)), column_(std::move(column)) {
  NG_CHECK(row_.job_.orientation == Orientation::row && column_.job_.orientation == Orientation::column);
  NG_CHECK(row_.job_.source == column_.job_.source);
  together_ = row_.path_ != KernelPath::plain && column_.path_ == KernelPath::tiles && row_.tiles_serve_ &&
              fast::tiles_serve_together(row_.job_, column_.job_);
  if (row_.path_ != KernelPath::patches || column_.path_ != KernelPath::patches || row_.dtype_ != column_.dtype_) return;
  auto cut = fast::cut_into_patches(&row_.job_, &column_.job_, row_.dtype_, row_.extents_);
  if (!cut) return;
  bands_ = to_device(cut->bands);
  patches_ = cut->job;
  patches_->bands = bands_.as<fast::PatchBand>();
  for (fast::PatchForm& form : patches_->forms) {
    QuantizePlan& plan = form.job.orientation == Orientation::row ? row_ : column_;
    if (form.scales_known) plan.allocate_tiles();
    form.job = plan.job_;
  }
  together_ = true;
}

/// A transform of one form alone leaves two amaxes to find, from one read; without any they are the same one.
void RowAndColumnPlan::find_tensor_scales(Stream stream) {
  const bool two_level = needs_tensor_amax(row_.job_.spec.rule);
  const bool find_row = two_level && !row_.known_amax_;
  const bool find_column = needs_tensor_amax(column_.job_.spec.rule) && !column_.known_amax_;
  const bool same = row_.job_.spec.hadamard.size == 0 && column_.job_.spec.hadamard.size == 0 &&
                    row_.job_.spec.tensor_scope == column_.job_.spec.tensor_scope;
  if (find_row && find_column && same) {
    row_.prepare(stream, true);
    copy_on_device(column_.group_amax_.data.get(), row_.group_amax_.data.get(), row_.group_amax_.bytes, stream);
    column_.prepare(stream, false);
  } else if (find_row && find_column) {
    fill_bytes(row_.group_amax_.data.get(), 0, row_.group_amax_.bytes, stream);
    fill_bytes(column_.group_amax_.data.get(), 0, column_.group_amax_.bytes, stream);
    if (patches_)
      patches_to(fast::PatchGoal::group_amax, *patches_, row_.dtype_, stream);
    else
      fast::tiles_amax(&row_.job_, &column_.job_, row_.dtype_, stream);
    row_.prepare(stream, false);
    column_.prepare(stream, false);
  } else {
    row_.prepare(stream, find_row);
    column_.prepare(stream, find_column);
  }
}

/// Where tiles are longer than patches: all that have to be found from one read.
void RowAndColumnPlan::find_tile_scales(Stream stream) {
  std::vector<QuantizePlan*> plans;
  bool find = false;
  bool whole_tiles = true;
  for (const fast::PatchForm& form : patches_->forms) {
    if (!form.scales_known) continue;
    QuantizePlan& plan = form.job.orientation == Orientation::row ? row_ : column_;
    plans.push_back(&plan);
    find = find || plan.known_tiles_.data == nullptr;
    whole_tiles = whole_tiles && form.job.tile_height == 0 && form.job.tile_width == 0 &&
                  form.job.spec.hadamard.size == 0 && plan.known_tiles_.data == nullptr;
  }
  if (plans.size() == 2 && whole_tiles) {  // the same ones
    row_.prepare_tiles(stream, true);
    copy_on_device(column_.tile_amax_.data.get(), row_.tile_amax_.data.get(), row_.tile_amax_.bytes, stream);
    column_.prepare_tiles(stream, false);
    return;
  }
  for (QuantizePlan* plan : plans) fill_bytes(plan->tile_amax_.data.get(), 0, plan->tile_amax_.bytes, stream);
  if (find) patches_to(fast::PatchGoal::tile_amax, *patches_, row_.dtype_, stream);
  for (QuantizePlan* plan : plans) plan->prepare_tiles(stream, false);
}

void RowAndColumnPlan::run(Stream stream) {
  if (!together_) {
    row_.run(stream);
    column_.run(stream);
    return;
  }
  find_tensor_scales(stream);
  if (!patches_) {
    fast::quantize_tiles(&row_.job_, &column_.job_, row_.dtype_, stream);
    return;
  }
  find_tile_scales(stream);
  row_.zero_what_patches_add_to(stream);
  column_.zero_what_patches_add_to(stream);
  fast::quantize_patches(*patches_, row_.dtype_, stream);
}

QuantizedTensor QuantizePlan::result() {
  if (job_.nan_inputs != nullptr && plain::counts_nan(job_.spec)) {
    unsigned long long count = 0;  // copied when the kernels are done
    copy_to_host(&count, job_.nan_inputs, sizeof count);
    result_.nan_inputs = static_cast<std::int64_t>(count);
  }
  return result_;
}

}  // namespace ng::cuda
