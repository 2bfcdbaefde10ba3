// SPDX-License-Identifier: Apache-2.0
//
// A program of ours as a child process: output into a file, a process group of its own, not outliving us.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace ng {

enum class LogMode { fresh, append };

class ChildProcess {
 public:
  /// Starts `program` (searched in PATH when it has no slash); stdout and stderr go to `log`. It gets SIGTERM when this
  /// process dies. MachineError when no process can be made; UserError or MachineError when the log cannot be written.
  /// A program that cannot be executed ends with exit code 127 and says why in the log.
  ChildProcess(const std::filesystem::path& program, const std::vector<std::string>& arguments,
               const std::filesystem::path& log, LogMode mode);

  /// How it ended: exit code, or 128 + signal. Nothing while it runs.
  [[nodiscard]] std::optional<int> poll();
  /// Blocks until it has ended.
  [[nodiscard]] int wait();
  /// Sends a signal if it still runs.
  void send(int signal) const;

 private:
  pid_t pid_ = -1;
  std::optional<int> result_;
};

}  // namespace ng
