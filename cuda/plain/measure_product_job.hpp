// SPDX-License-Identifier: Apache-2.0
//
// Sampled elements of a product as plain data: rows of operands gathered as FP32 matrices, and exact sums of their
// products. Pointers are memory of the device.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/sum_limbs.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"
#include "plain/quantize_job.hpp"

namespace ng::cuda {

/// Columns [first, first + count) of a row of an operand, along its contraction axis.
struct OperandPiece {
  std::int64_t row, first, count;
};

/// Gathers pieces [pieces, width]; what lies behind a piece is not written.
struct GatherJob {
  DequantizeJob coded{};  ///< with `coded.codes`: their values times block scales, no tensor scales
  TensorView x{};         ///< else f32 or bf16 elements,
  Orientation orientation = Orientation::row;  ///< whose columns are the rows of a column form
  const OperandPiece* pieces = nullptr;
  std::int64_t count = 0;
  std::int64_t width = 0;
  float* to = nullptr;
};

/// Transforms gathered pieces where they lie; they begin where groups of the transform do.
struct TransformJob {
  HadamardSpec hadamard{};
  HadamardSignMask signs{};
  const OperandPiece* pieces = nullptr;
  std::int64_t count = 0;
  std::int64_t width = 0;
  float* data = nullptr;
};

/// Elements (i, j): rows i of A's pieces with rows b_piece[i] + j of B's.
struct ProductSumsJob {
  const float* a[4] = {};  ///< of each pair, see ProductSamples::Pair
  const float* b[4] = {};
  const OperandPiece* a_pieces = nullptr;
  const std::int64_t* b_piece = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t width = 0;
  SumLimbs* sums = nullptr;  ///< [rows, columns, pairs], zero at the start
};

/// given[i, j] = out[rows[i], columns[j]].
struct GivenJob {
  TensorView out{};
  const std::int64_t* rows = nullptr;
  const std::int64_t* columns = nullptr;
  std::int64_t row_count = 0;
  std::int64_t column_count = 0;
  float* given = nullptr;
};

}  // namespace ng::cuda
