// SPDX-License-Identifier: Apache-2.0
//
// Looking before leaping: the HDF5 library does not recover from a write that fails for want of space, not even for the
// sake of its other files, so that a disk known to be too full is refused before the library meets it.
#pragma once

#include <cstdint>
#include <filesystem>

namespace ng {

/// MachineError "... No space left on device ..." if the file system of `path` has less than `bytes` left for this
/// user. Quotas and size limits are not seen.
void require_free_space(const std::filesystem::path& path, std::int64_t bytes);

}  // namespace ng
