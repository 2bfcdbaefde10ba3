// SPDX-License-Identifier: Apache-2.0
//
// Random operands: five value distributions and raw bits, a pure function of (seed, row).
#pragma once

#include <cstdint>
#include <span>

#include "narrowgauge/numerics/accumulator.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"

namespace ng_silicon {

/// `normal`: N(0, 1). `narrow`: three binades around 1. `wide`: codes of all exponents whose products the result can
/// hold. `cancelling`: products come in pairs of opposite sign, three of four equal. `extremes`: by row, products at
/// the upper or the lower end of the result's range, or codes from both ends of the operand's. `raw_bits`: every code
/// alike; one row in four may hold NaN and infinities.
enum class Distribution : std::uint8_t { normal, narrow, wide, cancelling, extremes, raw_bits };
constexpr int kDistributions = 6;
const char* name_of(Distribution distribution);

enum class Side : std::uint8_t { a, b };

/// Row number `row` of an operand into `codes` (one per k; TF32: FP32 bits with 10 mantissa bits).
void fill_row(Distribution distribution, ng::FormatId format, ng::StepResult result, Side side, std::uint64_t seed,
              std::uint64_t row, std::span<std::uint32_t> codes);

/// Accumulators that chains start from: +0, values near the products' and far from them; raw_bits: any bits.
void fill_accumulators(Distribution distribution, ng::StepResult result, std::uint64_t seed, std::uint64_t row,
                       std::span<std::uint32_t> bits);

/// Positive scales: powers around 1; raw_bits: any finite positive number.
void fill_scales(Distribution distribution, std::uint64_t seed, std::span<float> scales);

}  // namespace ng_silicon
