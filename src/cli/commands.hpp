// SPDX-License-Identifier: Apache-2.0
//
// The commands, one file each.
#pragma once

#include "command.hpp"

namespace ng::cli {

Command train_command();
Command study_command();
Command compare_command();
Command inspect_command();
Command capture_command();
Command export_command();
Command quantize_command();
Command transpose_command();
Command recode_command();
Command matmul_command();
Command validate_command();
Command vectors_command();
Command bench_command();
Command formats_command();
Command recipes_command();
Command models_command();
Command devices_command();

}  // namespace ng::cli
