// SPDX-License-Identifier: Apache-2.0
//
// Row forms at memory speed: amax, scale and codes from one read, 16-byte accesses, sixteen elements a thread. Serves
// the tiles and rules that training uses; everything else stays with the plain kernels. Byte-equal to them
// (tests/parity).
#pragma once

#include "narrowgauge/tensor/dtype.hpp"
#include "plain/quantize_job.hpp"

struct CUstream_st;

namespace ng::cuda::fast {

/// Whether quantize_rows serves this job: a row form of a contiguous, 16-byte aligned tensor whose rows are whole
/// tiles, no Hadamard, nearest even, saturating, and one of the specs in quantize_rows.cu.
[[nodiscard]] bool serves(const QuantizeJob& job, Dtype source);

/// job.codes and job.scales from the source (and, for two-level formats, job.tensor) in one pass.
void quantize_rows(const QuantizeJob& job, Dtype source, CUstream_st* stream);

/// Whether tensor_amax serves this job: one group, contiguous, 16-byte aligned.
[[nodiscard]] bool serves_tensor_amax(const QuantizeJob& job);

/// job.group_amax[0], which is zero at the start, from the source.
void tensor_amax(const QuantizeJob& job, Dtype source, CUstream_st* stream);

}  // namespace ng::cuda::fast
