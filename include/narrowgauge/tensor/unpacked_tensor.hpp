// SPDX-License-Identifier: Apache-2.0
//
// A quantized matrix as people exchange it: one code an entry in the axes of the original, one scale a tile, on the
// host. What files hold and foreign kernels hand over; QuantizedTensor is the packed form that operations work on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/numerics/gemm_spec.hpp"
#include "narrowgauge/numerics/packing.hpp"
#include "narrowgauge/tensor/quantized_tensor.hpp"

namespace ng {

/// Codes [rows, cols]; scales [scale_rows, scale_cols] of tiles [tile_rows, tile_cols] laid on the matrix. Tiles along
/// the columns restart at every group of `col_splits` (rows of the tensor that this one is the transpose of).
struct UnpackedTensor {
  FormatId element = FormatId::e4m3;
  ScaleFormat scale_format = ScaleFormat::none;
  Orientation axis = Orientation::row;  ///< along which tiles run
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t tile_rows = 1;  ///< never 0
  std::int64_t tile_cols = 1;
  std::vector<std::int64_t> col_splits;   ///< extents of the groups, their sum is cols; empty: one group
  std::vector<std::uint16_t> codes;       ///< [rows, cols]
  std::vector<std::uint8_t> scale_codes;  ///< [scale_rows, scale_cols], e8m0 and e4m3 scales
  std::vector<float> scale_values;        ///< the same shape, f32 scales
  std::optional<float> tensor_scale;      ///< decode scale of a two-level format
  std::optional<float> tensor_amax;       ///< where the decoding needs it (decode = te)

  std::int64_t scale_rows() const { return tile_count(rows, tile_rows); }
  std::int64_t scale_cols() const {
    if (col_splits.empty()) return tile_count(cols, tile_cols);
    std::int64_t tiles = 0;
    for (const std::int64_t extent : col_splits) tiles += tile_count(extent, tile_cols);
    return tiles;
  }
  /// Column of scales of each column of codes.
  std::vector<std::int64_t> scale_col_of_col() const {
    std::vector<std::int64_t> index;
    index.reserve(static_cast<std::size_t>(cols));
    const std::vector<std::int64_t> whole = {cols};
    std::int64_t first = 0;
    for (const std::int64_t extent : col_splits.empty() ? whole : col_splits) {
      for (std::int64_t c = 0; c < extent; ++c) index.push_back(first + c / tile_cols);
      first += tile_count(extent, tile_cols);
    }
    return index;
  }
};

/// `from` [rows, cols], turned to [cols, rows] where asked.
template <class To, class From>
std::vector<To> copied_matrix(const From* from, std::int64_t rows, std::int64_t cols, bool turned) {
  std::vector<To> to(static_cast<std::size_t>(rows * cols));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c)
      to[static_cast<std::size_t>(turned ? c * rows + r : r * cols + c)] = static_cast<To>(from[r * cols + c]);
  return to;
}

/// `q`, which lies in host memory and has one group, in the axes of its original: column forms are turned back. A
/// residual of outliers is left out.
inline UnpackedTensor unpack(const QuantizedTensor& q) {
  NG_CHECK_EQ(q.groups.count(), 1);
  const bool turned = q.orientation == Orientation::column;
  UnpackedTensor t;
  t.element = q.spec.element_id;
  t.scale_format = q.spec.scale_format;
  t.axis = q.orientation;
  t.rows = turned ? q.cols : q.rows;
  t.cols = turned ? q.rows : q.cols;
  const std::int64_t across = q.spec.tile_rows == 0 ? std::max<std::int64_t>(q.rows, 1) : q.spec.tile_rows;
  const std::int64_t along = q.spec.tile_cols == 0 ? std::max<std::int64_t>(q.cols, 1) : q.spec.tile_cols;
  t.tile_rows = turned ? along : across;
  t.tile_cols = turned ? across : along;

  std::vector<std::uint16_t> codes(static_cast<std::size_t>(q.rows * q.cols));
  for (std::int64_t r = 0; r < q.rows; ++r) {
    const std::uint8_t* row = q.codes.as<std::uint8_t>() + r * q.row_bytes;
    for (std::int64_t c = 0; c < q.cols; ++c)
      codes[static_cast<std::size_t>(r * q.cols + c)] =
          static_cast<std::uint16_t>(load_code(row, q.storage, static_cast<std::size_t>(c)));
  }
  t.codes = copied_matrix<std::uint16_t>(codes.data(), q.rows, q.cols, turned);
  if (q.has_tensor_scale()) t.tensor_scale = q.tensor_scales.as<float>()[0];
  if (q.spec.decode == DecodeOrder::te) t.tensor_amax = q.tensor_amaxes.as<float>()[0];

  if (q.spec.scale_format == ScaleFormat::none) return t;
  NG_CHECK_EQ(turned ? q.scale_cols : q.scale_rows, t.scale_rows());
  NG_CHECK_EQ(turned ? q.scale_rows : q.scale_cols, t.scale_cols());
  if (q.spec.scale_format == ScaleFormat::f32)
    t.scale_values = copied_matrix<float>(q.scales.as<float>(), q.scale_rows, q.scale_cols, turned);
  else
    t.scale_codes = copied_matrix<std::uint8_t>(q.scales.as<std::uint8_t>(), q.scale_rows, q.scale_cols, turned);
  return t;
}

}  // namespace ng
