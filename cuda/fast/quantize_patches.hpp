// SPDX-License-Identifier: Apache-2.0
//
// Any quantizer at some speed: patches of a tensor through shared memory, each read once, for every format, rule,
// rounding and tile that fits a patch or is as long as the tensor; square tiles; ragged sizes, any alignment, row
// groups that begin anywhere; one form or both from one read. Byte-equal to the plain kernels (tests/parity), and run
// on the host by the same text.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "fast/patch_job.hpp"
#include "narrowgauge/tensor/dtype.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::fast {

/// A launch, and what its bands have to point at in device memory.
struct PatchCut {
  PatchJob job;
  std::vector<PatchBand> bands;
};

/// How one form (the other nullptr), or both, of a tensor are cut into patches; nothing where that cannot be:
/// transforms other than a butterfly of 16, tiles that are neither small (up to 128 rows, 16384 elements) nor the whole
/// extent. `extents`: of the groups, host memory. A form's tile scales are found on the way, or, where
/// `form.scales_known` comes out set, must be in job.tiles and job.scales before.
[[nodiscard]] std::optional<PatchCut> cut_into_patches(const QuantizeJob* row, const QuantizeJob* column, Dtype source,
                                                       std::span<const GroupExtent> extents);

/// Bytes to allocate for codes so that their last word can be written as one.
[[nodiscard]] constexpr std::size_t patch_code_bytes(std::size_t bytes) {
  return (bytes + 3) / 4 * 4;
}

/// Runs a launch's goal on all patches; asynchronous on `stream`. The jobs' pointers are filled in by now. Where
/// `shared_words` is set, codes are zero at the start; amaxes and job.nan_inputs are always.
void quantize_patches(const PatchJob& job, Dtype source, Stream stream);

}  // namespace ng::cuda::fast
