// SPDX-License-Identifier: Apache-2.0
//
// What the stored scales and codes of a quantized form say: their statistics and places, the gap between scales along
// rows and along columns, what a scaling-aware transpose would lose, how often each code occurs.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu_backend.hpp"
#include "cpu_decode.hpp"
#include "narrowgauge/backend/scaled_tiles.hpp"
#include "narrowgauge/numerics/summation_order.hpp"
#include "narrowgauge/quantize/measure_terms.hpp"
#include "narrowgauge/quantize/transpose.hpp"

namespace ng::cpu {

namespace {

/// Calls visit(ScaledTile) for every tile.
template <class Visit>
void for_each_tile(const QuantizedTensor& q, const Visit& visit) {
  ng::for_each_tile(q, q.scales.data.get(), q.has_tensor_scale() ? q.tensor_scales.as<float>() : nullptr, visit);
}

std::uint8_t stored_code(const QuantizedTensor& q, std::int64_t row, std::int64_t col) {
  return static_cast<std::uint8_t>(
      load_code(q.codes.as<std::uint8_t>() + row * q.row_bytes, q.storage, static_cast<std::size_t>(col)));
}

}  // namespace

/// Per element of the original: largest element value times the tile's decode scale and the tensor's.
std::vector<float> CpuBackend::tile_limits(const QuantizedTensor& q) const {
  const bool row_form = q.orientation == Orientation::row;
  std::vector<float> limits(static_cast<std::size_t>(q.rows * q.cols));
  for_each_tile(q, [&](const ScaledTile& tile) {
    const float amax = q.spec.decode == DecodeOrder::te ? q.tensor_amaxes.as<float>()[tile.group] : 0.0f;
    const float limit = block_limit(q.spec, tile.scale, tile.tensor_scale, amax);
    for (std::int64_t r = tile.row0; r < tile.row1; ++r)
      for (std::int64_t c = tile.col0; c < tile.col1; ++c)
        limits[static_cast<std::size_t>(row_form ? r * q.cols + c : c * q.rows + r)] = limit;
  });
  return limits;
}

/// Statistics of log2 of the stored scales that are finite and not zero, over tiles with a measured row; and all of
/// these tiles' scales, if they are to be listed.
void CpuBackend::measure_scales(const QuantizationEvent& event, const std::vector<std::uint8_t>& measured, bool list,
                                Measurement& result) const {
  const QuantizedTensor& q = event.quantized;
  if (q.spec.scale_format == ScaleFormat::none) return;
  MeasureSums& sums = result.sums;
  float smallest = 0, largest = 0;
  for_each_measured_tile(q, q.scales.data.get(), measured, [&](const ScaledTile& tile) {
    if (has_log(tile.scale)) {
      smallest = sums.scale_count == 0 ? tile.scale : std::min(smallest, tile.scale);
      largest = std::max(largest, tile.scale);
      sums.scale_log2_sum += log2_rn(static_cast<double>(tile.scale));
      sums.scale_count += 1;
    }
    if (list) result.scales.push_back(placed_scale(q, tile, event.original.placement));
  });
  if (sums.scale_count == 0) return;
  sums.scale_log2_min = log2_rn(static_cast<double>(smallest));
  sums.scale_log2_max = log2_rn(static_cast<double>(largest));
}

/// Over measured elements whose scales are finite and not zero in both; decode scales, that of the tensor included.
void CpuBackend::measure_scale_gap(const QuantizedTensor& columns, const QuantizedTensor& rows,
                                   const std::vector<std::uint8_t>& measured, MeasureSums& sums) const {
  const std::int64_t height = rows.rows, width = rows.cols;
  const auto logs_of = [&](const QuantizedTensor& q) {
    std::vector<double> logs(static_cast<std::size_t>(height * width), std::nan(""));
    const bool row_form = q.orientation == Orientation::row;
    for_each_tile(q, [&](const ScaledTile& tile) {
      const double log = scale_log(tile.scale, tile.tensor_scale);
      for (std::int64_t r = tile.row0; r < tile.row1; ++r)
        for (std::int64_t c = tile.col0; c < tile.col1; ++c)
          logs[static_cast<std::size_t>(row_form ? r * width + c : c * width + r)] = log;
    });
    return logs;
  };
  if (rows.spec.scale_format == ScaleFormat::none || columns.spec.scale_format == ScaleFormat::none) return;
  const std::vector<double> along_rows = logs_of(rows), along_columns = logs_of(columns);
  std::vector<double> leaves;
  for (std::int64_t r = 0; r < height; ++r) {
    if (measured[static_cast<std::size_t>(r)] == 0) continue;
    leaves.assign(summation_leaves(static_cast<std::size_t>(width)), 0.0);
    for (std::int64_t c = 0; c < width; ++c) {
      const auto i = static_cast<std::size_t>(r * width + c);
      const double gap = scale_gap(along_rows[i], along_columns[i]);
      if (std::isnan(gap)) continue;
      leaves[static_cast<std::size_t>(c) / kSummationLeaf] += gap;
      sums.gap_count += 1;
    }
    sums.gap += reduce_tree(leaves.data(), leaves.size());
  }
}

/// `decoded`: of `q`, as it lies. Blocks restart at every group, as tiles do.
void CpuBackend::measure_transposes(const QuantizedTensor& q, const std::vector<float>& decoded,
                                    const std::vector<std::uint8_t>& measured, MeasureSums& sums) const {
  if (!can_be_transposed(q.spec)) return;
  const ElementTable& table = element_table(q.spec.element_id);
  const std::int64_t tile = q.spec.tile_cols;
  const std::int64_t tiles = tile_count(q.cols, tile);
  std::vector<float> scales(static_cast<std::size_t>(q.rows * tiles));  // by row and tile
  for_each_tile(
      q, [&](const ScaledTile& t) { scales[static_cast<std::size_t>(t.row0 * tiles + t.col0 / tile)] = t.scale; });
  const auto scale_at = [&](std::int64_t r, std::int64_t t) { return scales[static_cast<std::size_t>(r * tiles + t)]; };
  std::vector<double> exact(static_cast<std::size_t>(q.rows)), published(exact);  // squares of each row
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(tile * tile));
  for (std::int64_t g = 0; g < q.groups.count(); ++g) {
    const std::int64_t end = q.groups.end(g, q.rows);
    for (std::int64_t row0 = q.groups.begin(g, q.rows); row0 < end; row0 += tile) {
      const std::int64_t rows = std::min(tile, end - row0);
      for (std::int64_t t = 0; t < tiles; ++t) {
        const std::int64_t col0 = t * tile, cols = std::min(tile, q.cols - col0);
        bool powers = true;
        for (std::int64_t r = row0; r < row0 + rows; ++r) powers = powers && is_power_of_two(scale_at(r, t));
        if (!powers) continue;  // a block with a NaN in it
        for (const TransposeMethod method : {TransposeMethod::exact, TransposeMethod::published}) {
          const std::int64_t from = transpose_block(
              method, q.spec.element, rows, cols,
              [&](std::int64_t r, std::int64_t c) -> std::uint32_t { return stored_code(q, row0 + r, col0 + c); },
              [&](std::int64_t r) { return exponent_of_bits(bits_of(scale_at(row0 + r, t))); },
              [&](std::int64_t r, std::int64_t c, std::uint32_t code) {
                codes[static_cast<std::size_t>(r * tile + c)] = static_cast<std::uint8_t>(code);
              });
          std::vector<double>& squares = method == TransposeMethod::exact ? exact : published;
          for (std::int64_t r = 0; r < rows; ++r) {
            double sum = 0;
            for (std::int64_t c = 0; c < cols; ++c) {
              const float turned =
                  decoded_product(table.value[codes[static_cast<std::size_t>(r * tile + c)]], scale_at(row0 + from, t));
              const double error =
                  static_cast<double>(turned) -
                  static_cast<double>(decoded[static_cast<std::size_t>((row0 + r) * q.cols + col0 + c)]);
              sum += error * error;
            }
            squares[static_cast<std::size_t>(row0 + r)] += sum;
          }
        }
        for (std::int64_t r = row0; r < row0 + rows; ++r)
          if (measured[static_cast<std::size_t>(r)] != 0) sums.transpose_count += static_cast<double>(cols);
      }
    }
  }
  for (std::int64_t r = 0; r < q.rows; ++r) {
    if (measured[static_cast<std::size_t>(r)] == 0) continue;
    sums.transpose2 += exact[static_cast<std::size_t>(r)];
    sums.transpose_published2 += published[static_cast<std::size_t>(r)];
  }
}

/// How often each code occurs in measured rows of the original.
std::vector<std::int64_t> CpuBackend::code_counts(const QuantizedTensor& q,
                                                  const std::vector<std::uint8_t>& measured) const {
  std::vector<std::int64_t> counts(std::size_t{1} << bit_count(q.spec.element), 0);
  const bool row_form = q.orientation == Orientation::row;
  for (std::int64_t r = 0; r < q.rows; ++r) {
    const std::uint8_t* row = q.codes.as<std::uint8_t>() + r * q.row_bytes;
    for (std::int64_t c = 0; c < q.cols; ++c)
      if (measured[static_cast<std::size_t>(row_form ? r : c)] != 0)
        ++counts[load_code(row, q.storage, static_cast<std::size_t>(c))];
  }
  return counts;
}

}  // namespace ng::cpu
