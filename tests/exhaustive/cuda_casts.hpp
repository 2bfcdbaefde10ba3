// SPDX-License-Identifier: Apache-2.0
//
// The conversions that the CUDA toolkit's headers do on the host, named in the program's choices. Without the toolkit
// the list is empty (cuda_casts_absent.cpp).
#pragma once

#include <cstdint>
#include <vector>

#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/rounding.hpp"

namespace ng_test {

struct CudaCast {
  const char* name;
  ng::FormatId format;
  ng::CastChoices choices;
  std::uint32_t (*encode)(float);
};

const std::vector<CudaCast>& cuda_casts();

/// Compares cast and program on the FP32 bit patterns [first, last]; stops after five differences. Returns their number.
std::uint64_t differences(const CudaCast& cast, std::uint32_t first, std::uint32_t last, std::uint32_t step = 1);

}  // namespace ng_test
