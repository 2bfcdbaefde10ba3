// SPDX-License-Identifier: Apache-2.0
//
// Results to stdout, messages to stderr. Writing never throws: what stdout could not take is remembered, and the
// program's exit code tells.
#pragma once

#include <string_view>

namespace ng::cli {

void write_stdout(std::string_view text);
void write_stderr(std::string_view text);

/// Flushes stdout. errno of the first write that failed, 0 when all is written.
[[nodiscard]] int flush_stdout();

}  // namespace ng::cli
