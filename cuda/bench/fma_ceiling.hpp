// SPDX-License-Identifier: Apache-2.0
//
// The rate of FP32 fused multiply-adds, a ceiling of `bench kernel`.
#pragma once

#include <cstdint>

#include "runtime/stream.hpp"

namespace ng::cuda {

/// Chains of multiply-adds in `threads` threads, whose ends go to out[threads]; asynchronous on `stream`.
void fma_ceiling(std::int64_t threads, float* out, Stream stream);
/// How many operations that is; a multiply-add counts two.
[[nodiscard]] double fma_ceiling_operations(std::int64_t threads);

}  // namespace ng::cuda
