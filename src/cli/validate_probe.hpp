// SPDX-License-Identifier: Apache-2.0
//
// `validate --probe`: operands that tell accumulators apart, and the fit of a GEMM's answer to them.
#pragma once

#include "command.hpp"

namespace ng::cli {

/// The options of --probe, to be added to validate's.
[[nodiscard]] std::vector<Option> probe_options();
[[nodiscard]] int run_probe(const Arguments& arguments);

}  // namespace ng::cli
