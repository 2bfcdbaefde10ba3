// SPDX-License-Identifier: Apache-2.0
//
// The gradient estimator at memory speed: factors from the table of quantize/estimator_table.hpp, four elements an
// access; scales of rows and of short tiles are found on the way. Byte-equal to the plain kernel (tests/parity).
#pragma once

#include "plain/estimator.hpp"

namespace ng::cuda::fast {

/// Whether multiply_by_estimator serves this job: 16-byte aligned rows of multiples of four elements, tiles whose width
/// is one of them or the row, and a format and estimator with a table.
[[nodiscard]] bool estimator_serves(const EstimatorJob& job);

/// Whether it then finds the scales itself (one-level scales of rows, or of tiles of 1 x 16, 32, 64 or 128):
/// job.weight.tiles is not read.
[[nodiscard]] bool estimator_finds_scales(const EstimatorJob& job);

void multiply_by_estimator(const EstimatorJob& job, CUstream_st* stream);

}  // namespace ng::cuda::fast
