// SPDX-License-Identifier: Apache-2.0
//
// One quantization, or one dequantization, as plain data: everything a kernel needs, passed by value. Pointers are memory
// of the device. "Original axes" are those of the tensor that is quantized; a column form is its transpose.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/counter_rng.hpp"
#include "narrowgauge/numerics/gemm_spec.hpp"
#include "narrowgauge/numerics/packing.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"

namespace ng::cuda {

/// Rows [begin, end) of the original are one group; its tiles along the rows start at number first_tile.
struct GroupExtent {
  std::int64_t begin;
  std::int64_t end;
  std::int64_t first_tile;
};

struct QuantizeJob {
  QuantizerSpec spec{};
  Orientation orientation = Orientation::row;
  CodeStorage storage = CodeStorage::byte;

  const void* source = nullptr;  ///< float, or BF16 as uint16: the launcher's template argument says which
  std::int64_t rows = 0;         ///< original axes
  std::int64_t cols = 0;
  std::int64_t stride = 0;       ///< elements from row to row
  const GroupExtent* groups = nullptr;
  std::int64_t group_count = 0;

  std::int64_t tile_height = 0;  ///< original axes; 0 = the whole extent (of the group, along the rows)
  std::int64_t tile_width = 0;
  std::int64_t row_tiles = 0;    ///< of all groups
  std::int64_t col_tiles = 0;

  RandomStream stream{};         ///< stochastic rounding; an element's number is logical row * logical_cols + column
  std::int64_t logical_cols = 0;
  std::int64_t logical_row0 = 0;
  std::int64_t logical_col0 = 0;
  const std::int64_t* row_ids = nullptr;  ///< logical row of each row, negative for padding (draws 0); overrides row0

  HadamardSignMask signs{};
  float* transformed = nullptr;  ///< [rows, cols] workspace of the Hadamard transform

  std::uint32_t* tile_amax = nullptr;   ///< [row_tiles, col_tiles] workspace, zero at the start
  std::uint32_t* group_amax = nullptr;  ///< [groups] workspace, zero at the start, or the known amax of each group
  TensorScale* tensor = nullptr;        ///< [groups] workspace
  TileScale* tiles = nullptr;           ///< [row_tiles, col_tiles] workspace
  unsigned long long* nan_inputs = nullptr;  ///< zero at the start; counted where the spec forbids NaN

  std::uint8_t* codes = nullptr;  ///< [rows or cols, row_bytes]
  std::int64_t row_bytes = 0;
  void* scales = nullptr;         ///< float or uint8 [.., scale_cols]
  std::int64_t scale_cols = 0;
  float* tensor_scales = nullptr;  ///< [groups] decode scales of two-level formats
  float* tensor_amaxes = nullptr;  ///< [groups] what they follow from, or nullptr
};

struct DequantizeJob {
  QuantizerSpec spec{};
  Orientation orientation = Orientation::row;
  CodeStorage storage = CodeStorage::byte;
  std::int64_t rows = 0;  ///< as quantized
  std::int64_t cols = 0;
  const GroupExtent* groups = nullptr;
  std::int64_t group_count = 0;
  const std::uint8_t* codes = nullptr;
  std::int64_t row_bytes = 0;
  const void* scales = nullptr;
  std::int64_t scale_cols = 0;
  const float* tensor_scales = nullptr;  ///< or nullptr
  const float* tensor_amaxes = nullptr;  ///< with `decode = te`
  void* out = nullptr;                   ///< float, or BF16 as uint16
  std::int64_t out_stride = 0;
};

}  // namespace ng::cuda
