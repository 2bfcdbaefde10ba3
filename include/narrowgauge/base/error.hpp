// SPDX-License-Identifier: Apache-2.0
//
// The ways a run can end badly, one exception type each, and the exit code of each. They are thrown where
// the problem is found, carry one complete message, and reach main once. A broken promise inside the
// program is a LogicError, thrown by the macros of check.hpp.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>

namespace ng {

/// Exit codes of the program; part of its interface.
inline constexpr int kExitDone = 0;
inline constexpr int kExitDifference = 1;
inline constexpr int kExitUser = 2;
inline constexpr int kExitMachine = 3;
inline constexpr int kExitDiverged = 4;
inline constexpr int kExitInterrupted = 130;

/// The user's input is wrong. The message names file, line or dataset, what is wrong, and what is valid.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The machine failed: memory, disk, GPU. The message names the resource.
class MachineError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The run's loss or gradients are no longer usable.
class DivergedError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A signal asked the program to stop; whatever had to be saved has been saved.
class InterruptedError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A promise of the program to itself is broken: a defect in narrowgauge.
class LogicError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// The program's exit code for an exception that reached main: 2 user, 3 machine (also memory, failed
/// system calls and everything unforeseen), 4 diverged, 130 interrupted.
[[nodiscard]] int exit_code_of(const std::exception& error) noexcept;

/// The one message to print for an exception that reached main. Errors of the user and of the machine
/// speak for themselves; a LogicError is introduced as a defect, with the request to report it.
[[nodiscard]] std::string message_of(const std::exception& error);

}  // namespace ng
