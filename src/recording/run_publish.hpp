// SPDX-License-Identifier: Apache-2.0
//
// How a run file gets its name, and who may write it.
#pragma once

#include <string>

namespace ng {

/// "... exists already; continue it with --resume ...".
[[noreturn]] void refuse_existing(const std::string& path);

/// Syncs `from` and renames it to `to` without replacing: of two writers that began at once only one gets the name, the
/// other a UserError.
void publish_new(const std::string& from, const std::string& to);

/// Holds off other writers of a file while it is being replaced by its continuation. UserError when one has it open.
class WriterLock {
 public:
  explicit WriterLock(const std::string& path);
  ~WriterLock();
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  int fd_;
};

}  // namespace ng
