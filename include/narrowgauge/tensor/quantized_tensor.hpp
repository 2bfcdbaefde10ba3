// SPDX-License-Identifier: Apache-2.0
//
// A quantized matrix: packed codes, scales per tile, one tensor scale per group. Codes are the tensor; decoded values
// are derived when a product needs them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "narrowgauge/numerics/gemm_spec.hpp"
#include "narrowgauge/numerics/packing.hpp"
#include "narrowgauge/tensor/storage.hpp"

namespace ng {

/// Groups of rows of a tensor (experts): group g holds rows [offsets[g], offsets[g+1]). Empty offsets: one group.
/// Tiles restart at every group.
struct RowGroups {
  std::vector<std::int64_t> offsets;

  std::int64_t count() const { return offsets.empty() ? 1 : static_cast<std::int64_t>(offsets.size()) - 1; }
  std::int64_t begin(std::int64_t g, std::int64_t /*rows*/) const {
    return offsets.empty() ? 0 : offsets[static_cast<std::size_t>(g)];
  }
  std::int64_t end(std::int64_t g, std::int64_t rows) const {
    return offsets.empty() ? rows : offsets[static_cast<std::size_t>(g) + 1];
  }
};

/// Few entries of a matrix, row after row, columns ascending: what an outlier split took from the elements it clamped.
struct SparseResidual {
  FormatId format = FormatId::bf16;  ///< of the values
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t count = 0;
  Buffer row_pointers;  ///< int64 [rows + 1]: entries of row r are [row_pointers[r], row_pointers[r + 1])
  Buffer columns;       ///< int32 [count]
  Buffer values;        ///< codes of `format` [count], uint16 (bf16) or uint8

  std::uint32_t code(std::int64_t i) const {
    return format == FormatId::bf16 ? values.as<std::uint16_t>()[i] : values.as<std::uint8_t>()[i];
  }
};

/// `rows` x `cols` is the shape as quantized: of the transposed tensor when `orientation` is column. The grouped axis
/// is the rows of the original tensor: rows of a row form, columns of a column form.
struct QuantizedTensor {
  QuantizerSpec spec{};
  Orientation orientation = Orientation::row;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  RowGroups groups;
  std::vector<std::int64_t> tile_offsets;  ///< first tile of each group along the grouped axis; last entry: the total

  Buffer codes;  ///< rows of packed_row_bytes(storage, cols)
  CodeStorage storage = CodeStorage::byte;
  std::int64_t row_bytes = 0;

  Buffer scales;  ///< [scale_rows, scale_cols], uint8 (E8M0, E4M3) or float; absent for a bare cast
  std::int64_t scale_rows = 0;
  std::int64_t scale_cols = 0;

  Buffer tensor_scales;  ///< float [groups]: decode scales D; present for two-level formats
  Buffer tensor_amaxes;  ///< float [groups]: amax that the tensor scales follow from; present where spec.decode is `te`
  /// Present where spec.outlier keeps one; in the axes as quantized. Codes hold the clamped part alone.
  std::shared_ptr<const SparseResidual> residual;
  std::int64_t nan_inputs = 0;  ///< NaN seen where NanChoice::error forbids it

  std::int64_t tile_rows() const { return spec.tile_rows; }
  bool has_tensor_scale() const { return tensor_scales.data != nullptr; }
};

}  // namespace ng
