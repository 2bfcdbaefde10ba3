// SPDX-License-Identifier: Apache-2.0
//
// Which program this is, as recorded in every run file.
#pragma once

#include <string_view>

namespace ng {

/// "0.1.0"
[[nodiscard]] std::string_view program_version();

/// Full git revision, with "-dirty" when tracked files differed from it; "unknown" outside a clone.
[[nodiscard]] std::string_view git_revision();

/// SHA-256 over the paths and contents of what decides a run's numbers: the headers of numerics and quantize, the CPU
/// backend and cuda/. Part of a run's identity.
[[nodiscard]] std::string_view source_digest();

}  // namespace ng
