// SPDX-License-Identifier: Apache-2.0
//
// Running the real program: arguments in; exit code, stdout and stderr out.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace ng::test {

struct Outcome {
  int code = -1;    ///< exit code; 128 + signal when a signal ended it
  std::string out;  ///< stdout
  std::string err;  ///< stderr
};

struct ProcessOptions {
  std::filesystem::path folder;         ///< working directory; empty: the source tree
  std::string stdout_file;              ///< stdout goes there instead of into Outcome::out
  std::optional<long> file_size_limit;  ///< RLIMIT_FSIZE in bytes: a disk that is full
  bool as_nobody = false;               ///< when root: as the user `nobody`, whom permissions bind
  int timeout_seconds = 120;
};

/// A program that has been started. Ends it when destroyed.
class Process {
 public:
  /// Throws std::runtime_error when it cannot be started.
  Process(const std::vector<std::string>& words, const ProcessOptions& options = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal) const;
  /// Reads until stderr contains `text`; false when the program ended or time ran out before.
  bool wait_for_stderr(const std::string& text, int timeout_seconds = 60);
  /// Reads both streams to their end and waits. Kills the program when time runs out.
  Outcome finish();
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  bool read_some(int timeout_milliseconds);

  ProcessOptions options_;
  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
  Outcome outcome_;
};

/// Runs `narrowgauge words...` to its end.
Outcome narrowgauge(const std::vector<std::string>& words, const ProcessOptions& options = {});

/// A folder of its own under the system's temporary one, removed when destroyed.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }
  /// Writes a text file and returns its path.
  std::string write(const std::string& name, const std::string& text) const;
  /// Names of what lies in it, sorted.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  std::filesystem::path path_;
};

}  // namespace ng::test
