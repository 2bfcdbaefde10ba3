// SPDX-License-Identifier: Apache-2.0
//
// Ctrl-C and SIGTERM as a question that long work asks between steps, so that it can save and close its files first.
#pragma once

namespace ng {

/// From here on SIGINT and SIGTERM only set a flag. A second one of either kind ends the process at once, as if this had
/// never been called. SIGPIPE is ignored: a closed pipe shows as a failed write.
void install_interrupt_handlers();

/// Whether a signal has arrived. Async-signal-safe, cheap.
[[nodiscard]] bool interrupt_requested() noexcept;

/// Throws InterruptedError, "interrupted by SIGINT while <what>", if a signal has arrived.
void throw_if_interrupted(const char* what);

}  // namespace ng
