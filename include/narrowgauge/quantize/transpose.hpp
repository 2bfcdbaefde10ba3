// SPDX-License-Identifier: Apache-2.0
//
// Scaling-aware transpose: codes with power-of-two row scales, 1 x T a tile, to codes with column scales, T x T a
// block, without leaving the format. A block takes the largest of its rows' scales; each code's exponent drops by the
// distance to its own. Source: numerics.md section 4; arXiv 2511.02302, Algorithm 1.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/quantize/shift_code.hpp"
#include "narrowgauge/tensor/unpacked_tensor.hpp"

namespace ng {

/// `exact`: nearest even into the subnormals; rows of a block whose codes are all zero do not raise its scale, so that
/// padding changes nothing. `published`: the released kernel, which loses what underflows; every row's scale counts.
enum class TransposeMethod : std::uint8_t { exact, published };

/// Whether a stored scale is a power of two, and its exponent. FP32 subnormals count.
NG_HD constexpr bool is_power_of_two(float scale) {
  const std::uint32_t bits = bits_of(scale);
  if (bits == 0 || bits >= kInfinityBits) return false;
  return (significand_of_bits(bits) & 0x007fffffu) == 0;
}

NG_HD std::uint32_t transposed_code(TransposeMethod method, const ElementFormat& f, std::uint32_t code, int k) {
  return method == TransposeMethod::exact ? lowered_code(f, code, k) : lowered_code_published(f, code, k);
}

/// The row whose scale a block of `rows` >= 1 rows takes: the first of the largest. `exponent(r)` is log2 of row r's
/// scale, `all_zero(r)` whether its codes are.
template <class Exponent, class AllZero>
NG_HD std::int64_t transpose_scale_row(TransposeMethod method, std::int64_t rows, const Exponent& exponent,
                                       const AllZero& all_zero) {
  std::int64_t largest = -1;
  for (std::int64_t r = 0; r < rows; ++r) {
    if (largest >= 0 && exponent(r) <= exponent(largest)) continue;
    if (method == TransposeMethod::published || !all_zero(r)) largest = r;
  }
  if (largest >= 0) return largest;
  largest = 0;  // all zero: any scale is right
  for (std::int64_t r = 1; r < rows; ++r)
    if (exponent(r) > exponent(largest)) largest = r;
  return largest;
}

/// A code of a row under the scale of another one, whose exponent is `block_exponent`.
NG_HD std::uint32_t transposed_code(TransposeMethod method, const ElementFormat& f, std::uint32_t code, int exponent,
                                    int block_exponent) {
  const int k = block_exponent - exponent;
  return transposed_code(method, f, code, k > 0 ? k : 0);
}

/// One block of at most T rows: `code(r, c)` reads, `exponent(r)` is log2 of row r's scale, `store(r, c, code)` writes.
/// Returns the row whose scale the block takes. rows >= 1.
template <class Code, class Exponent, class Store>
NG_HD std::int64_t transpose_block(TransposeMethod method, const ElementFormat& f, std::int64_t rows, std::int64_t cols,
                                   const Code& code, const Exponent& exponent, const Store& store) {
  const std::int64_t from = transpose_scale_row(method, rows, exponent, [&](std::int64_t r) {
    for (std::int64_t c = 0; c < cols; ++c)
      if ((code(r, c) & magnitude_mask(f)) != 0) return false;
    return true;
  });
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c)
      store(r, c, transposed_code(method, f, code(r, c), exponent(r), exponent(from)));
  return from;
}

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
