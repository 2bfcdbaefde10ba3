// SPDX-License-Identifier: Apache-2.0
//
// Fast kernels of measurements: the error sums of a form from one read of the original, its codes and its scales;
// counts of codes and statistics of scales by shared memory. Bytes are those of the plain kernels. Asynchronous on
// `stream`.
#pragma once

#include "plain/measure_job.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::fast {

/// Codes of 4 or 8 bits in memory, aligned rows of a multiple of 32 columns, tiles of whole multiples of 16 along them;
/// both orientations. job.partials may still be empty.
[[nodiscard]] bool serves_measure_errors(const MeasureJob& job);
/// Nodes of job.partials a row: the level of the tree that the kernel writes.
[[nodiscard]] std::int64_t measure_error_nodes(const MeasureJob& job);
/// As plain::measure_errors, but for the level.
void measure_errors(const MeasureJob& job, Stream stream);

/// Codes of at most 12 bits.
[[nodiscard]] bool serves_count_codes(const CountJob& job);
void count_codes(const CountJob& job, Stream stream);

/// Whether there are any: for FP32 scales all are served.
[[nodiscard]] bool serves_measure_scales();
void measure_scales(const ScaleJob& job, Stream stream);

}  // namespace ng::cuda::fast
