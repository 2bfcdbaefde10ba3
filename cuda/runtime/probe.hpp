// SPDX-License-Identifier: Apache-2.0
//
// Whether this program's device code fits the current device.
#pragma once

namespace ng::cuda {

/// A cudaError_t: success when an empty kernel of this program can be loaded.
[[nodiscard]] int probe_kernel_image();

}  // namespace ng::cuda
