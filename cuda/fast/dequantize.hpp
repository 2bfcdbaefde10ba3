// SPDX-License-Identifier: Apache-2.0
//
// Decoding at the speed of memory: any format, any tile, row groups, both orientations, to FP32 or BF16. Byte-equal to
// the plain kernel (tests/parity), and run on the host by the same text.
#pragma once

#include "narrowgauge/tensor/dtype.hpp"
#include "plain/quantize_job.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::fast {

/// Whether dequantize serves this job: less than 2^30 rows and columns, and not too many of both.
[[nodiscard]] bool serves_dequantize(const DequantizeJob& job);

/// As plain::dequantize.
void dequantize(const DequantizeJob& job, Dtype target, Stream stream);

}  // namespace ng::cuda::fast
