// SPDX-License-Identifier: Apache-2.0
//
// Conversions without a round trip, judged by numbers: every code is decoded to its exact value, moved by its scales
// in double, and searched for in the other format's table. std only; tests/oracle/formats.hpp has the tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ng_oracle {

/// Codes [rows, cols] and the exponents of power-of-two scales, one per tile.
struct Pow2Tensor {
  std::string element;
  std::size_t rows = 0, cols = 0, tile_rows = 1, tile_cols = 1;
  std::vector<std::uint32_t> codes;
  std::vector<int> exponents;  ///< [ceil(rows / tile_rows), ceil(cols / tile_cols)]
};

/// Scaling-aware transpose of tiles 1 x T: result [cols, rows], scales [cols, blocks of rows], which restart at every
/// split. `published`: as the released kernel computes it.
struct Transposed {
  std::vector<std::uint32_t> codes;
  std::vector<int> exponents;
  std::size_t scale_cols = 0;
};
Transposed scaling_aware_transpose(const Pow2Tensor& x, const std::vector<std::size_t>& splits, bool published);

/// Recoding to tiles on the same axes. `rule` ("floor" or "rceil"): blocks inside tiles, scales from their values;
/// empty: scales from the largest exponent of the touched blocks.
Pow2Tensor recode(const Pow2Tensor& x, const std::string& element, std::size_t tile_rows, std::size_t tile_cols,
                  const std::string& rule);

}  // namespace ng_oracle
