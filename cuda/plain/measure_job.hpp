// SPDX-License-Identifier: Apache-2.0
//
// One measurement as plain data: everything its kernels need, passed by value. Pointers are memory of the device; rows
// and columns are those of the original. What the kernels find gathers in one MeasureTotals.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/sum_limbs.hpp"
#include "narrowgauge/numerics/summation_order.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"
#include "plain/quantize_job.hpp"

namespace ng::cuda {

/// The sums of a measurement: all but the last of rows of the original, the last of scales.
enum class MeasuredSum : std::uint8_t {
  error2,
  square,
  decoded2,
  product,
  signed_error,
  absolute,
  double_error2,
  double_total2,
  gap,
  transpose2,
  transpose_published2,
  scale_log2,
};
constexpr int kMeasuredSums = 12;
constexpr int kErrorSums = 6;      ///< error2 ... absolute
constexpr int kDoubleSums = 2;     ///< double_error2, double_total2
constexpr int kTransposeSums = 2;  ///< transpose2, transpose_published2

/// Zero bytes are a measurement of nothing.
struct MeasureTotals {
  SumLimbs sums[kMeasuredSums];
  unsigned long long rows;  ///< measured ones
  unsigned long long nonzero, underflow, saturated, changed, gap_count, transpose_count, scale_count;
  unsigned long long scale_codes[256];  ///< one-byte scales of tiles with a measured row
  std::uint32_t max_abs, max_rel;       ///< FP32 bits
  std::uint32_t largest_scale;          ///< FP32 bits, of those that have logarithms
  std::uint32_t smallest_scale;         ///< their complement
};

/// What rows add to sums: [sums, rows, nodes] doubles, the nodes of one level of each row's summation tree.
struct RowPartials {
  double* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t nodes = 0;
  const std::uint8_t* measured = nullptr;  ///< [rows] 1 for rows that count; nullptr: all do

  NG_HD double* of(int sum, std::int64_t row) const { return data + (sum * rows + row) * nodes; }
  NG_HD bool counts(std::int64_t row) const { return measured == nullptr || measured[row] != 0; }
};

struct MeasureJob {
  DequantizeJob coded{};           ///< the quantized form
  const float* decoded = nullptr;  ///< its values, [coded.rows, coded.cols]; nullptr: as the codes say
  TensorView x{};                  ///< f32 or bf16: what the quantizer was given
  RowPartials partials{};
  MeasureTotals* totals = nullptr;
};

/// How often codes occur in a matrix [rows, cols] of packed codes.
struct CountJob {
  const std::uint8_t* codes = nullptr;
  CodeStorage storage = CodeStorage::byte;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_bytes = 0;
  const std::uint8_t* counted_rows = nullptr;  ///< 1 for those that count; nullptr: all do
  const std::uint8_t* counted_cols = nullptr;
  std::int64_t bins = 0;
  unsigned long long* counts = nullptr;  ///< [bins], added to
};

/// A form's scales, tile by tile.
struct ScaleJob {
  DequantizeJob coded{};
  std::int64_t scale_rows = 0;
  const std::uint8_t* counted = nullptr;  ///< of each tile along the rows of the original; nullptr: all count
  double* logs = nullptr;                 ///< [scale_rows, coded.scale_cols], see scale_log
  MeasureTotals* totals = nullptr;
};

/// The logarithms of the scales of two forms of one tensor.
struct GapJob {
  DequantizeJob row{};
  DequantizeJob column{};
  const double* row_logs = nullptr;
  const double* column_logs = nullptr;
  RowPartials partials{};
  std::int64_t cols = 0;
  MeasureTotals* totals = nullptr;
};

/// A scaling-aware transpose of a row form: blocks of `tile` rows, which restart at every group, by `tile` columns.
struct TransposeJob {
  DequantizeJob coded{};
  const float* decoded = nullptr;  ///< as in MeasureJob
  std::int64_t tile = 0;
  std::int64_t tiles = 0;            ///< across a row
  std::uint8_t* all_zero = nullptr;  ///< [rows, tiles]
  double* squares = nullptr;         ///< [kTransposeSums, rows, tiles]
  RowPartials partials{};            ///< one node a row
  MeasureTotals* totals = nullptr;
};

}  // namespace ng::cuda
