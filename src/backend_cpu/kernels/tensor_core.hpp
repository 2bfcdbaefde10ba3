// SPDX-License-Identifier: Apache-2.0
//
// Packed operands of the tensor-core model's fast path. Rows of A stand alone; rows of B are packed sixteen to a panel,
// k by k. A zero has exponent kZeroOperand. Included by kernel files that are compiled once per instruction set.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/tensor_core_product.hpp"

namespace ng::cpu {

constexpr std::int64_t kPanelCols = 16;
constexpr std::int16_t kZeroOperand = -4096;

/// Products of the fast path have exponents in [kLeastProductExponent, kLargestProductExponent] or are zero: then FP32
/// holds products and grids without rounding, and no accumulator becomes subnormal or overflows.
constexpr int kLeastProductExponent = -100;
constexpr int kLargestProductExponent = 90;

/// What decides whether a row may take the fast path with another.
struct OperandRange {
  std::int32_t least = 32767;  ///< exponents of the numbers that are not zero
  std::int32_t largest = -32768;
  bool special = false;  ///< a NaN or an infinity is among them
};

constexpr bool takes_fast_path(const OperandRange& a, const OperandRange& b) {
  if (a.special || b.special) return false;
  if (a.least > a.largest || b.least > b.largest) return true;  // all zero
  return a.least + b.least >= kLeastProductExponent && a.largest + b.largest <= kLargestProductExponent;
}

/// `steps` steps of the accumulator for each of `rows` rows of A and the sixteen of a panel.
struct TensorCoreBlock {
  const float* a;                    ///< [rows, a_stride]
  const std::uint32_t* a_exponents;  ///< the same shape, each an int16 twice
  std::int64_t a_stride;
  const float* b;                   ///< [k][16]
  const std::int16_t* b_exponents;  ///< [k][16]
  std::int64_t rows;
  std::int64_t steps;
  int terms;  ///< L
  int fraction_bits;
  int significand_bits;
  float* c;  ///< [rows][16], in and out
};

}  // namespace ng::cpu
