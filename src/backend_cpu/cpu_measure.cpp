// SPDX-License-Identifier: Apache-2.0
//
// Error sums of a quantized form against what the quantizer was given (for a rotated form: the rotated tensor).
// Padding rows of experts are not measured: neither sums nor counts nor scales depend on how far experts are padded.
// Terms of a sum: measured rows of the original in order, each row cut into leaves of 256; leaves are added up by the
// tree of summation_order.hpp.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/numerics/summation_order.hpp"

namespace ng::cpu {

namespace {

/// One leaf: sums of up to 256 neighbouring elements of a row.
struct Leaf {
  double error2 = 0, square = 0, decoded2 = 0, product = 0, signed_error = 0, absolute = 0;
  double double_error2 = 0, double_total2 = 0, single_total2 = 0;
  std::int64_t nonzero = 0, underflow = 0, saturated = 0, changed = 0;
  float max_abs = 0, max_rel = 0;
};

double tree_sum(const std::vector<Leaf>& leaves, double Leaf::*member, std::vector<double>& scratch) {
  scratch.resize(leaves.size());
  for (std::size_t i = 0; i < leaves.size(); ++i) scratch[i] = leaves[i].*member;
  return reduce_tree(scratch.data(), scratch.size());
}

std::int64_t count_sum(const std::vector<Leaf>& leaves, std::int64_t Leaf::*member) {
  std::int64_t sum = 0;
  for (const Leaf& leaf : leaves) sum += leaf.*member;
  return sum;
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

MeasureSums CpuBackend::measure(const QuantizationEvent& event, const QuantizerSpec* row_spec) {
  const QuantizedTensor& q = event.quantized;
  const TensorView& x = event.original;
  const std::int64_t rows = x.rows;
  const std::int64_t cols = x.cols;
  const FloatSource source = float_source(event.context, x, event.groups, q.spec, q.orientation);
  const std::vector<float> decoded = decoded_in_original_axes(q);

  std::vector<float> twice;  // D(Qc(D(Qr X)))
  if (row_spec != nullptr && q.orientation == Orientation::column) {
    QuantizerSpec first = *row_spec;
    first.hadamard = HadamardSpec{};
    const QuantizedTensor qr = quantize(event.context, x, event.groups, first, Orientation::row, event.site);
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
  std::vector<Leaf> leaves(static_cast<std::size_t>(listed * leaves_per_row));
  pool_.parallel_for(listed, [&](std::int64_t i) {
    const std::int64_t r = row_list[static_cast<std::size_t>(i)];
    const float* values = source.data + r * source.stride;
    const float* back = decoded.data() + r * cols;
    for (std::int64_t l = 0; l < leaves_per_row; ++l) {
      Leaf leaf;
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
      leaves[static_cast<std::size_t>(i * leaves_per_row + l)] = leaf;
    }
  });

  MeasureSums sums;
  std::vector<double> scratch;
  sums.count = static_cast<double>(listed * cols);
  sums.error2 = tree_sum(leaves, &Leaf::error2, scratch);
  sums.square = tree_sum(leaves, &Leaf::square, scratch);
  sums.decoded2 = tree_sum(leaves, &Leaf::decoded2, scratch);
  sums.product = tree_sum(leaves, &Leaf::product, scratch);
  sums.signed_error = tree_sum(leaves, &Leaf::signed_error, scratch);
  sums.absolute = tree_sum(leaves, &Leaf::absolute, scratch);
  sums.nonzero = static_cast<double>(count_sum(leaves, &Leaf::nonzero));
  sums.underflow = static_cast<double>(count_sum(leaves, &Leaf::underflow));
  sums.saturated = static_cast<double>(count_sum(leaves, &Leaf::saturated));
  for (const Leaf& leaf : leaves) {
    sums.max_abs_error = std::max(sums.max_abs_error, static_cast<double>(leaf.max_abs));
    sums.max_rel_error = std::max(sums.max_rel_error, static_cast<double>(leaf.max_rel));
  }
  if (!twice.empty()) {
    sums.double_error2 = tree_sum(leaves, &Leaf::double_error2, scratch);
    sums.double_total2 = tree_sum(leaves, &Leaf::double_total2, scratch);
    sums.single_total2 = tree_sum(leaves, &Leaf::single_total2, scratch);
    sums.double_changed = static_cast<double>(count_sum(leaves, &Leaf::changed));
  }
  add_scale_sums(q, measured, sums);
  return sums;
}

/// Per element of the original: largest element value times the tile's decode scale and the tensor's.
std::vector<float> CpuBackend::tile_limits(const QuantizedTensor& q, float largest) const {
  const bool row_form = q.orientation == Orientation::row;
  std::vector<float> limits(static_cast<std::size_t>(q.rows * q.cols));
  for_each_tile(
      q, [&](std::int64_t row0, std::int64_t row1, std::int64_t col0, std::int64_t col1, float scale, float tensor) {
        const float limit = q.spec.decode == DecodeOrder::te ? mul_rn(largest, te_decode_factor(scale, tensor))
                                                             : mul_rn(mul_rn(largest, scale), tensor);
        for (std::int64_t r = row0; r < row1; ++r)
          for (std::int64_t c = col0; c < col1; ++c)
            limits[static_cast<std::size_t>(row_form ? r * q.cols + c : c * q.rows + r)] = limit;
      });
  return limits;
}

/// Statistics of log2 of the stored scales that are finite and not zero, over tiles with a measured row.
void CpuBackend::add_scale_sums(const QuantizedTensor& q, const std::vector<std::uint8_t>& measured,
                                MeasureSums& sums) const {
  if (q.spec.scale_format == ScaleFormat::none) return;
  std::vector<double> logs;
  const bool row_form = q.orientation == Orientation::row;
  for_each_tile(q, [&](std::int64_t row0, std::int64_t row1, std::int64_t col0, std::int64_t col1, float scale, float) {
    const auto first = measured.begin() + (row_form ? row0 : col0);
    const auto last = measured.begin() + (row_form ? row1 : col1);
    if (std::find(first, last, std::uint8_t{1}) == last) return;
    if (scale > 0.0f && std::isfinite(scale)) logs.push_back(std::log2(static_cast<double>(scale)));
  });
  if (logs.empty()) return;
  sums.scale_count = static_cast<double>(logs.size());
  sums.scale_log2_min = *std::min_element(logs.begin(), logs.end());
  sums.scale_log2_max = *std::max_element(logs.begin(), logs.end());
  std::vector<double> partials(summation_leaves(logs.size()), 0.0);
  for (std::size_t i = 0; i < logs.size(); ++i) partials[i / kSummationLeaf] += logs[i];
  sums.scale_log2_sum = reduce_tree(partials.data(), partials.size());
}

/// Calls visit(row0, row1, col0, col1, scale, tensor scale) for every tile, in the axes of the quantized matrix. Under
/// `decode = te` the amax of the tensor stands in place of its scale.
void CpuBackend::for_each_tile(const QuantizedTensor& q, const TileVisitor& visit) const {
  const bool row_form = q.orientation == Orientation::row;
  const std::int64_t original_rows = row_form ? q.rows : q.cols;
  for (std::int64_t g = 0; g < q.groups.count(); ++g) {
    const std::int64_t begin = q.groups.begin(g, original_rows);
    const std::int64_t end = q.groups.end(g, original_rows);
    const std::int64_t offset = q.tile_offsets[static_cast<std::size_t>(g)];
    const float* tensors = (q.spec.decode == DecodeOrder::te ? q.tensor_amaxes : q.tensor_scales).as<float>();
    const float tensor = q.has_tensor_scale() ? tensors[g] : 1.0f;
    const std::int64_t row0 = row_form ? begin : 0;
    const std::int64_t rows = row_form ? end - begin : q.rows;
    const std::int64_t col0 = row_form ? 0 : begin;
    const std::int64_t cols = row_form ? q.cols : end - begin;
    const std::int64_t height = q.spec.tile_rows == 0 ? std::max<std::int64_t>(rows, 1) : q.spec.tile_rows;
    const std::int64_t width = q.spec.tile_cols == 0 ? std::max<std::int64_t>(cols, 1) : q.spec.tile_cols;
    for (std::int64_t i = 0; i * height < rows; ++i) {
      for (std::int64_t j = 0; j * width < cols; ++j) {
        const std::int64_t at = (i + (row_form ? offset : 0)) * q.scale_cols + j + (row_form ? 0 : offset);
        const float scale = q.spec.scale_format == ScaleFormat::f32
                                ? q.scales.as<float>()[at]
                                : stored_scale_value(q.spec.scale_format, q.scales.as<std::uint8_t>()[at]);
        visit(row0 + i * height, row0 + std::min(rows, (i + 1) * height), col0 + j * width,
              col0 + std::min(cols, (j + 1) * width), scale, tensor);
      }
    }
  }
}

}  // namespace ng::cpu
