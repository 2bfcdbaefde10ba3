// SPDX-License-Identifier: Apache-2.0
//
// Which accumulator a tensor core has: one row per chip, instruction family, operand types and result type. Parameters
// from MMA-Sim (arXiv 2511.10909) and from fits to published silicon vectors; data/golden holds the vectors that each
// row marked `silicon` reproduces bit for bit. Rows marked `model_only` rest on a software model, not on measurement.
//
// zero_exponent acts only where all terms that are not zero are tinier than it: measured for `hopper` alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "narrowgauge/numerics/accumulator.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"

namespace ng {

enum class Chip : std::uint8_t { volta, turing, ampere, ada, hopper, blackwell };

/// The instructions that reach the unit; on one chip they can differ in arithmetic.
enum class InstructionFamily : std::uint8_t { mma, wgmma, tcgen05 };

/// Operand types of a product. `fp8`: E4M3 and E5M2 in any mix; `fp8_fp6_fp4`: any of the five narrow floats in any
/// mix. MX types have E8M0 scales per 32 values of k, NVFP4 E4M3 scales per 16.
enum class OperandTypes : std::uint8_t { fp16, bf16, tf32, fp8, fp8_fp6_fp4, mxfp8_fp6_fp4, mxfp4, nvfp4 };

enum class Evidence : std::uint8_t { silicon, model_only };

struct AccumulatorRow {
  const char* arithmetic;  ///< the name that users give: several rows share one, by types and result
  Chip chip;
  InstructionFamily instructions;
  OperandTypes types;
  Evidence evidence;
  AccumulatorSpec spec;
};

namespace accumulator_rows {

constexpr auto kF32 = StepResult::fp32_toward_zero;
constexpr auto kF16 = StepResult::fp16_nearest_even;
constexpr auto kSilicon = Evidence::silicon;
constexpr auto kModel = Evidence::model_only;
constexpr auto kMma = InstructionFamily::mma;
constexpr auto kWgmma = InstructionFamily::wgmma;
constexpr auto kTcgen05 = InstructionFamily::tcgen05;
using T = OperandTypes;

/// {L, k per instruction, F, P, result, scales, order, zero exponent}
constexpr AccumulatorSpec plain(int terms, int k, int fraction, int precision, StepResult result, int zero) {
  return {static_cast<std::int16_t>(terms),
          static_cast<std::int16_t>(k),
          static_cast<std::int8_t>(fraction),
          static_cast<std::int8_t>(precision),
          result,
          StepScales::none,
          StepOrder::consecutive,
          static_cast<std::int16_t>(zero)};
}
constexpr AccumulatorSpec scaled(AccumulatorSpec spec, StepScales scales) {
  spec.scales = scales;
  return spec;
}
constexpr AccumulatorSpec in_pairs(AccumulatorSpec spec) {
  spec.order = StepOrder::low_then_high_pairs;
  return spec;
}

constexpr AccumulatorRow kAll[] = {
    {"volta", Chip::volta, kMma, T::fp16, kSilicon, plain(4, 4, 23, 24, kF32, -131)},
    {"volta", Chip::volta, kMma, T::fp16, kSilicon, plain(4, 4, 23, 11, kF16, -20)},
    {"turing", Chip::turing, kMma, T::fp16, kModel, plain(8, 8, 24, 24, kF32, -132)},
    {"turing", Chip::turing, kMma, T::fp16, kModel, plain(8, 8, 24, 11, kF16, -21)},
    {"ampere", Chip::ampere, kMma, T::fp16, kSilicon, plain(8, 16, 24, 24, kF32, -132)},
    {"ampere", Chip::ampere, kMma, T::fp16, kSilicon, plain(8, 16, 24, 11, kF16, -21)},
    {"ampere", Chip::ampere, kMma, T::bf16, kSilicon, plain(8, 16, 24, 24, kF32, -132)},
    {"ampere", Chip::ampere, kMma, T::tf32, kSilicon, plain(4, 8, 24, 24, kF32, -132)},
    {"ada", Chip::ada, kMma, T::fp16, kSilicon, plain(8, 16, 24, 24, kF32, -132)},
    {"ada", Chip::ada, kMma, T::fp16, kSilicon, plain(8, 16, 24, 11, kF16, -21)},
    {"ada", Chip::ada, kMma, T::bf16, kSilicon, plain(8, 16, 24, 24, kF32, -132)},
    {"ada", Chip::ada, kMma, T::tf32, kSilicon, plain(4, 8, 24, 24, kF32, -132)},
    {"ada", Chip::ada, kMma, T::fp8, kSilicon, plain(16, 32, 13, 14, kF32, -132)},
    {"ada", Chip::ada, kMma, T::fp8, kSilicon, plain(16, 32, 13, 11, kF16, -21)},
    {"hopper", Chip::hopper, kWgmma, T::fp16, kSilicon, plain(16, 16, 25, 24, kF32, -133)},
    {"hopper", Chip::hopper, kWgmma, T::fp16, kSilicon, plain(16, 16, 25, 11, kF16, -21)},
    {"hopper", Chip::hopper, kWgmma, T::bf16, kSilicon, plain(16, 16, 25, 24, kF32, -133)},
    {"hopper", Chip::hopper, kWgmma, T::tf32, kSilicon, plain(8, 8, 25, 24, kF32, -133)},
    {"hopper", Chip::hopper, kWgmma, T::fp8, kSilicon, plain(32, 32, 13, 14, kF32, -133)},
    {"hopper", Chip::hopper, kWgmma, T::fp8, kSilicon, plain(32, 32, 13, 11, kF16, -21)},
    {"hopper_mma_fp8", Chip::hopper, kMma, T::fp8, kSilicon, in_pairs(plain(16, 32, 25, 24, kF32, -133))},
    {"hopper_mma_fp8", Chip::hopper, kMma, T::fp8, kSilicon, in_pairs(plain(16, 32, 25, 11, kF16, -22))},
    {"blackwell", Chip::blackwell, kTcgen05, T::fp16, kSilicon, plain(16, 16, 25, 24, kF32, -133)},
    {"blackwell", Chip::blackwell, kTcgen05, T::fp16, kSilicon, plain(16, 16, 25, 11, kF16, -133)},
    {"blackwell", Chip::blackwell, kTcgen05, T::bf16, kSilicon, plain(16, 16, 25, 24, kF32, -133)},
    {"blackwell", Chip::blackwell, kTcgen05, T::tf32, kSilicon, plain(8, 8, 25, 24, kF32, -133)},
    {"blackwell", Chip::blackwell, kTcgen05, T::fp8_fp6_fp4, kModel, plain(32, 32, 25, 24, kF32, -133)},
    {"blackwell", Chip::blackwell, kTcgen05, T::fp8_fp6_fp4, kModel, plain(32, 32, 25, 11, kF16, -133)},
    {"blackwell", Chip::blackwell, kTcgen05, T::mxfp8_fp6_fp4, kModel,
     scaled(plain(32, 32, 25, 24, kF32, -133), StepScales::step)},
    {"blackwell", Chip::blackwell, kTcgen05, T::mxfp4, kModel,
     scaled(plain(64, 64, 35, 24, kF32, -139), StepScales::groups)},
    {"blackwell", Chip::blackwell, kTcgen05, T::nvfp4, kModel,
     scaled(plain(64, 64, 35, 24, kF32, -139), StepScales::groups)},
};

}  // namespace accumulator_rows

constexpr std::size_t kAccumulatorRows = sizeof(accumulator_rows::kAll) / sizeof(AccumulatorRow);
constexpr const AccumulatorRow (&accumulator_catalog())[kAccumulatorRows] {
  return accumulator_rows::kAll;
}

/// Block scales that come with the operands: none, E8M0 per 32 values of k, or E4M3 per 16.
enum class OperandScales : std::uint8_t { none, e8m0_per_32, e4m3_per_16 };

constexpr bool is_narrow_float(FormatId id) {
  return id == FormatId::e2m1 || id == FormatId::e2m3 || id == FormatId::e3m2 || id == FormatId::e4m3 ||
         id == FormatId::e5m2;
}

/// Whether operands of these formats and scales are of these types.
constexpr bool is_of_types(OperandTypes types, FormatId a, FormatId b, OperandScales scales) {
  const bool fp8 = (a == FormatId::e4m3 || a == FormatId::e5m2) && (b == FormatId::e4m3 || b == FormatId::e5m2);
  const bool fp4 = a == FormatId::e2m1 && b == FormatId::e2m1;
  const bool unscaled = scales == OperandScales::none;
  switch (types) {
    case OperandTypes::fp16:
      return unscaled && a == FormatId::fp16 && b == a;
    case OperandTypes::bf16:
      return unscaled && a == FormatId::bf16 && b == a;
    case OperandTypes::tf32:
      return unscaled && a == FormatId::tf32 && b == a;
    case OperandTypes::fp8:
      return unscaled && fp8;
    case OperandTypes::fp8_fp6_fp4:
      return unscaled && is_narrow_float(a) && is_narrow_float(b);
    case OperandTypes::mxfp8_fp6_fp4:
      return scales == OperandScales::e8m0_per_32 && is_narrow_float(a) && is_narrow_float(b) && !fp4;
    case OperandTypes::mxfp4:
      return scales == OperandScales::e8m0_per_32 && fp4;
    case OperandTypes::nvfp4:
      return scales == OperandScales::e4m3_per_16 && fp4;
  }
  return false;
}

/// The row of an arithmetic for these operands and result, or null where the chip has none.
constexpr const AccumulatorRow* find_accumulator(const char* arithmetic, FormatId a, FormatId b, StepResult result,
                                                 OperandScales scales = OperandScales::none) {
  for (const AccumulatorRow& row : accumulator_rows::kAll) {
    const char* x = row.arithmetic;
    const char* y = arithmetic;
    while (*x != '\0' && *x == *y) ++x, ++y;
    if (*x == *y && row.spec.result == result && is_of_types(row.types, a, b, scales)) return &row;
  }
  return nullptr;
}

}  // namespace ng
