// SPDX-License-Identifier: Apache-2.0
//
// Hopper's FP8 conversion instructions as things under test. All 2^32 FP32 inputs of `cvt` go through tests/parity;
// here are the other two directions, whose input spaces are small.
#pragma once

#include <cstdint>
#include <vector>

#include "narrowgauge/numerics/format_catalog.hpp"

namespace ng::cuda {

/// FP16 bits of all 256 codes of `format` (e4m3 or e5m2), by cvt.rn.f16x2.
[[nodiscard]] std::vector<std::uint32_t> hardware_decodes(FormatId format);

/// Codes of all 65536 FP16 numbers, by cvt.rn.satfinite from f16x2.
[[nodiscard]] std::vector<std::uint32_t> hardware_encodes_fp16(FormatId format);

}  // namespace ng::cuda
