// SPDX-License-Identifier: Apache-2.0
//
// What a recipe resolves to, as plain data: for each of the three products of a linear layer, in which form each
// operand enters, and with which arithmetic the product is computed.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/numerics/gradient_estimator.hpp"

namespace ng {

/// Y = X W^T, dX = dY (W^T)^T, dW = dY^T (X^T)^T. Every product is D = A B^T over the last axis of both operands.
enum class Gemm : std::uint8_t { fprop, dgrad, wgrad };
constexpr int kGemmCount = 3;

enum class Operand : std::uint8_t { activation, weight, grad_output };
constexpr int kOperandCount = 3;

/// First operand A and second operand B of each product.
NG_HD constexpr Operand operand_a(Gemm gemm) {
  return gemm == Gemm::fprop ? Operand::activation : Operand::grad_output;
}
NG_HD constexpr Operand operand_b(Gemm gemm) {
  return gemm == Gemm::wgrad ? Operand::activation : Operand::weight;
}
NG_HD constexpr bool takes_part(Operand operand, Gemm gemm) {
  return operand == operand_a(gemm) || operand == operand_b(gemm);
}

/// `row`: as the tensor lies, tiles along its columns. `column`: the transposed tensor, tiles along the rows of the
/// original, which are then the contraction axis.
enum class Orientation : std::uint8_t { row, column };

/// fprop contracts over the columns of X and W; dgrad over the columns of dY and the rows of W; wgrad over the rows of
/// dY and X.
NG_HD constexpr Orientation orientation_of(Operand operand, Gemm gemm) {
  const bool column = gemm == Gemm::wgrad || (gemm == Gemm::dgrad && operand == Operand::weight);
  return column ? Orientation::column : Orientation::row;
}

enum class OperandKind : std::uint8_t { f32, bf16, quantized };

/// The tensor that a form is made from. `original`: the unquantized tensor. `fprop`: the fprop form of the same tensor,
/// decoded: and quantized again (`via = requantize`: double quantization on purpose), or used as it is (`via = direct`:
/// the operand is the decoded codes in BF16 or FP32). `saved`: what the backward pass finds (SavedKind::codes), decoded
/// and quantized again.
enum class FormSource : std::uint8_t { original, fprop, saved };

/// What is kept of a linear layer's input for the backward pass. `original`: its unquantized tensor or the form that
/// wgrad wants. `codes`: codes of a quantizer of their own; every reader of the backward pass sees their decoded
/// values. `recomputed`: nothing; codes of the output of the layer before it are kept (the input of SwiGLU), from which
/// the backward pass computes it again.
enum class SavedKind : std::uint8_t { original, codes, recomputed };

struct SavedSpec {
  SavedKind kind = SavedKind::original;
  QuantizerSpec quantizer{};

  friend constexpr bool operator==(const SavedSpec&, const SavedSpec&) = default;
};

/// Whether a form that is decoded codes has the residual of an outlier split added to it.
enum class DecodedResidual : std::uint8_t { dropped, added };

/// How one amax follows from those of earlier steps.
enum class AmaxReduce : std::uint8_t { max, most_recent };

/// Delayed scaling: scales follow from the amaxes of the last `history` steps, not of this one.
struct AmaxHistorySpec {
  std::int32_t history = 0;  ///< steps; 0: current scaling
  AmaxReduce reduce = AmaxReduce::max;

  friend constexpr bool operator==(const AmaxHistorySpec&, const AmaxHistorySpec&) = default;
};

struct OperandSpec {
  OperandKind kind = OperandKind::bf16;
  FormSource source = FormSource::original;
  QuantizerSpec quantizer{};
  DecodedResidual residual = DecodedResidual::dropped;  ///< of a plain form from fprop
  AmaxHistorySpec amax{};
  EstimatorSpec estimator{};  ///< of the weight in fprop: what its gradient is multiplied by

  friend constexpr bool operator==(const OperandSpec&, const OperandSpec&) = default;
};

/// What carries emulated operands through the product. Part of the experiment on tensor cores; FP32 products of exactly
/// decoded operands do not depend on it.
enum class Carrier : std::uint8_t { bf16, e4m3 };

/// `ieee`: per output element one FP32 fma chain in ascending k, from +0; then the tensor scales, one multiply by their
/// FP32 product; then the output rounding. `hopper`: model of the H100 tensor core.
enum class Arithmetic : std::uint8_t { ieee, hopper };

/// How a tensor core's sums run over k (numerics/hopper_product.hpp). `promoted`: FP8 steps end every 128 of k in an
/// FP32 sum; `fast`: one chain; BF16 steps are one chain under both. `fp32_chain`: no tensor core, the fma chain of
/// `ieee`, whatever the arithmetic of the run (router logits).
enum class Accumulate : std::uint8_t { promoted, fast, fp32_chain };

/// Which weight the residual of A's outlier split is multiplied with, to be added to the product before its rounding.
enum class Compensate : std::uint8_t { none, quantized, original };

struct GemmSpec {
  OperandSpec a{};
  OperandSpec b{};
  Carrier carrier = Carrier::bf16;
  Accumulate accumulate = Accumulate::promoted;
  Compensate compensate = Compensate::none;  ///< of fprop

  friend constexpr bool operator==(const GemmSpec&, const GemmSpec&) = default;
};

/// The three products of one linear layer.
struct LinearSpec {
  GemmSpec gemm[kGemmCount]{};
  SavedSpec saved{};

  friend constexpr bool operator==(const LinearSpec&, const LinearSpec&) = default;
};

NG_HD constexpr const OperandSpec& operand_spec(const LinearSpec& linear, Operand operand, Gemm gemm) {
  const GemmSpec& spec = linear.gemm[static_cast<int>(gemm)];
  return operand == operand_a(gemm) ? spec.a : spec.b;
}

}  // namespace ng
