// SPDX-License-Identifier: Apache-2.0
//
// Measurements on the GPU: kernels gather in one MeasureTotals, which is all that comes to the host beside the lists
// that were asked for. Products are in cuda_measure_product.cpp.
#include <cmath>
#include <optional>
#include <vector>

#include "backend/cuda_backend.hpp"
#include "backend/cuda_quantizer.hpp"
#include "backend/outliers.hpp"
#include "fast/measure_errors.hpp"
#include "narrowgauge/backend/scaled_tiles.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/quantize/measure_terms.hpp"
#include "plain/measure.hpp"
#include "plain/quantize.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

/// A quantized tensor as kernels read it, with the memory that its description needs.
struct CodedForm {
  explicit CodedForm(const QuantizedTensor& q) : job(describe_dequantize(q, extents)) {}
  Buffer extents;
  DequantizeJob job;
};

/// D as quantized, a residual of outliers included; f32.
Buffer decoded_values(const QuantizedTensor& q, KernelChoice choice) {
  Buffer values = allocate(static_cast<std::size_t>(q.rows * q.cols) * sizeof(float));
  const TensorView view{values.data.get(), Dtype::f32, q.rows, q.cols, q.cols, {}};
  dequantize(q, view, choice);
  if (q.residual != nullptr) add_residual(*q.residual, view);
  return values;
}

/// X: what the quantizer of a form was given.
struct GivenTensor {
  GivenTensor(const QuantizationEvent& event) : view(event.original) {  // NOLINT(google-explicit-constructor)
    const QuantizedTensor& q = event.quantized;
    if (q.spec.hadamard.size == 0) return;
    memory = allocate(static_cast<std::size_t>(view.count()) * sizeof(float));
    QuantizerSpec transform;
    transform.hadamard = q.spec.hadamard;
    QuantizeJob job = describe_job(event.context, event.original, event.groups, transform, q.orientation, event.site);
    job.transformed = memory.as<float>();
    plain::hadamard(job, view.dtype, nullptr);
    view.data = memory.data.get();
    view.dtype = Dtype::f32;
    view.stride = view.cols;
  }
  TensorView view;
  Buffer memory;
};

/// One measurement under way.
class Measuring {
 public:
  Measuring(const QuantizationEvent& event, KernelChoice choice)
      : event_(event),
        q_(event.quantized),
        form_(q_),
        given_(event),
        choice_(choice),
        memory_(allocate(sizeof(MeasureTotals))) {
    totals_ = memory_.as<MeasureTotals>();
    fill_bytes(totals_, 0, sizeof(MeasureTotals));
    const Placement& place = event.original.placement;
    if (place.row_ids == nullptr) return;
    const std::int64_t size =
        q_.orientation == Orientation::column && q_.spec.hadamard.size > 0 ? q_.spec.hadamard.size : 1;
    measured_memory_ = allocate(static_cast<std::size_t>(rows()));
    measured_ = measured_memory_.as<std::uint8_t>();
    plain::measured_rows(place, form_.job.groups, form_.job.group_count, rows(), size,
                         measured_memory_.as<std::uint8_t>(), &totals_->rows, nullptr);
  }

  void errors() {
    if (given_.view.count() == 0) return;
    MeasureJob job = measure_job();
    const bool is_fast = choice_ == KernelChoice::fastest && fast::serves_measure_errors(job);
    job.partials = partials(kErrorSums, is_fast ? fast::measure_error_nodes(job) : leaves());
    if (is_fast)
      fast::measure_errors(job, nullptr);
    else
      plain::measure_errors(job, nullptr);
    plain::add_rows(job.partials, MeasuredSum::error2, kErrorSums, totals_, nullptr);
  }

  /// `twice`: the form of the decoded row form.
  void doubles(const QuantizedTensor& twice) {
    if (given_.view.count() == 0) return;
    const Buffer values = decoded_values(twice, choice_);
    MeasureJob job = measure_job();
    job.decoded = decoded();
    job.partials = partials(kDoubleSums, leaves());
    plain::measure_doubles(job, values.as<float>(), nullptr);
    plain::add_rows(job.partials, MeasuredSum::double_error2, kDoubleSums, totals_, nullptr);
  }

  void scales() {
    if (q_.spec.scale_format == ScaleFormat::none) return;
    const bool row_form = q_.orientation == Orientation::row;
    const std::int64_t tiles = row_form ? q_.scale_rows : q_.scale_cols;
    Buffer counted;
    if (measured_ != nullptr) {
      counted = allocate(static_cast<std::size_t>(tiles));
      plain::measured_tiles(form_.job, measured_, row_form ? q_.spec.tile_rows : q_.spec.tile_cols, tiles,
                            counted.as<std::uint8_t>(), nullptr);
    }
    const std::uint8_t* flags = counted.as<std::uint8_t>();
    if (q_.spec.scale_format == ScaleFormat::f32) {
      const ScaleJob job{form_.job, q_.scale_rows, flags, nullptr, totals_};
      if (choice_ == KernelChoice::fastest && fast::serves_measure_scales())
        fast::measure_scales(job, nullptr);
      else
        plain::measure_scales(job, nullptr);
      return;
    }
    count(CountJob{q_.scales.as<std::uint8_t>(), CodeStorage::byte, q_.scale_rows, q_.scale_cols, q_.scale_cols,
                   row_form ? flags : nullptr, row_form ? nullptr : flags, 256, totals_->scale_codes});
  }

  /// `row`: the row form of the same tensor.
  void gap(const QuantizedTensor& row) {
    if (row.spec.scale_format == ScaleFormat::none || q_.spec.scale_format == ScaleFormat::none) return;
    if (given_.view.count() == 0) return;
    const CodedForm row_form(row);
    const Buffer row_logs = logs_of(row, row_form), column_logs = logs_of(q_, form_);
    GapJob job{row_form.job,     form_.job, row_logs.as<double>(), column_logs.as<double>(), partials(1, leaves()),
               given_.view.cols, totals_};
    plain::measure_gap(job, nullptr);
    plain::add_rows(job.partials, MeasuredSum::gap, 1, totals_, nullptr);
  }

  void transposes() {
    if (!can_be_transposed(q_.spec) || given_.view.count() == 0) return;
    TransposeJob job;
    job.coded = form_.job;
    job.decoded = q_.residual != nullptr ? decoded() : nullptr;
    job.tile = q_.spec.tile_cols;
    job.tiles = q_.scale_cols;
    const std::size_t tiles = static_cast<std::size_t>(q_.rows * job.tiles);
    const Buffer all_zero = allocate(tiles), squares = allocate(kTransposeSums * tiles * sizeof(double));
    job.all_zero = all_zero.as<std::uint8_t>();
    job.squares = squares.as<double>();
    job.partials = partials(kTransposeSums, 1);
    job.totals = totals_;
    plain::measure_transposes(job, nullptr);
    plain::add_rows(job.partials, MeasuredSum::transpose2, kTransposeSums, totals_, nullptr);
  }

  [[nodiscard]] std::vector<std::int64_t> code_counts() {
    const std::size_t bins = std::size_t{1} << bit_count(q_.spec.element);
    const Buffer counts = allocate(bins * sizeof(unsigned long long));
    fill_bytes(counts.data.get(), 0, counts.bytes);
    const bool row_form = q_.orientation == Orientation::row;
    count(CountJob{form_.job.codes, q_.storage, q_.rows, q_.cols, q_.row_bytes, row_form ? measured_ : nullptr,
                   row_form ? nullptr : measured_, static_cast<std::int64_t>(bins), counts.as<unsigned long long>()});
    return to_host<std::int64_t>(counts.data.get(), bins);
  }

  [[nodiscard]] std::vector<PlacedScale> placed_scales() const {
    std::vector<PlacedScale> list;
    if (q_.spec.scale_format == ScaleFormat::none) return list;
    const std::vector<std::uint8_t> scales = to_host<std::uint8_t>(q_.scales.data.get(), q_.scales.bytes);
    Placement at = event_.original.placement;
    std::vector<std::uint8_t> flags;
    std::vector<std::int64_t> ids;
    if (measured_ != nullptr) {
      flags = to_host<std::uint8_t>(measured_, static_cast<std::size_t>(rows()));
      ids = to_host<std::int64_t>(at.row_ids, static_cast<std::size_t>(rows()));
      at.row_ids = ids.data();
    }
    for_each_measured_tile(q_, scales.data(), flags,
                           [&](const ScaledTile& tile) { list.push_back(placed_scale(q_, tile, at)); });
    return list;
  }

  /// What the kernels have gathered; waits for them.
  [[nodiscard]] MeasureSums sums(bool doubled) const {
    std::vector<MeasureTotals> copy = to_host<MeasureTotals>(totals_, 1);
    const MeasureTotals& t = copy.front();
    const auto sum = [&](MeasuredSum which) { return unrounded(t.sums[static_cast<int>(which)]); };
    const auto number = [](unsigned long long count) { return static_cast<double>(count); };
    MeasureSums s;
    s.count =
        static_cast<double>((measured_ != nullptr ? static_cast<std::int64_t>(t.rows) : rows()) * given_.view.cols);
    s.nonzero = number(t.nonzero);
    s.error2 = sum(MeasuredSum::error2);
    s.square = sum(MeasuredSum::square);
    s.decoded2 = sum(MeasuredSum::decoded2);
    s.product = sum(MeasuredSum::product);
    s.signed_error = sum(MeasuredSum::signed_error);
    s.absolute = sum(MeasuredSum::absolute);
    s.underflow = number(t.underflow);
    s.saturated = number(t.saturated);
    s.max_abs_error = static_cast<double>(float_of(t.max_abs));
    s.max_rel_error = static_cast<double>(float_of(t.max_rel));
    if (doubled) {
      s.double_error2 = sum(MeasuredSum::double_error2);
      s.double_total2 = sum(MeasuredSum::double_total2);
      s.single_total2 = s.error2;
      s.double_changed = number(t.changed);
    }
    s.gap_count = number(t.gap_count);
    s.gap = sum(MeasuredSum::gap);
    s.transpose_count = number(t.transpose_count);
    s.transpose2 = sum(MeasuredSum::transpose2);
    s.transpose_published2 = sum(MeasuredSum::transpose_published2);
    add_scales(t, s);
    return s;
  }

 private:
  [[nodiscard]] std::int64_t rows() const { return event_.original.rows; }
  [[nodiscard]] std::int64_t leaves() const {
    return static_cast<std::int64_t>(summation_leaves(static_cast<std::size_t>(given_.view.cols)));
  }
  [[nodiscard]] MeasureJob measure_job() {
    MeasureJob job;
    job.coded = form_.job;
    job.decoded = q_.residual != nullptr ? decoded() : nullptr;
    job.x = given_.view;
    job.totals = totals_;
    return job;
  }
  const float* decoded() {
    if (decoded_.data == nullptr) decoded_ = decoded_values(q_, choice_);
    return decoded_.as<float>();
  }
  RowPartials partials(int sums, std::int64_t nodes) {
    partials_ = allocate(static_cast<std::size_t>(sums * rows() * nodes) * sizeof(double));
    return {partials_.as<double>(), rows(), nodes, measured_};
  }
  static Buffer logs_of(const QuantizedTensor& q, const CodedForm& form) {
    Buffer logs = allocate(static_cast<std::size_t>(q.scale_rows * q.scale_cols) * sizeof(double));
    plain::scale_logs(ScaleJob{form.job, q.scale_rows, nullptr, logs.as<double>(), nullptr}, nullptr);
    return logs;
  }
  void count(const CountJob& job) const {
    if (choice_ == KernelChoice::fastest && fast::serves_count_codes(job))
      fast::count_codes(job, nullptr);
    else
      plain::count_codes(job, nullptr);
  }

  /// Statistics of scales: of FP32 ones as gathered, of others from the counts of their codes.
  void add_scales(const MeasureTotals& t, MeasureSums& s) const {
    float smallest = float_of(~t.smallest_scale), largest = float_of(t.largest_scale);
    s.scale_count = static_cast<double>(t.scale_count);
    s.scale_log2_sum = unrounded(t.sums[static_cast<int>(MeasuredSum::scale_log2)]);
    if (q_.spec.scale_format != ScaleFormat::f32) {
      for (std::uint32_t code = 0; code < 256; ++code) {
        const float scale = stored_scale_value(q_.spec.scale_format, code);
        if (t.scale_codes[code] == 0 || !has_log(scale)) continue;
        smallest = s.scale_count == 0 ? scale : std::min(smallest, scale);
        largest = std::max(largest, scale);
        s.scale_count += static_cast<double>(t.scale_codes[code]);
        const double log = log2_rn(static_cast<double>(scale));
        for (int bit = 0; bit < 64; ++bit)
          if ((t.scale_codes[code] >> bit & 1) != 0) s.scale_log2_sum += std::ldexp(log, bit);
      }
    }
    if (s.scale_count == 0) return;
    s.scale_log2_min = log2_rn(static_cast<double>(smallest));
    s.scale_log2_max = log2_rn(static_cast<double>(largest));
  }

  const QuantizationEvent& event_;
  const QuantizedTensor& q_;
  CodedForm form_;
  GivenTensor given_;
  KernelChoice choice_;
  Buffer memory_, measured_memory_, decoded_, partials_;
  MeasureTotals* totals_ = nullptr;
  const std::uint8_t* measured_ = nullptr;
};

}  // namespace

Measurement CudaBackend::measure(const QuantizationEvent& event, const MeasureRequest& request) {
  const QuantizedTensor& q = event.quantized;
  Measuring measuring(event, choice_);
  measuring.errors();
  measuring.scales();
  std::optional<QuantizedTensor> along_rows;
  if (request.row_spec != nullptr && q.orientation == Orientation::column &&
      (request.double_quantization || request.scale_gap)) {
    QuantizerSpec first = *request.row_spec;
    first.hadamard = HadamardSpec{};
    along_rows = quantize(event.context, event.original, event.groups, first, Orientation::row, event.site);
  }
  const bool doubled = along_rows && request.double_quantization;
  if (doubled) {
    const Tensor between = tensor(Dtype::f32, event.original.rows, event.original.cols);
    dequantize(*along_rows, between.view);
    TensorView placed = between.view;
    placed.placement = event.original.placement;
    measuring.doubles(quantize(event.context, placed, event.groups, q.spec, Orientation::column, event.site));
  }
  if (along_rows && request.scale_gap) measuring.gap(*along_rows);
  if (request.transpose && q.orientation == Orientation::row) measuring.transposes();
  Measurement result;
  result.sums = measuring.sums(doubled);
  if (request.scales) result.scales = measuring.placed_scales();
  if (request.codes) result.code_counts = measuring.code_counts();
  return result;
}

}  // namespace ng::cuda
