// SPDX-License-Identifier: Apache-2.0
//
// Exit codes and messages of the exceptions that reach main.
#include "narrowgauge/base/error.hpp"

#include <new>
#include <system_error>

namespace ng {

int exit_code_of(const std::exception& error) noexcept {
  if (dynamic_cast<const UserError*>(&error) != nullptr) return kExitUser;
  if (dynamic_cast<const DivergedError*>(&error) != nullptr) return kExitDiverged;
  if (dynamic_cast<const InterruptedError*>(&error) != nullptr) return kExitInterrupted;
  return kExitMachine;
}

std::string message_of(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "out of memory";
  if (dynamic_cast<const UserError*>(&error) != nullptr || dynamic_cast<const MachineError*>(&error) != nullptr ||
      dynamic_cast<const DivergedError*>(&error) != nullptr ||
      dynamic_cast<const InterruptedError*>(&error) != nullptr ||
      dynamic_cast<const std::system_error*>(&error) != nullptr) {
    return error.what();
  }
  return std::string("defect in narrowgauge, please report it with the command that led here: ") + error.what();
}

}  // namespace ng
