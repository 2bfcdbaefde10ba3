// SPDX-License-Identifier: Apache-2.0
//
// Error sums of a quantized form against what the quantizer was given (for a rotated form: the rotated tensor).
// Padding rows of experts are not measured: neither sums nor counts nor scales depend on how far experts are padded.
// A sum: of each measured row of the original in double over the tree of summation_order.hpp, rows then without
// rounding, so that neither their order nor the cut into micro-batches matters. Scales, gaps and transposes are in
// cpu_measure_scales.cpp, products in cpu_measure_product.cpp.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/numerics/summation_order.hpp"

namespace ng::cpu {

namespace {

/// Sums over the elements of a row.
struct RowSums {
  double error2 = 0, square = 0, decoded2 = 0, product = 0, signed_error = 0, absolute = 0;
  double double_error2 = 0, double_total2 = 0, single_total2 = 0;
  std::int64_t nonzero = 0, underflow = 0, saturated = 0, changed = 0;
  float max_abs = 0, max_rel = 0;
};

constexpr double RowSums::*kRowSums[] = {
    &RowSums::error2,        &RowSums::square,        &RowSums::decoded2,
    &RowSums::product,       &RowSums::signed_error,  &RowSums::absolute,
    &RowSums::double_error2, &RowSums::double_total2, &RowSums::single_total2,
};

/// The leaves of a row as one, by the tree; `leaves` is overwritten.
RowSums row_total(std::vector<RowSums>& leaves, std::vector<double>& scratch) {
  RowSums total;
  scratch.resize(leaves.size());
  for (double RowSums::*sum : kRowSums) {
    for (std::size_t i = 0; i < leaves.size(); ++i) scratch[i] = leaves[i].*sum;
    total.*sum = reduce_tree(scratch.data(), scratch.size());
  }
  for (const RowSums& leaf : leaves) {
    total.nonzero += leaf.nonzero;
    total.underflow += leaf.underflow;
    total.saturated += leaf.saturated;
    total.changed += leaf.changed;
    total.max_abs = std::max(total.max_abs, leaf.max_abs);
    total.max_rel = std::max(total.max_rel, leaf.max_rel);
  }
  return total;
}

/// m as it lies in the original: element (r, c) of a column form is (c, r) of its decoded matrix.
std::vector<float> in_original_axes(std::vector<float> decoded, Orientation orientation, std::int64_t rows,
                                    std::int64_t cols) {
  if (orientation == Orientation::row) return decoded;
  std::vector<float> turned(decoded.size());
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c)
      turned[static_cast<std::size_t>(r * cols + c)] = decoded[static_cast<std::size_t>(c * rows + r)];
  return turned;
}

/// Which rows of the original are measured: all but padding rows. A transform along the rows fills the padding rows of
/// its group from real ones; those are measured too.
std::vector<std::uint8_t> measured_rows(const QuantizationEvent& event) {
  const TensorView& x = event.original;
  const Placement& place = x.placement;
  std::vector<std::uint8_t> measured(static_cast<std::size_t>(x.rows), 1);
  if (place.row_ids == nullptr) return measured;
  const std::int64_t size = event.quantized.orientation == Orientation::column
                                ? std::max<std::int64_t>(1, event.quantized.spec.hadamard.size)
                                : 1;
  for (std::int64_t g = 0; g < event.groups.count(); ++g) {
    const std::int64_t end = event.groups.end(g, x.rows);
    for (std::int64_t first = event.groups.begin(g, x.rows); first < end; first += size) {
      const std::int64_t last = std::min(end, first + size);
      const bool real = std::any_of(place.row_ids + first, place.row_ids + last,
                                    [&](std::int64_t id) { return !is_padding_row(place, id); });
      std::fill(measured.begin() + first, measured.begin() + last, static_cast<std::uint8_t>(real));
    }
  }
  return measured;
}

}  // namespace

std::vector<float> CpuBackend::decoded_in_original_axes(const QuantizedTensor& q) const {
  std::vector<float> values(static_cast<std::size_t>(q.rows * q.cols));
  decode_rows(q, DecodedScales::all, 0, q.rows, values.data(), q.cols);
  if (q.residual != nullptr) add_residual(*q.residual, values);
  const bool row_form = q.orientation == Orientation::row;
  return in_original_axes(std::move(values), q.orientation, row_form ? q.rows : q.cols, row_form ? q.cols : q.rows);
}

Measurement CpuBackend::measure(const QuantizationEvent& event, const MeasureRequest& request) {
  const QuantizedTensor& q = event.quantized;
  const TensorView& x = event.original;
  const std::int64_t rows = x.rows;
  const std::int64_t cols = x.cols;
  const FloatSource source = float_source(event.context, x, event.groups, q.spec, q.orientation);
  const std::vector<float> decoded = decoded_in_original_axes(q);

  std::vector<float> twice;  // D(Qc(D(Qr X)))
  std::optional<QuantizedTensor> along_rows;
  if (request.row_spec != nullptr && q.orientation == Orientation::column &&
      (request.double_quantization || request.scale_gap)) {
    QuantizerSpec first = *request.row_spec;
    first.hadamard = HadamardSpec{};
    along_rows = quantize(event.context, x, event.groups, first, Orientation::row, event.site);
  }
  if (along_rows && request.double_quantization) {
    const QuantizedTensor& qr = *along_rows;
    Tensor between = tensor(Dtype::f32, rows, cols);
    dequantize(qr, between.view);
    between.view.placement = x.placement;
    twice = decoded_in_original_axes(
        quantize(event.context, between.view, event.groups, q.spec, Orientation::column, event.site));
  }

  // The largest value that a tile can hold, times its scale: beside each decoded value for the saturation count.
  const float largest = scale_detail::largest_value(q.spec.element);
  std::vector<float> limit;
  if (q.spec.scale_format != ScaleFormat::none) limit = tile_limits(q, largest);

  const std::int64_t leaves_per_row = static_cast<std::int64_t>(summation_leaves(static_cast<std::size_t>(cols)));
  const std::vector<std::uint8_t> measured = measured_rows(event);
  std::vector<std::int64_t> row_list;
  for (std::int64_t r = 0; r < rows; ++r)
    if (measured[static_cast<std::size_t>(r)] != 0) row_list.push_back(r);
  const std::int64_t listed = static_cast<std::int64_t>(row_list.size());
  std::vector<RowSums> row_sums(row_list.size());
  pool_.parallel_for(listed, [&](std::int64_t i) {
    const std::int64_t r = row_list[static_cast<std::size_t>(i)];
    const float* values = source.data + r * source.stride;
    const float* back = decoded.data() + r * cols;
    std::vector<RowSums> leaves(static_cast<std::size_t>(leaves_per_row));
    for (std::int64_t l = 0; l < leaves_per_row; ++l) {
      RowSums& leaf = leaves[static_cast<std::size_t>(l)];
      const std::int64_t end = std::min(cols, (l + 1) * static_cast<std::int64_t>(kSummationLeaf));
      for (std::int64_t c = l * static_cast<std::int64_t>(kSummationLeaf); c < end; ++c) {
        const double value = values[c];
        const double got = back[c];
        const double error = got - value;
        const double magnitude = std::fabs(value);
        leaf.error2 += error * error;
        leaf.square += value * value;
        leaf.decoded2 += got * got;
        leaf.product += got * value;
        leaf.signed_error += value < 0 ? -error : value > 0 ? error : 0.0;
        leaf.absolute += magnitude;
        const float absolute_error = static_cast<float>(std::fabs(error));
        leaf.max_abs = std::max(leaf.max_abs, absolute_error);
        if (value != 0) {
          ++leaf.nonzero;
          leaf.underflow += got == 0 ? 1 : 0;
          leaf.max_rel = std::max(leaf.max_rel, static_cast<float>(std::fabs(error) / magnitude));
        }
        if (!limit.empty())
          leaf.saturated += magnitude > static_cast<double>(limit[static_cast<std::size_t>(r * cols + c)]) ? 1 : 0;
        else
          leaf.saturated += magnitude > static_cast<double>(largest) ? 1 : 0;
        if (!twice.empty()) {
          const double second = twice[static_cast<std::size_t>(r * cols + c)];
          leaf.double_error2 += (second - got) * (second - got);
          leaf.double_total2 += (second - value) * (second - value);
          leaf.single_total2 += error * error;
          leaf.changed += second != got ? 1 : 0;
        }
      }
    }
    std::vector<double> scratch;
    row_sums[static_cast<std::size_t>(i)] = row_total(leaves, scratch);
  });

  Measurement result;
  MeasureSums& sums = result.sums;
  sums.count = static_cast<double>(listed * cols);
  for (const RowSums& row : row_sums) {
    sums.error2 += row.error2;
    sums.square += row.square;
    sums.decoded2 += row.decoded2;
    sums.product += row.product;
    sums.signed_error += row.signed_error;
    sums.absolute += row.absolute;
    sums.nonzero += static_cast<double>(row.nonzero);
    sums.underflow += static_cast<double>(row.underflow);
    sums.saturated += static_cast<double>(row.saturated);
    sums.max_abs_error = std::max(sums.max_abs_error, static_cast<double>(row.max_abs));
    sums.max_rel_error = std::max(sums.max_rel_error, static_cast<double>(row.max_rel));
    if (twice.empty()) continue;
    sums.double_error2 += row.double_error2;
    sums.double_total2 += row.double_total2;
    sums.single_total2 += row.single_total2;
    sums.double_changed += static_cast<double>(row.changed);
  }
  measure_scales(event, measured, request.scales, result);
  if (along_rows && request.scale_gap) measure_scale_gap(q, *along_rows, measured, sums);
  if (request.transpose && q.orientation == Orientation::row) measure_transposes(q, decoded, measured, sums);
  if (request.codes) result.code_counts = code_counts(q, measured);
  return result;
}

}  // namespace ng::cpu
