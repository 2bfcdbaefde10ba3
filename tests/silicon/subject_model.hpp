// SPDX-License-Identifier: Apache-2.0
//
// What the accumulator catalogue says that a tensor-core instruction of the H100 answers.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "subjects/instruction_products.hpp"

namespace ng_silicon {

/// Value of an operand's code; TF32 codes are FP32 bits whose low 13 bits the instruction does not read.
float operand_value(ng::FormatId format, std::uint32_t code);

/// Number of an accumulator's bits and back.
float accumulator_value(ng::StepResult result, std::uint32_t bits);
std::uint32_t accumulator_bits(ng::StepResult result, float value);

/// Row of the catalogue with the k of this instruction.
ng::AccumulatorSpec accumulator_of(const ng::cuda::Instruction& instruction);

/// One element: a and b are codes along k.
std::uint32_t model_answer(const ng::cuda::Instruction& instruction, std::span<const std::uint32_t> a,
                           std::span<const std::uint32_t> b, std::uint32_t c);

/// Operands laid out as run_instruction takes them, and its answer by the model; on all cores.
std::vector<std::uint32_t> model_answers(const ng::cuda::Instruction& instruction, std::int64_t tiles, int chain,
                                         std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                                         std::span<const std::uint32_t> c);

std::uint32_t code_at(std::span<const std::uint8_t> bytes, std::size_t index, int size);
void put_code(std::span<std::uint8_t> bytes, std::size_t index, int size, std::uint32_t code);

/// work(0) ... work(count - 1), on all cores.
void in_parallel(std::int64_t count, const std::function<void(std::int64_t)>& work);

}  // namespace ng_silicon
