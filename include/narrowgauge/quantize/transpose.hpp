// SPDX-License-Identifier: Apache-2.0
//
// Scaling-aware transpose: codes with power-of-two row scales, 1 x T a tile, to codes with column scales, T x T a
// block, without leaving the format. A block takes the largest of its rows' scales; each code's exponent drops by the
// distance to its own. Source: numerics.md section 4; arXiv 2511.02302, Algorithm 1.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "narrowgauge/quantize/transpose_block.hpp"
#include "narrowgauge/tensor/unpacked_tensor.hpp"

namespace ng {

/// log2 of scale `i`, which is a power of two.
inline int scale_exponent(const UnpackedTensor& t, std::size_t i) {
  if (t.scale_format == ScaleFormat::e8m0) return static_cast<int>(t.scale_codes[i]) - kE8m0Bias;
  return exponent_of_bits(bits_of(t.scale_values[i]));
}

/// `x`: tiles 1 x T along rows, scales f32 powers of two or e8m0 (not NaN). `splits`: extents of groups of rows, tiles
/// of the result restart at each; empty: one group. Returns [cols, rows], tiles 1 x T along its rows, the scale of a
/// T x T block repeated for each of its rows.
inline UnpackedTensor transpose(const UnpackedTensor& x, TransposeMethod method,
                                const std::vector<std::int64_t>& splits) {
  const ElementFormat f = format_of(x.element);
  const std::int64_t tile = x.tile_cols;
  UnpackedTensor y;
  y.element = x.element;
  y.scale_format = x.scale_format;
  y.rows = x.cols;
  y.cols = x.rows;
  y.tile_rows = 1;
  y.tile_cols = tile;
  y.col_splits = splits;
  y.codes.resize(x.codes.size());
  const std::size_t scales = static_cast<std::size_t>(y.scale_rows() * y.scale_cols());
  (x.scale_format == ScaleFormat::f32 ? y.scale_values.resize(scales) : y.scale_codes.resize(scales));
  const std::int64_t tiles_across = x.scale_cols();
  std::int64_t begin = 0, block = 0;
  for (const std::int64_t extent : splits.empty() ? std::vector<std::int64_t>{x.rows} : splits) {
    for (std::int64_t row0 = begin; row0 < begin + extent; row0 += tile, ++block) {
      const std::int64_t rows = std::min(tile, begin + extent - row0);
      for (std::int64_t t = 0; t < tiles_across; ++t) {
        const std::int64_t col0 = t * tile, cols = std::min(tile, x.cols - col0);
        const auto scale_at = [&](std::int64_t r) { return static_cast<std::size_t>((row0 + r) * tiles_across + t); };
        const std::int64_t from = transpose_block(
            method, f, rows, cols,
            [&](std::int64_t r, std::int64_t c) {
              return static_cast<std::uint32_t>(x.codes[static_cast<std::size_t>((row0 + r) * x.cols + col0 + c)]);
            },
            [&](std::int64_t r) { return scale_exponent(x, scale_at(r)); },
            [&](std::int64_t r, std::int64_t c, std::uint32_t code) {
              y.codes[static_cast<std::size_t>((col0 + c) * y.cols + row0 + r)] = static_cast<std::uint16_t>(code);
            });
        for (std::int64_t c = 0; c < cols; ++c) {
          const std::size_t to = static_cast<std::size_t>((col0 + c) * y.scale_cols() + block);
          if (x.scale_format == ScaleFormat::f32)
            y.scale_values[to] = x.scale_values[scale_at(from)];
          else
            y.scale_codes[to] = x.scale_codes[scale_at(from)];
        }
      }
    }
    begin += extent;
  }
  return y;
}

}  // namespace ng
