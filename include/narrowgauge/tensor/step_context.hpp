// SPDX-License-Identifier: Apache-2.0
//
// When an operation happens. Goes to every operation: random draws, taps and states depend on it and on nothing global.
#pragma once

#include <cstdint>

namespace ng {

/// `probe`: the forward pass on a fixed batch, for a tap; otherwise like `eval`.
enum class Phase : std::uint8_t { train, eval, recompute, probe };

struct StepContext {
  std::uint32_t seed = 0;
  std::int64_t step = 0;
  std::int32_t micro_batch = 0;
  Phase phase = Phase::train;
};

}  // namespace ng
