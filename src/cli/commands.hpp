// SPDX-License-Identifier: Apache-2.0
//
// The commands, one file each.
#pragma once

#include "command.hpp"

namespace ng::cli {

Command formats_command();
Command recipes_command();
Command models_command();
Command devices_command();

}  // namespace ng::cli
