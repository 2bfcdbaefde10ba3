// SPDX-License-Identifier: Apache-2.0
//
// The operands of products: numbers as a chain or a tensor core takes them, copied from codes or from plain tensors,
// and the FP32 scales that stay outside (numerics/hopper_product.hpp says which).
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/gemm_spec.hpp"
#include "narrowgauge/numerics/packing.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"
#include "plain/operand_groups.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda {

/// What the copy holds. `f32`: the numbers. `f32_of_bf16`, `bf16`: numbers rounded to BF16. `fp8`: codes, E2M1's as
/// E4M3's.
enum class CarrierType : std::uint8_t { f32, f32_of_bf16, bf16, fp8 };

/// An operand [rows, depth]; the contraction runs along its rows.
struct CarrierJob {
  QuantizerSpec spec{};  ///< of codes
  CodeStorage storage = CodeStorage::byte;
  const std::uint8_t* codes = nullptr;  ///< or nullptr: `plain`
  std::int64_t row_bytes = 0;
  const void* scales = nullptr;
  std::int64_t scale_cols = 0;
  bool with_scales = false;  ///< numbers are code times block scale, one rounding
  TensorView plain{};        ///< f32 or bf16
  bool turned = false;       ///< the operand is the transpose of `plain`
  bool grouped_rows = true;  ///< groups are of rows; else of the depth
  OperandGroups groups{};    ///< place: first row or column of each group in the copy
  std::int64_t rows = 0;
  std::int64_t depth = 0;

  CarrierType type = CarrierType::f32;
  void* to = nullptr;  ///< [to_rows, to_stride]; zeros where the operand has nothing
  std::int64_t to_rows = 0;
  std::int64_t to_stride = 0;
  unsigned long long* losses = nullptr;  ///< finite numbers that BF16 changed are counted here
};

/// How outside scales lie within a group. `rows`: [row][block of 128 of k]. `blocks`: [block][row].
enum class ScaleLayout : std::uint8_t { rows, blocks };

/// The scales of one operand, group after group: groups of rows of place[g + 1] - place[g] rows and `blocks` blocks,
/// groups of the depth of `rows` rows and place[g + 1] - place[g] blocks. What lies beyond the operand gets 1.
struct OutsideScaleJob {
  QuantizerSpec spec{};
  const float* scales = nullptr;  ///< FP32 block scales
  std::int64_t scale_cols = 0;
  const float* tensor_scales = nullptr;  ///< one for each group, instead of block scales; neither: 1
  bool grouped_rows = true;
  OperandGroups groups{};
  std::int64_t operand_rows = 0;
  std::int64_t rows = 0;      ///< stored, where the depth is grouped
  std::int64_t row_step = 1;  ///< 128: a stored row is for 128 of the operand's
  std::int64_t blocks = 1;
  std::int64_t depth = 0;  ///< where rows are grouped
  ScaleLayout layout = ScaleLayout::rows;
  float* to = nullptr;

  /// Floats before group g.
  NG_HD std::int64_t before(std::int32_t g) const { return groups.place[g] * (grouped_rows ? blocks : rows); }
};

}  // namespace ng::cuda

namespace ng::cuda::plain {

void carry(const CarrierJob& job, Stream stream);
void outside_scales(const OutsideScaleJob& job, Stream stream);

}  // namespace ng::cuda::plain
