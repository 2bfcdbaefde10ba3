// SPDX-License-Identifier: Apache-2.0
//
// A matrix in memory and where it lies in the logical tensor of the whole step. Tensors of more axes are matrices whose
// leading axes are folded into rows. Views own nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "narrowgauge/tensor/dtype.hpp"

namespace ng {

/// Position of a view in its logical tensor: the whole global batch of the step, unsharded, over all micro-batches.
/// Random draws and sharding read this, never the layout in memory.
struct Placement {
  std::int64_t rows = 0;  ///< extents of the logical tensor
  std::int64_t cols = 0;
  std::int64_t row0 = 0;  ///< logical position of the view's first element
  std::int64_t col0 = 0;
  /// Logical row of each row of the view (same memory as the data); overrides row0. Padding rows have ids outside
  /// [0, rows): at least `rows`, where they have random draws of their own, or negative, where all draws are 0.
  const std::int64_t* row_ids = nullptr;
};

/// Whether an id of `row_ids` is that of a padding row.
inline bool is_padding_row(const Placement& p, std::int64_t id) {
  return id < 0 || id >= p.rows;
}

/// [rows, cols] elements, rows `stride` elements apart.
struct TensorView {
  void* data = nullptr;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;
  Placement placement{};

  std::int64_t count() const { return rows * cols; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  std::byte* row(std::int64_t r) const {
    return static_cast<std::byte*>(data) + static_cast<std::size_t>(r * stride) * size_of(dtype);
  }
};

/// Logical row of row r of a view.
inline std::int64_t logical_row(const Placement& p, std::int64_t r) {
  return p.row_ids != nullptr ? p.row_ids[r] : p.row0 + r;
}

/// Rows [first, first + count) of a view.
inline TensorView row_slice(const TensorView& v, std::int64_t first, std::int64_t count) {
  TensorView slice = v;
  slice.data = v.row(first);
  slice.rows = count;
  slice.placement.row0 += first;
  if (slice.placement.row_ids != nullptr) slice.placement.row_ids += first;
  return slice;
}

/// Columns [first, first + count) of a view.
inline TensorView col_slice(const TensorView& v, std::int64_t first, std::int64_t count) {
  TensorView slice = v;
  slice.data = static_cast<std::byte*>(v.data) + static_cast<std::size_t>(first) * size_of(v.dtype);
  slice.cols = count;
  slice.placement.col0 += first;
  return slice;
}

}  // namespace ng
