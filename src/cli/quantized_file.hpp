// SPDX-License-Identifier: Apache-2.0
//
// A quantized tensor as an HDF5 group: codes and scales as they lie on the original matrix, whichever axis tiles run
// along. Attributes quantizer, element, scale_format, rows, cols, tile_rows, tile_cols, axis; datasets codes, scales,
// tensor_scale, dequantized (of the codes alone); where an outlier split kept one, group residual: row_pointers,
// columns, values (codes, attribute dtype), rows as quantized. tensor_amax where decode = te.
#pragma once

#include <string>
#include <vector>

#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/tensor/quantized_tensor.hpp"

namespace ng::cli {

/// A quantized tensor in the axes of its original: one code per entry, scales per tile.
struct UnpackedTensor {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t tile_rows = 0;  ///< as laid on [rows, cols]; never 0
  std::int64_t tile_cols = 0;
  std::vector<std::uint16_t> codes;       ///< [rows, cols]
  std::vector<std::uint8_t> scale_codes;  ///< [ceil(rows / tile_rows), ceil(cols / tile_cols)], e8m0 and e4m3 scales
  std::vector<float> scale_values;        ///< the same shape, f32 scales
};

/// `q` has one group. Column forms are turned back.
[[nodiscard]] UnpackedTensor unpack(const QuantizedTensor& q);

/// Writes all of the layout but `measures`. `dequantized` is [rows, cols] of the original. `packed` adds codes_packed:
/// two 4-bit codes a byte, the even element low; rows start at a byte.
void write_quantized(hdf5::Group& group, const QuantizedTensor& q, const std::vector<float>& dequantized, bool packed);

}  // namespace ng::cli
