// SPDX-License-Identifier: Apache-2.0
//
// Elements of views as a thread of a plain kernel sees them: f32 or bf16 as FP32, small integers.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"

namespace ng::cuda {

NG_HD float widen_bf16(std::uint16_t bits) {
  return float_of(static_cast<std::uint32_t>(bits) << 16);
}
NG_HD std::uint16_t bf16_of(float value) {
  return static_cast<std::uint16_t>(bits_of(round_to_bf16(value)) >> 16);
}

/// Element (r, c) of a view of f32 or bf16.
NG_HD float load_real(const TensorView& x, std::int64_t r, std::int64_t c) {
  const std::int64_t at = r * x.stride + c;
  return x.dtype == Dtype::f32 ? static_cast<const float*>(x.data)[at]
                               : widen_bf16(static_cast<const std::uint16_t*>(x.data)[at]);
}

/// Writes it, rounded once to the view's dtype.
NG_HD void store_real(const TensorView& x, std::int64_t r, std::int64_t c, float value) {
  const std::int64_t at = r * x.stride + c;
  if (x.dtype == Dtype::f32)
    static_cast<float*>(x.data)[at] = value;
  else
    static_cast<std::uint16_t*>(x.data)[at] = bf16_of(value);
}

/// A row of a view of f32 or bf16 in FP32, as the sums of row_sums.hpp read it.
struct RealRow {
  TensorView view;
  std::int64_t row;
  NG_HD float operator[](std::int64_t c) const { return load_real(view, row, c); }
};

/// Element `index`, in row-major order, of a view of integers.
NG_HD std::int64_t load_integer(const TensorView& x, std::int64_t index) {
  const std::int64_t at = index / x.cols * x.stride + index % x.cols;
  switch (x.dtype) {
    case Dtype::u8:
      return static_cast<const std::uint8_t*>(x.data)[at];
    case Dtype::u16:
      return static_cast<const std::uint16_t*>(x.data)[at];
    case Dtype::u32:
      return static_cast<const std::uint32_t*>(x.data)[at];
    case Dtype::i32:
      return static_cast<const std::int32_t*>(x.data)[at];
    default:
      return static_cast<const std::int64_t*>(x.data)[at];
  }
}

/// Logical row of row r of a view (see Placement).
NG_HD std::int64_t logical_row_of(const Placement& p, std::int64_t r) {
  return p.row_ids != nullptr ? p.row_ids[r] : p.row0 + r;
}

}  // namespace ng::cuda
