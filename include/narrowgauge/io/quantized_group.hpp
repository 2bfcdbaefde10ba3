// SPDX-License-Identifier: Apache-2.0
//
// A quantized tensor as an HDF5 group: codes and scales as they lie on the original matrix, whichever axis tiles run
// along. Attributes quantizer, element, scale_format, rows, cols, tile_rows, tile_cols, axis, splits (of a transpose);
// datasets codes, codes_packed, scales, tensor_scale, tensor_amax, dequantized (of the codes alone); group residual
// (what an outlier split kept: row_pointers, columns, values, rows as quantized).
#pragma once

#include <optional>
#include <span>
#include <string>

#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/tensor/unpacked_tensor.hpp"

namespace ng {

/// What a group of the layout, or arrays that mean the same, say of a quantized tensor beside codes and scales. Empty
/// and 0: not said.
struct QuantizedLayout {
  std::string element;       ///< name of the element format; else the codes' own `format`
  std::string scale_format;  ///< none, e8m0, e4m3, f32; else the scales' own
  std::int64_t tile_rows = 0;
  std::int64_t tile_cols = 0;
  Orientation axis = Orientation::row;
  std::vector<std::int64_t> col_splits;
};

/// Codes (u8 or u16, one an entry) and scales as a tensor. UserError, naming the array: a code that the element does
/// not have, a wrong type or shape, a format that nothing names.
[[nodiscard]] UnpackedTensor quantized_from(const Array& codes, const Array* scales, const QuantizedLayout& layout);

/// Two 4-bit codes a byte, as `cols` codes a row. `first_low`: the even element is in the low nibble.
[[nodiscard]] Array unpacked_nibbles(const Array& packed, std::int64_t cols, bool first_low);

/// Reads the layout. Needed: codes (or codes_packed with cols), element, and with scales their format and the tile.
[[nodiscard]] UnpackedTensor read_quantized(const hdf5::Group& group);
/// The text of attribute `quantizer`, "" when it is not there.
[[nodiscard]] std::string quantizer_text_of(const hdf5::Group& group);

/// Writes the layout. `quantizer`: canonical JSON, "" to leave it out. `dequantized` may be empty. `packed` adds
/// codes_packed: the even element low, rows start at a byte.
void write_quantized(hdf5::Group& group, const UnpackedTensor& t, const std::string& quantizer,
                     std::span<const float> dequantized, bool packed);
/// Group residual, in the axes as quantized.
void write_residual(hdf5::Group& group, const SparseResidual& residual, Orientation axis);

}  // namespace ng
