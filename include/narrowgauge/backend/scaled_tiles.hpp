// SPDX-License-Identifier: Apache-2.0
//
// The tiles of a quantized matrix with their scales, and scales as lists with places. For the host: scales, tensor
// scales and row ids are given where they can be read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "narrowgauge/backend/measurement.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/tensor/quantized_tensor.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"

namespace ng {

/// Rows [row0, row1) and columns [col0, col1) of a quantized matrix, in its axes, that share a scale.
struct ScaledTile {
  std::int64_t row0, row1, col0, col1, group;
  float scale, tensor_scale;
};

/// Calls visit(ScaledTile) for every tile. `scales` as q.scales, `tensor_scales` as q.tensor_scales, or nullptr: 1.
template <class Visit>
void for_each_tile(const QuantizedTensor& q, const void* scales, const float* tensor_scales, const Visit& visit) {
  const bool row_form = q.orientation == Orientation::row;
  const std::int64_t original_rows = row_form ? q.rows : q.cols;
  for (std::int64_t g = 0; g < q.groups.count(); ++g) {
    const std::int64_t begin = q.groups.begin(g, original_rows);
    const std::int64_t end = q.groups.end(g, original_rows);
    const std::int64_t offset = q.tile_offsets[static_cast<std::size_t>(g)];
    const float tensor = tensor_scales != nullptr ? tensor_scales[g] : 1.0f;
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
                                ? static_cast<const float*>(scales)[at]
                                : stored_scale_value(q.spec.scale_format, static_cast<const std::uint8_t*>(scales)[at]);
        visit(ScaledTile{row0 + i * height, row0 + std::min(rows, (i + 1) * height), col0 + j * width,
                         col0 + std::min(cols, (j + 1) * width), g, scale, tensor});
      }
    }
  }
}

/// Calls visit(tile) for every tile with a measured row. `measured`: of each row of the original, 1 if it is; empty:
/// all are.
template <class Visit>
void for_each_measured_tile(const QuantizedTensor& q, const void* scales, const std::vector<std::uint8_t>& measured,
                            const Visit& visit) {
  const bool row_form = q.orientation == Orientation::row;
  for_each_tile(q, scales, nullptr, [&](const ScaledTile& tile) {
    const std::int64_t first = row_form ? tile.row0 : tile.col0;
    const std::int64_t last = row_form ? tile.row1 : tile.col1;
    const auto end = measured.begin() + (measured.empty() ? 0 : last);
    if (measured.empty() || std::find(measured.begin() + first, end, std::uint8_t{1}) != end) visit(tile);
  });
}

/// The scale of a measured tile with its place; `at`: of the original.
inline PlacedScale placed_scale(const QuantizedTensor& q, const ScaledTile& tile, const Placement& at) {
  const bool row_form = q.orientation == Orientation::row;
  const std::int64_t first = row_form ? tile.row0 : tile.col0;
  const std::int64_t last = row_form ? tile.row1 : tile.col1;
  const std::int64_t col0 = at.col0 + (row_form ? tile.col0 : tile.row0);
  const bool together = at.row_ids == nullptr || last - first == 1;
  return {together ? logical_row(at, first) * at.cols + col0 : -1, tile.scale};
}

}  // namespace ng
