// SPDX-License-Identifier: Apache-2.0
//
// `bench kernel --backend cpu`: the CPU's quantizers against its own copy.
#pragma once

#include "narrowgauge/backend/kernel_bench.hpp"

namespace ng::cli {

/// Row and column forms of every preset and their decoding, with `threads` threads.
[[nodiscard]] KernelBenchReport bench_cpu_kernels(const KernelBenchOptions& options, int threads,
                                                  const KernelProgress& progress);

}  // namespace ng::cli
