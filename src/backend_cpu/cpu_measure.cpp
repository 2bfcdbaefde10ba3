// SPDX-License-Identifier: Apache-2.0
//
// Error sums of a quantized form against what the quantizer was given (for a rotated form: the rotated tensor).
// Padding rows of experts are not measured: neither sums nor counts nor scales depend on how far experts are padded.
// A sum: of each measured row of the original in double over the tree of summation_order.hpp, rows then without
// rounding, so that neither their order nor the cut into micro-batches matters. Scales, gaps and transposes are in
// cpu_measure_scales.cpp, products in cpu_measure_product.cpp.
#include <algorithm>
#include <optional>
#include <vector>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/summation_order.hpp"
#include "narrowgauge/quantize/measure_terms.hpp"

namespace ng::cpu {

namespace {

/// Sums over the elements of a row.
struct RowSums {
  ErrorTerms errors;
  DoubleTerms twice;
};

/// The sum that `term` reads of each leaf, by the tree.
template <class Term>
double tree_of(const std::vector<RowSums>& leaves, std::vector<double>& scratch, const Term& term) {
  scratch.resize(leaves.size());
  for (std::size_t i = 0; i < leaves.size(); ++i) scratch[i] = term(leaves[i]);
  return reduce_tree(scratch.data(), scratch.size());
}

constexpr double ErrorTerms::*kErrorSums[] = {&ErrorTerms::error2,  &ErrorTerms::square,       &ErrorTerms::decoded2,
                                              &ErrorTerms::product, &ErrorTerms::signed_error, &ErrorTerms::absolute};
constexpr double DoubleTerms::*kDoubleSums[] = {&DoubleTerms::error2, &DoubleTerms::total2};

/// The leaves of a row as one.
RowSums row_total(const std::vector<RowSums>& leaves, std::vector<double>& scratch) {
  RowSums total;
  for (double ErrorTerms::*sum : kErrorSums)
    total.errors.*sum = tree_of(leaves, scratch, [&](const RowSums& leaf) { return leaf.errors.*sum; });
  for (double DoubleTerms::*sum : kDoubleSums)
    total.twice.*sum = tree_of(leaves, scratch, [&](const RowSums& leaf) { return leaf.twice.*sum; });
  for (const RowSums& leaf : leaves) {
    total.errors.nonzero += leaf.errors.nonzero;
    total.errors.underflow += leaf.errors.underflow;
    total.errors.saturated += leaf.errors.saturated;
    total.errors.max_abs = std::max(total.errors.max_abs, leaf.errors.max_abs);
    total.errors.max_rel = std::max(total.errors.max_rel, leaf.errors.max_rel);
    total.twice.changed += leaf.twice.changed;
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
      const bool real = holds_real_row(place.row_ids, place.rows, first, last);
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
  std::vector<float> limit;
  if (q.spec.scale_format != ScaleFormat::none) limit = tile_limits(q);
  const float one_limit = block_limit(q.spec, 1.0f, 1.0f, 1.0f);

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
      const std::int64_t begin = l * static_cast<std::int64_t>(kSummationLeaf);
      const std::int64_t end = std::min(cols, begin + static_cast<std::int64_t>(kSummationLeaf));
      ErrorTerms errors;
      const float* limits = limit.empty() ? nullptr : limit.data() + r * cols;
      for (std::int64_t c = begin; c < end; ++c)
        errors.add(values[c], back[c], limits == nullptr ? one_limit : limits[c]);
      DoubleTerms doubled;
      if (!twice.empty())
        for (std::int64_t c = begin; c < end; ++c)
          doubled.add(values[c], back[c], twice[static_cast<std::size_t>(r * cols + c)]);
      leaves[static_cast<std::size_t>(l)] = {errors, doubled};
    }
    std::vector<double> scratch;
    row_sums[static_cast<std::size_t>(i)] = row_total(leaves, scratch);
  });

  Measurement result;
  MeasureSums& sums = result.sums;
  sums.count = static_cast<double>(listed * cols);
  for (const RowSums& row : row_sums) {
    const ErrorTerms& errors = row.errors;
    sums.error2 += errors.error2;
    sums.square += errors.square;
    sums.decoded2 += errors.decoded2;
    sums.product += errors.product;
    sums.signed_error += errors.signed_error;
    sums.absolute += errors.absolute;
    sums.nonzero += static_cast<double>(errors.nonzero);
    sums.underflow += static_cast<double>(errors.underflow);
    sums.saturated += static_cast<double>(errors.saturated);
    sums.max_abs_error = std::max(sums.max_abs_error, static_cast<double>(errors.max_abs));
    sums.max_rel_error = std::max(sums.max_rel_error, static_cast<double>(errors.max_rel));
    if (twice.empty()) continue;
    sums.double_error2 += row.twice.error2;
    sums.double_total2 += row.twice.total2;
    sums.single_total2 += errors.error2;
    sums.double_changed += static_cast<double>(row.twice.changed);
  }
  measure_scales(event, measured, request.scales, result);
  if (along_rows && request.scale_gap) measure_scale_gap(q, *along_rows, measured, sums);
  if (request.transpose && q.orientation == Orientation::row) measure_transposes(q, decoded, measured, sums);
  if (request.codes) result.code_counts = code_counts(q, measured);
  return result;
}

}  // namespace ng::cpu
