// SPDX-License-Identifier: Apache-2.0
//
// One block of a scaling-aware transpose, for host and device: which row's scale it takes, and its codes under it. See
// transpose.hpp. Source: numerics.md section 4; arXiv 2511.02302, Algorithm 1.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/quantize/shift_code.hpp"

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

}  // namespace ng
