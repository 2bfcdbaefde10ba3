// SPDX-License-Identifier: Apache-2.0
//
// Results to stdout, messages to stderr. Writing never throws: what stdout could not take is remembered, and the
// program's exit code tells. Files in the making go when something fails.
#pragma once

#include <filesystem>
#include <string_view>

namespace ng::cli {

void write_stdout(std::string_view text);
void write_stderr(std::string_view text);

/// Flushes stdout. errno of the first write that failed, 0 when all is written.
[[nodiscard]] int flush_stdout();

/// Removes an unfinished file unless told that it is whole.
class UnfinishedFile {
 public:
  explicit UnfinishedFile(std::filesystem::path path);
  ~UnfinishedFile();
  UnfinishedFile(const UnfinishedFile&) = delete;
  UnfinishedFile& operator=(const UnfinishedFile&) = delete;
  void done() { done_ = true; }

 private:
  std::filesystem::path path_;
  bool done_ = false;
};

}  // namespace ng::cli
