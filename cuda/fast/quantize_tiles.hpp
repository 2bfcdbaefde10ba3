// SPDX-License-Identifier: Apache-2.0
//
// Row form, column form, or both from one read of the tensor, with a Hadamard transform in front and stochastic
// rounding where asked: blocks of 128 x 128 elements that pass through shared memory. Serves the tiles and rules that
// training uses; everything else stays with the plain kernels. Byte-equal to them (tests/parity).
#pragma once

#include <span>

#include "narrowgauge/tensor/dtype.hpp"
#include "plain/quantize_job.hpp"

struct CUstream_st;

namespace ng::cuda::fast {

/// Whether quantize_tiles serves this job: a 16-byte aligned tensor of multiples of 32 rows and columns, groups
/// (`extents`, host memory) that begin and end at multiples of 32 and of a column form's tile, a Hadamard transform of
/// 16 with a butterfly and BF16 result or none, nearest even or eight random bits, saturating, and a spec of
/// served_specs.hpp.
[[nodiscard]] bool tiles_serve(const QuantizeJob& job, Dtype source, std::span<const GroupExtent> extents);

/// Whether two jobs, one of each orientation on the same tensor, can share a read: both served, the same spec but for
/// the transform.
[[nodiscard]] bool tiles_serve_together(const QuantizeJob& row, const QuantizeJob& column);

/// job.codes and job.scales of one or both forms (nullptr: not wanted) in one pass.
void quantize_tiles(const QuantizeJob* row, const QuantizeJob* column, Dtype source, CUstream_st* stream);

/// group_amax of each two-level form, zero at the start, in one pass. Serves what tiles_serve does.
void tiles_amax(const QuantizeJob* row, const QuantizeJob* column, Dtype source, CUstream_st* stream);

}  // namespace ng::cuda::fast
