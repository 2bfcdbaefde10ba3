// SPDX-License-Identifier: Apache-2.0
//
// Row forms at memory speed: Hadamard transform, amax, scale and codes from one read, 16-byte accesses, sixteen
// elements a thread. Serves the tiles and rules that training uses; everything else stays with the other kernels.
// Byte-equal to the plain ones (tests/parity).
#pragma once

#include "narrowgauge/tensor/dtype.hpp"
#include "plain/quantize_job.hpp"

struct CUstream_st;

namespace ng::cuda::fast {

/// Whether the fast kernels know what a spec does to an element before its scale, and its rounding: no transform and
/// nearest even; from BF16 also a Hadamard transform of 16 with a butterfly and BF16 result, and for E2M1 eight random
/// bits.
[[nodiscard]] bool serves_front(const QuantizerSpec& spec, Dtype source);

/// Whether quantize_rows serves this job: a row form of a contiguous, 16-byte aligned tensor whose rows are whole
/// tiles, saturating, and a spec of served_specs.hpp with such a front.
[[nodiscard]] bool serves(const QuantizeJob& job, Dtype source);

/// job.codes and job.scales from the source (and, for two-level formats, job.tensor) in one pass.
void quantize_rows(const QuantizeJob& job, Dtype source, CUstream_st* stream);

/// Whether tensor_amax serves this job: one group, contiguous, 16-byte aligned, a transform along rows of whole groups
/// of 16 or none.
[[nodiscard]] bool serves_tensor_amax(const QuantizeJob& job, Dtype source);

/// job.group_amax[0], which is zero at the start, from the source.
void tensor_amax(const QuantizeJob& job, Dtype source, CUstream_st* stream);

}  // namespace ng::cuda::fast
