// SPDX-License-Identifier: Apache-2.0
//
// One product of a linear layer, its operands made in a backend's memory from a seed, for the tests of products.
#pragma once

#include "operations/quantized.hpp"

namespace ng_test {

/// Rows of activations [rows, in], weights [experts * out, in].
struct Shape {
  std::int64_t rows, in, out;
  ng::RowGroups groups;  ///< of the rows; empty: one matrix
  std::int64_t padding;  ///< unused elements behind each row of every plain tensor
};

/// How a case's numbers and output are chosen.
struct Choice {
  Values values;
  ng::Dtype out;
  bool accumulate;
  std::uint32_t seed;
};

[[nodiscard]] ng::OperandSpec quantized(const ng::QuantizerSpec& quantizer);
[[nodiscard]] ng::OperandSpec plain(ng::OperandKind kind);

/// The product's output, and the carrier losses so far.
[[nodiscard]] Outputs multiply(ng::Backend& backend, const Shape& shape, const ng::GemmSpec& spec, ng::Gemm gemm,
                               const Choice& choice);

}  // namespace ng_test
