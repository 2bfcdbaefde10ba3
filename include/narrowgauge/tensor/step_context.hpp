// SPDX-License-Identifier: Apache-2.0
//
// When an operation happens. Goes to every operation: random draws, taps and states depend on it and on nothing global.
#pragma once

#include <cstdint>

namespace ng {

enum class Phase : std::uint8_t { train, eval, recompute };

struct StepContext {
  std::uint32_t seed = 0;
  std::int64_t step = 0;
  std::int32_t micro_batch = 0;
  Phase phase = Phase::train;
};

}  // namespace ng
