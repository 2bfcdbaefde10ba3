// SPDX-License-Identifier: Apache-2.0
//
// Hopper's tensor-core instructions as things under test: every `mma.sync` and `wgmma` that multiplies FP8, FP16, BF16
// or TF32, run on operands that the caller chooses. Nothing is computed here but by the instruction itself.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "narrowgauge/numerics/accumulator_catalog.hpp"

namespace ng::cuda {

/// One instruction: D[m, n] = A[m, k] B[n, k]^T + C[m, n].
struct Instruction {
  const char* name;  ///< "wgmma.m64n8k32.f32.e4m3.e4m3"
  InstructionFamily family;
  FormatId a, b;
  StepResult result;  ///< C and D are FP32 or FP16
  int m, n, k;
};

/// All of them; the number of an instruction in this list is its name for `run_instruction`.
[[nodiscard]] std::span<const Instruction> instructions();

/// Bytes of one operand code in memory: 1 for FP8, 2 for 16-bit formats, 4 for TF32 (FP32 bits).
[[nodiscard]] constexpr int operand_bytes(FormatId format) {
  return format == FormatId::tf32 ? 4 : format == FormatId::bf16 || format == FormatId::fp16 ? 2 : 1;
}

/// `tiles` independent products, each a chain of `chain` instructions over ascending k whose accumulator stays in
/// registers: a [tiles][m][chain * k] and b [tiles][n][chain * k] as codes of operand_bytes, little endian; c
/// [tiles][m][n] as bits of FP32 or FP16. Returns D like c. MachineError where the GPU fails.
[[nodiscard]] std::vector<std::uint32_t> run_instruction(std::size_t number, std::int64_t tiles, int chain,
                                                         std::span<const std::uint8_t> a,
                                                         std::span<const std::uint8_t> b,
                                                         std::span<const std::uint32_t> c);

}  // namespace ng::cuda
